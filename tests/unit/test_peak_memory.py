"""The peak of activations is that of the tensors that layers move, as the machine stores them: summed naively, on every machine."""

from __future__ import annotations

from math import prod

import pytest

from hwsim import CostModel, simulate
from hwsim.archs.registry import find_arch, list_archs
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.network import Network, TensorSpec
from hwsim.core.policy import LayerFormat, Policy, parse_policy
from hwsim.core.report import Report
from tests.unit.test_activation_memory import conv

SIDE = {"P": 4, "Q": 4, "H": 4, "W": 4}
NETWORK = Network(
    name="drawn", inputs=(TensorSpec(name="image", shape=(1, 2, 4, 4)),), source="made up", outputs=("fc",),
    layers=(
        conv("a", "image", 8, 2), conv("b", "a", 16, 8), Layer(name="ab", op="concat", inputs=("a", "b"), G=24, **SIDE),
        conv("c", "ab", 16, 24), Layer(name="sum", op="add", inputs=("b", "c"), G=16, **SIDE),
        Layer(name="pool", op="maxpool", inputs=("sum",), G=16, P=2, Q=2, R=2, S=2, stride=(2, 2), H=4, W=4),
        Layer(name="flat", op="flatten", inputs=("pool",), G=64), Layer(name="fc", op="gemm", inputs=("flat",), K=10, C=64),
    ),
)  # fmt: skip
LIVE = {
    "a": ("image", "a"), "b": ("a", "b"), "ab": ("a", "b", "ab"), "c": ("b", "ab", "c"), "sum": ("b", "c", "sum"),
    "pool": ("sum", "pool"), "fc": ("pool", "fc"),
}  # fmt: skip
"""Tensors that are needed while each layer runs, by hand; ``flat`` lies where ``pool`` does."""
POLICIES = ("w8a8", "w4a4", "w8a8,b=w8a6", "w2a2,c=w2a4", "w2a3", "w5a5", "w3a11")
MACHINES = (*(entry.name for entry in list_archs()), "simd:a76-fp32", "simd:a55-fp32", "bismo:small", "nasa:small")
STORED = {"simd:a76-fp32": 32, "simd:a55-fp32": 32}
"""Machines that store other bits than the policy's: cores of float32. Widths that engines round up stay inside the engines."""


def read_stored(report: Report) -> dict[str, int]:
    """Return the bits of an element of each tensor, from what rows say: those of an output, and those of the only input."""
    bits = {row.name: row.out_bits for row in report.layers if row.cycles}
    for row in report.layers:
        layer = NETWORK.layer(row.name)
        if row.cycles and len(layer.inputs) == 1:
            left, elements = row.act_bits - layer.out_elements * row.out_bits, prod(NETWORK.shape_of(layer.inputs[0]))
            assert left % elements == 0
            assert bits.setdefault(layer.inputs[0], left // elements) == left // elements
    return bits


def sum_live(bits: dict[str, int]) -> int:
    return max(sum(prod(NETWORK.shape_of(name)) * bits[name] for name in live) for live in LIVE.values())


def list_policies(name: str) -> list[Policy]:
    """Return what of the policies a machine takes, one at least."""
    arch, found = find_arch(name), []
    for text in POLICIES:
        try:
            simulate(NETWORK, arch, policy=text)
        except SpecError:
            continue
        found.append(parse_policy(text))
    assert found
    return found


@pytest.mark.parametrize("name", MACHINES)
def test_the_peak_is_the_most_that_layers_move_at_once(name):
    model = CostModel(NETWORK, find_arch(name), cache=False)
    for policy in list_policies(name):
        report = simulate(NETWORK, find_arch(name), policy=policy)
        bits = read_stored(report)
        assert report.peak_activation_bits == sum_live(bits)
        assert model.peak_activation_bits(policy) == report.peak_activation_bits
        for row in report.layers:
            written = [item.write_bits for item in row.stats.traffic if (item.level, item.operand) == ("dram", "O")]
            assert sum(written) >= NETWORK.layer(row.name).out_elements * bits[row.name] * bool(row.cycles)
        if name in STORED:
            assert set(bits.values()) == {STORED[name]}
        else:
            assert set(bits.values()) <= {policy.default.a_bits, *(fmt.a_bits for _, fmt in policy.layers)}


@pytest.mark.parametrize("operator", ["shift", "add"])
def test_widths_of_nasa_s_elements_are_not_those_of_stored_tensors(operator):
    arch = find_arch("nasa")
    for a_bits in (4, 5):
        fmt = LayerFormat(w_bits=4, a_bits=a_bits, operator=operator)
        report = simulate(NETWORK, arch, policy=Policy(default=fmt))
        assert set(read_stored(report).values()) == {a_bits}
        elements = (16 + 24 + 16) * 16  # b, ab and c
        assert report.peak_activation_bits == elements * a_bits
        assert CostModel(NETWORK, arch, cache=False).peak_activation_bits(Policy(default=fmt)) == elements * a_bits


def test_float32_takes_four_times_the_bytes():
    """ResNet-18's largest set, behind the first convolution: 64 x 112 x 112, pooled 64 x 56 x 56 beside it; 4 bytes each."""
    elements = 64 * 112 * 112 + 64 * 56 * 56
    for name, bits in (("simd:a76", 8), ("simd:a76-fp32", 32)):
        model = CostModel("resnet18", name, cache=False)
        assert model.peak_activation_bits("w8a8") == elements * bits
        array = [[8, 8]] * len(model.layers)
        assert model.peak_activation_bits(array) == elements * bits
        assert model.peak_activation_bits([array, array]).tolist() == [elements * bits] * 2
