"""Layers of one shape have one price: at given bits it is simulated once, whatever their names; what is refused is tried once."""

from __future__ import annotations

import pytest

from hwsim import CostModel
from hwsim.core.errors import SpecError
from hwsim.core.network import Network, TensorSpec
from hwsim.search import book
from tests.unit.test_activation_memory import conv

NETWORK = Network(
    name="drawn", inputs=(TensorSpec(name="image", shape=(1, 8, 4, 4)),), source="made up", outputs=("c",),
    layers=(conv("a", "image", 8, 8), conv("b", "a", 8, 8), conv("c", "b", 8, 8)),
)  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """Return the formats of the layers that are simulated, as they come."""
    seen, price = [], book.price

    def watch(load, prices, objective):
        seen.append(book.read_formats(load))
        return price(load, prices, objective)

    monkeypatch.setattr(book, "price", watch)
    return seen


def test_a_shape_is_simulated_once_at_each_of_its_formats(asked):
    model = CostModel(NETWORK, "systolic:small", cache=False, workers=1)
    model.latency_cycles("w4a4")
    assert asked == [(4, 4, 4, 4)]  # three layers alike
    model.latency_cycles("w4a4,b=w2a4")
    assert asked[1:] == [(2, 4, 4, 4)]
    model.lut(most_bits=2)
    assert len(asked) == len(set(asked)) == 2 + 4


def test_what_the_accelerator_refuses_is_tried_once(asked):
    model = CostModel(NETWORK, "systolic:small", cache=False, workers=1)
    for _ in range(2):
        model.build(w_bits=(8, 9), a_bits=(8,))
    assert asked == [(8, 8, 8, 8), (9, 8, 8, 8)]
    with pytest.raises(SpecError, match="policy for layer b: w_bits: got 9"):
        model.latency_cycles("w8a8,b=w9a8")


def test_images_of_a_batch_are_alive_together():
    for batch in (1, 3):
        model = CostModel(NETWORK, "systolic:small", batch=batch, cache=False)
        assert model.peak_activation_bits("w4a5") == batch * 2 * (8 * 4 * 4) * 5
        assert model.peak_activation_bits([[4, 5]] * 3) == batch * (8 * 4 * 4) * (
            5 + 8
        )  # nobody reads the last: the default
