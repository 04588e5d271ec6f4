"""What a policy does to a network's answers: real weights in the policy's formats, run by the integer model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hwsim.core.arch import Arch
from hwsim.core.errors import SpecError
from hwsim.core.network import Network
from hwsim.core.policy import Policy
from hwsim.core.tensors import Array, Tensors
from hwsim.pipeline.tensors import find_quant, prepare_tensors
from hwsim.pipeline.workloads import list_workloads


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How far a network at a policy is from the float one.

    Parameters
    ----------
    layer_sqnr_db : tuple of (str, float)
        Output SQNR of each MAC layer on the float network's activations, with the weights that the datapath uses: what the layer's
        own weights lose.
    output_sqnr_db : float
        Of the network's first output, all layers in integers.
    answers : tuple of int
        Index of the largest output of each image, by the integer model.
    agreement : float
        Share of images on which the float network answers the same.
    accuracy : float or None
        Share of right answers; None without labels.
    """

    layer_sqnr_db: tuple[tuple[str, float], ...]
    output_sqnr_db: float
    answers: tuple[int, ...]
    agreement: float
    accuracy: float | None

    @property
    def mean_sqnr_db(self) -> float:
        """Mean over the layers that lose anything, dB; infinite where none does."""
        lost = [value for _, value in self.layer_sqnr_db if np.isfinite(value)]
        return float(np.mean(lost)) if lost else float("inf")


def measure_fidelity(
    network: Network,
    arch: Arch,
    policy: Policy,
    tensors: Tensors,
    images: Array | Mapping[str, Any],
    labels: npt.NDArray[np.integer[Any]] | None = None,
    calibration: Array | Mapping[str, Any] | None = None,
) -> Fidelity:
    """Quantize a float network as `prepare_tensors` does and run it in integers.

    Parameters
    ----------
    network : Network
        Its first output holds a score for each class.
    arch : Arch
        Its own codec and kind of requantization count.
    tensors : Tensors
        Float weights.
    images : ndarray or mapping
        Reals ``[N, C, H, W]``, by name where there are several inputs.
    labels : ndarray of int, optional
        Right answers ``[N]``.
    calibration : ndarray or mapping, optional
        What ranges of activations are measured on; by default the images themselves.

    Raises
    ------
    HwsimError
        A format that the architecture has not, tensors that are quantized already, another number of labels than of images.
    """
    from hwsim.engine.fidelity import measure_layer_sqnr_db
    from hwsim.engine.functional import run_float, run_integer
    from hwsim.engine.functional_float import real_weights
    from hwsim.quant.rows import measure_sqnr_db
    from hwsim.quant.uniform import dequantize_activation

    given = images if isinstance(images, Mapping) else {network.inputs[0].name: images}
    count = len(next(iter(given.values())))
    if labels is not None and np.shape(labels) != (count,):
        raise SpecError("labels.shape", np.shape(labels), f"({count},), a label for each image")
    ranged = given if calibration is None else calibration
    if not isinstance(ranged, Mapping):
        ranged = {network.inputs[0].name: ranged}
    loads = list_workloads(network, policy)
    for load in loads.values():
        if load.layer.kind == "mac":
            arch.check(load)
    prepared = prepare_tensors(network, arch, policy, loads, tensors, ranged).tensors
    used = {layer.name: np.asarray(real_weights(prepared.layers[layer.name])) for layer in network.mac_layers}
    by_layer = measure_layer_sqnr_db(network, tensors, used, dict(given))
    out = _find_scores(network)
    exact = run_float(network, tensors, dict(given), keep=(out,))[out]
    stored = run_integer(network, prepared, dict(given), keep=(out,))[out]
    found = stored if stored.dtype.kind == "f" else dequantize_activation(stored, find_quant(network, prepared, out))
    answers, wanted = (array.reshape(len(array), -1).argmax(axis=1) for array in (found, exact))
    return Fidelity(
        layer_sqnr_db=tuple(by_layer.items()),
        output_sqnr_db=measure_sqnr_db(exact, found),
        answers=tuple(int(answer) for answer in answers),
        agreement=float((answers == wanted).mean()),
        accuracy=None if labels is None else float((answers == np.asarray(labels)).mean()),
    )


def _find_scores(network: Network) -> str:
    """Return the network's first output, in front of a softmax: scores, not probabilities."""
    name = network.outputs[0]
    layer = network.layer(name)
    return layer.inputs[0] if layer.op == "softmax" else name
