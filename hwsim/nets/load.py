"""One way to name a network: one of the zoo, or a model file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hwsim.core.errors import InputError, SpecError
from hwsim.core.network import Network
from hwsim.core.policy import Policy
from hwsim.core.tensors import Tensors
from hwsim.nets.registry import find_network, find_policy

MODEL_SUFFIXES = (".onnx", ".tflite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A network and, where its file holds them, its tensors; the number formats that a network of the zoo comes with."""

    network: Network
    tensors: Tensors | None = None
    policy: Policy | None = None


def load_network(spec: str | os.PathLike[str], batch: int = 1) -> Loaded:
    """Return a network by the name of the zoo or by the path of an ``.onnx`` or ``.tflite`` file.

    Raises
    ------
    UnknownName
        No network has that name (with the nearest ones).
    InputError
        The file is absent, of another kind, or cannot be imported.
    SpecError
        The batch size is not a positive integer.
    MissingExtra
        Reading ``.tflite`` needs an extra that is not installed.
    """
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise SpecError("batch", batch, "a positive integer")
    text = os.fspath(spec)
    suffix = Path(text).suffix.lower()
    if suffix == ".onnx":
        from hwsim.nets.onnx_import import import_onnx

        imported = import_onnx(text, batch=batch)
        return Loaded(network=imported.network, tensors=imported.tensors)
    if suffix == ".tflite":
        from hwsim.nets.tflite_import import import_tflite

        imported = import_tflite(text)
        return Loaded(network=imported.network.with_batch(batch), tensors=imported.tensors)
    if os.sep in text and os.path.exists(text):
        raise InputError(text, [f"is no model file: expected one that ends in {' or '.join(MODEL_SUFFIXES)}"])
    network = find_network(text)
    return Loaded(network=network if batch == 1 else network.with_batch(batch), policy=find_policy(text))
