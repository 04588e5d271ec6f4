"""Quantune: a space of post-training quantization settings, and what of it the hardware sees."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from hwsim.published.claims import Row, System, find_reference, leave_out, skip_row
from hwsim.published.systems._run import run

if TYPE_CHECKING:
    from hwsim.core.tensors import Array

PAPER = "Lee et al., Quantune, Future Generation Computer Systems 2022, arXiv 2202.05048; etri/nest-compiler (Apache-2.0, ETRI)"
CALIBRATIONS = (1, 1000, 10000)
SCHEMES = ("asymmetric", "symmetric", "symmetric_uint8", "symmetric_power_of_two")
CLIPPINGS = ("max", "kl")
GRANULARITIES = ("tensor", "channel")
MIXED = ("on", "off")
"""First and last layer in floating point, or not."""
TRAINED = ("mlperf_tiny", "pretrainedResnet.tflite")
SCALE_BITS = 32


def count_space() -> list[Row]:
    """Return the size of the space, and of what reaches the hardware."""
    space = list(product(CALIBRATIONS, SCHEMES, CLIPPINGS, GRANULARITIES, MIXED))
    integer = [point for point in space if point[1] == "symmetric_power_of_two" and point[4] == "off"]
    seen = {(scheme, grain, mixed) for _, scheme, _, grain, mixed in space}
    return [
        Row(
            claim="settings of the space", source=f"{PAPER} (from memory)", certainty="unverified", unit="settings", claimed=96,
            equations=len(space),
        ),
        Row(
            claim="settings of an integer-only accelerator (VTA)", source=f"{PAPER} (from memory)", certainty="unverified",
            unit="settings", claimed=12, equations=len(integer),
            why="scales that are powers of two (a shift requantizes), nothing in floating point",
        ),
        Row(
            claim="settings that differ to the hardware", source=PAPER, unit="settings", equations=len(seen),
            why="the number of calibration images and the clipping choose numbers, not arithmetic",
        ),
    ]  # fmt: skip


def compare_machines() -> list[Row]:
    """Return what settings cost on a GEMM array of 8 bits."""
    shift, both = run("resnet18", "fixed8", "f8"), run("resnet18", "systolic", "w8a8")
    rows = [
        Row(
            claim="power-of-two scales against any scales, ResNet-18 on the same array of 8 bits: cycles", source=PAPER, unit="x",
            simulated=shift.cycles / both.cycles, why="scales are met in the store unit alone, which is three stages shorter",
        )
    ]  # fmt: skip
    filters = sum(layer.G * layer.K for layer in both.network.mac_layers)
    weights = sum(layer.weights for layer in both.network.mac_layers)
    rows.append(
        Row(
            claim="a scale a filter against one a tensor, ResNet-18: bits of weights and scales", source=PAPER, unit="x",
            equations=(8 * weights + SCALE_BITS * filters) / (8 * weights + SCALE_BITS * len(both.network.mac_layers)),
            why="the requantizer reads a multiplier a filter either way: no cycle differs",
        )
    )  # fmt: skip
    return rows


def quantize(weight: Array, scheme: str, clipping: str, grain: str) -> Array:
    """Return 8-bit weights as real numbers again."""
    import numpy as np

    from hwsim.quant.uniform import quantize_weights

    base = "asymmetric" if scheme == "asymmetric" else "symmetric"
    found = quantize_weights(weight, 8, per_channel=grain == "channel", scheme=base, clipping=clipping)
    if scheme != "symmetric_power_of_two":
        return found.dequantize()
    scale = np.exp2(np.ceil(np.log2(found.scale))).reshape(-1, *(1,) * (weight.ndim - 1))
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.float32) * scale


def measure_schemes() -> list[Row]:
    """Return what settings do to trained weights."""
    claim = "weights of a trained ResNet-8 (MLPerf Tiny), mean SQNR over layers"
    path = find_reference(*TRAINED)
    if path is None:
        return [skip_row(claim, PAPER, *TRAINED)]
    import numpy as np

    from hwsim.core.errors import HwsimError
    from hwsim.nets.load import load_network
    from hwsim.quant.rows import measure_sqnr_db

    try:
        loaded = load_network(str(path))
    except HwsimError as error:
        return [Row(claim=claim, source=PAPER, status="skipped", why=str(error))]
    assert loaded.tensors is not None
    weights = [loaded.tensors.layers[layer.name].weight for layer in loaded.network.mac_layers]
    rows = []
    for scheme, grain in product(("asymmetric", "symmetric", "symmetric_power_of_two"), GRANULARITIES):
        found = {
            clipping: float(np.mean([measure_sqnr_db(w, quantize(w, scheme, clipping, grain)) for w in weights]))
            for clipping in CLIPPINGS
        }
        rows.append(
            Row(
                claim=f"{claim}: {scheme.replace('_', ' ')}, a scale a {grain}, clipped by max", source=PAPER, unit="dB",
                simulated=found["max"], why=f"clipped by KL: {found['kl']:.1f} dB",
            )
        )  # fmt: skip
    return rows


def reproduce() -> tuple[Row, ...]:
    """Return Quantune's rows."""
    return (
        *count_space(),
        *compare_machines(),
        *measure_schemes(),
        leave_out("the tuner finds a setting 36.5 times as fast, 0.07 to 0.65 % below full precision", f"{PAPER}, abstract",
                  "the settings' accuracy takes ImageNet's images; without it there is nothing to tune for"),
    )  # fmt: skip


SYSTEM = System(
    name="quantune", title="tuning of post-training quantization settings", source=PAPER, reproduce=reproduce,
    archs=("fixed8", "systolic"), order=16,
)  # fmt: skip
