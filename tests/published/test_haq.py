"""HAQ's released latency table: all of its 3,392 entries from the closed form, and the figures quoted from it."""

import numpy as np
import pytest

from hwsim.core.layer import Layer
from hwsim.nets.load import load_network
from hwsim.published.haq import (
    MOST_BITS,
    Product,
    count_cycles,
    describe_conv,
    describe_depthwise,
    describe_linear,
)
from tests.reference import reference

BATCH = 16
UNIFORM = {(8, 8): 39_624_933, (6, 6): 26_653_434, (4, 4): 15_716_150, (2, 2): 7_063_425, (4, 8): 31_232_558,
           (8, 4): 20_044_617, (1, 1): 3_433_704}  # fmt: skip
"""Sums over the table, w bits and a bits: mit-han-lab/haq."""


def describe(layer: Layer) -> Product:
    if layer.is_depthwise:
        return describe_depthwise(layer.G, layer.P * layer.Q, BATCH)
    if layer.P * layer.Q == 1:
        return describe_linear(layer.C, layer.K, BATCH)
    return describe_conv(layer.C, layer.K, layer.R, layer.P * layer.Q, BATCH)


@pytest.fixture(scope="module")
def products() -> list[Product]:
    layers = load_network("mobilenetv2").network.layers
    return [describe(layer) for layer in layers if layer.kind == "mac"]


def test_every_entry_of_the_table(products: list[Product]) -> None:
    table = np.load(reference("haq", "qmobilenetv2_imagenet100_batch16_latency_table.npy"))
    bits = range(1, MOST_BITS + 1)
    found = np.array([[[count_cycles(one, w, a) for a in bits] for w in bits] for one in products])
    assert found.shape == table.shape == (53, 8, 8)
    assert np.array_equal(found, table)


@pytest.mark.parametrize(("bits", "total"), UNIFORM.items())
def test_uniform_totals(products: list[Product], bits: tuple[int, int], total: int) -> None:
    assert sum(count_cycles(one, *bits) for one in products) == total
