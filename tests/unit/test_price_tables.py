"""What a layer's table depends on, and the sums over the tables."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.core.policy import LayerFormat, Policy
from hwsim.nets.registry import find_network
from hwsim.quant.calibrate import choose_tensor_bits
from hwsim.search.kernel_lookup import sum_energies
from hwsim.search.structure import describe_structure


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x1_0", "resnet18", "squeezenet1_1"]
)
def test_slots_say_what_tensor_bits_are(name):
    network = find_network(name)
    structure = describe_structure(network)
    rng = np.random.default_rng(3)
    row = rng.integers(1, 17, (len(structure.macs), 2)).tolist()
    formats = (LayerFormat(w_bits=w, a_bits=a) for w, a in row)
    policy = Policy(default=LayerFormat(a_bits=5), layers=tuple(zip(structure.macs, formats, strict=True)))
    slots = [bits for pair in row for bits in pair] + [5]
    slots += [max(slots[part] for part in parts) for parts in structure.widest]
    bits = choose_tensor_bits(network, policy)
    for one in structure.layers:
        given = [bits[source] for source in one.layer.inputs] + [bits[one.layer.name]]
        assert [slots[slot] for slot in one.slots[2:]] == given, one.layer.name


def test_sum_of_energies_is_pythons():
    """Plain before Python 3.12, Neumaier's from then on: checked against both, on terms that cancel."""
    rng = np.random.default_rng(0)
    values = np.ldexp(rng.random(50), rng.integers(-60, 60, 50))

    def neumaier(items: list[float]) -> float:
        total, lost = 0.0, 0.0
        for x in items:
            both = total + x
            lost += (total - both) + x if abs(total) >= abs(x) else (x - both) + total
            total = both
        return total + lost

    def plain(items: list[float]) -> float:
        total = 0.0
        for x in items:
            total += x
        return total

    layers = np.array([(i, 3, 3) for i in range(50)], np.uint64)  # slot 3 is always zero
    policies = np.ones((1, 2), np.uint8)
    starts, parts, pairs = np.zeros(1, np.uint64), np.zeros(0, np.uint64), np.zeros((0, 2), np.uint64)
    for compensated, expected in ((0, plain), (1, neumaier)):
        sums = np.zeros(1)
        unknown = sum_energies(
            policies,
            7,
            starts,
            parts,
            pairs,
            layers,
            compensated,
            np.ones(50, np.int64),
            values,
            np.zeros(50, np.uint8),
            sums,
        )
        assert (unknown, sums[0]) == (0, expected(values.tolist()))
    assert plain(values.tolist()) != neumaier(values.tolist())
