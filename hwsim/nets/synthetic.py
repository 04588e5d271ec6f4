"""Tensors drawn from declared distributions, for networks without weights and runs without an image.

They make timing and data-dependent models run; they say nothing of accuracy, and their ``Origin`` says so in every
report.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

from hwsim.core.check import require_int
from hwsim.core.layer import Layer
from hwsim.core.network import Network
from hwsim.core.tensors import LayerTensors, Origin, Tensors

WEIGHT_DISTRIBUTION = "He normal N(0, 2/fan_in), zero biases"
"""He et al., "Delving deep into rectifiers", ICCV'15, equation 10; fan_in = C R S."""
ADDER_MEAN = 1.13
"""Mean distance of two independent standard normal numbers: 2 / sqrt(pi)."""
ADDER_DISTRIBUTION = (
    "adder layers N(0, 1), their sums of fan_in distances shifted by 1.13 fan_in and divided by sqrt(fan_in)"
)
"""Stands for the normalization that follows an adder layer: results of about zero mean and unit variance."""
INPUT_DISTRIBUTION = "Gaussian random field, amplitude 1/frequency, channels correlated 0.9, zero mean, unit variance"
"""Amplitude spectrum of natural images: Field, J. Opt. Soc. Am. A 4(12), 1987; the channels' correlation is
unverified."""
VECTOR_DISTRIBUTION = "standard normal"
"""Of an input without height and width."""

_CHANNEL_CORRELATION = 0.9


def synthesize_tensors(network: Network, seed: int = 0) -> Tensors:
    """Return random float32 weights for every MAC layer and the identity for every ``scale`` layer.

    A layer's numbers depend on the seed and its name alone: neither the order nor the presence of other layers moves
    them.

    Parameters
    ----------
    network : Network
        What to draw for.
    seed : int
        Zero or above.

    Returns
    -------
    Tensors
        Weight ``[G*K, C, R, S]`` float32, bias ``[G*K]`` float32 zeros; a ``scale`` layer has weight one and bias zero.
    """
    layers: dict[str, LayerTensors] = {}
    for layer in network.layers:
        if layer.kind == "mac" and layer.operator == "add":
            layers[layer.name] = _draw_adder(layer, seed)
        elif layer.kind == "mac":
            layers[layer.name] = LayerTensors(weight=_draw_weight(layer, seed), bias=_zeros(layer.out_shape[1]))
        elif layer.op == "scale":
            ones = np.ones((layer.G, 1, 1, 1), dtype=np.float32)
            layers[layer.name] = LayerTensors(weight=ones, bias=_zeros(layer.G))
    adders = any(layer.kind == "mac" and layer.operator == "add" for layer in network.layers)
    also = f"; {ADDER_DISTRIBUTION}" if adders else ""
    description = f"{WEIGHT_DISTRIBUTION}{also}, seed {seed}, PCG64 seeded by layer name"
    return Tensors(layers=layers, origin=Origin(kind="synthetic", description=description))


def synthesize_input(network: Network, seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Return a random input that has the spectrum of a natural image.

    Parameters
    ----------
    network : Network
        Whose inputs to draw.
    seed : int
        Zero or above; images of a batch differ.

    Returns
    -------
    dict
        Input name to ``[N, C, H, W]`` float32, by ``INPUT_DISTRIBUTION``: each channel of each image has mean 0 and
        variance 1. A vector (H = W = 1) is standard normal.
    """
    return {spec.name: _draw_input(spec.shape, _make_generator(seed, f"input:{spec.name}")) for spec in network.inputs}


def _draw_adder(layer: Layer, seed: int) -> LayerTensors:
    generator, depth = _make_generator(seed, f"weight:{layer.name}"), layer.C * layer.R * layer.S
    weight = generator.standard_normal((layer.G * layer.K, layer.C, layer.R, layer.S), dtype=np.float32)
    ones = np.ones(layer.out_shape[1], np.float32)
    factor = ones * np.float32(1 / math.sqrt(depth))
    return LayerTensors(weight=weight, bias=factor * np.float32(ADDER_MEAN * depth), factor=factor)


def _draw_weight(layer: Layer, seed: int) -> npt.NDArray[np.float32]:
    generator = _make_generator(seed, f"weight:{layer.name}")
    shape = (layer.G * layer.K, layer.C, layer.R, layer.S)
    weight = generator.standard_normal(shape, dtype=np.float32)
    weight *= np.float32(math.sqrt(2 / (layer.C * layer.R * layer.S)))
    return weight


def _draw_input(shape: tuple[int, int, int, int], generator: np.random.Generator) -> npt.NDArray[np.float32]:
    n, channels, height, width = shape
    if height == width == 1:
        return generator.standard_normal(shape, dtype=np.float32)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1.0
    amplitude = 1 / frequency
    amplitude[0, 0] = 0.0  # no mean
    shared = generator.standard_normal((n, 1, height, width))
    own = generator.standard_normal((n, channels, height, width))
    noise = math.sqrt(_CHANNEL_CORRELATION) * shared + math.sqrt(1 - _CHANNEL_CORRELATION) * own
    field = np.fft.irfft2(np.fft.rfft2(noise) * amplitude, s=(height, width))
    field /= field.std(axis=(2, 3), keepdims=True)
    return field.astype(np.float32)


def _zeros(size: int) -> npt.NDArray[np.float32]:
    return np.zeros(size, dtype=np.float32)


def _make_generator(seed: int, name: str) -> np.random.Generator:
    """Return a generator that depends on seed and name alone, on every machine (unlike Python's ``hash``)."""
    require_int("seed", seed, 0)
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    words = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4)]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words])))
