"""HAQ's released latency table: all of its 3,392 entries from the closed form, and the figures quoted from it."""

import numpy as np
import pytest

from hwsim.nets.load import load_network
from hwsim.published.haq import MOST_BITS, UNIFORM, Product, count_cycles, describe
from tests.reference import reference


@pytest.fixture(scope="module")
def products() -> list[Product]:
    layers = load_network("mobilenetv2").network.layers
    return [describe(layer) for layer in layers if layer.kind == "mac"]


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    return np.load(reference("haq", "qmobilenetv2_imagenet100_batch16_latency_table.npy"))


def test_every_entry_of_the_table(products: list[Product], table: np.ndarray) -> None:
    bits = range(1, MOST_BITS + 1)
    found = np.array([[[count_cycles(one, w, a) for a in bits] for w in bits] for one in products])
    assert found.shape == table.shape == (53, 8, 8)
    assert np.array_equal(found, table)


@pytest.mark.parametrize(("bits", "total"), UNIFORM.items())
def test_uniform_totals(products: list[Product], table: np.ndarray, bits: tuple[int, int], total: int) -> None:
    assert sum(count_cycles(one, *bits) for one in products) == total
    assert table[:, bits[0] - 1, bits[1] - 1].sum() == total


def test_totals_are_those_of_all_uniform_bits_and_two_unequal_ones() -> None:
    assert set(UNIFORM) == {(bits, bits) for bits in range(1, MOST_BITS + 1)} | {(4, 8), (8, 4)}
