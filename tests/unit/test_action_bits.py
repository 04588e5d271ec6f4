"""Operations of one small layer on every engine, counted by hand: how many, and how wide the operands are that are priced.

Four pixels (two images of two), four channels, three filters, 1 x 1: 48 products. Weights of 4 bits, activations of 6, all of them
5 (two ones, in 101); weights are 1. Accesses of storage are the machines' that step (``tests/equivalence``).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hwsim.archs.registry import find_arch
from hwsim.core.datapath import LayerData, Workload
from hwsim.core.layer import Layer
from hwsim.core.mapping import Mapping
from hwsim.core.policy import LayerFormat
from tests.pruned_cases import hold

LAYER = Layer(name="layer", op="conv", inputs=("x",), N=2, K=3, C=4, P=2, Q=1, H=2, W=1)
WHOLE = Mapping(tile=(2, 1, 3, 4, 2, 1), order="MKC")
Actions = dict[tuple[str, str, tuple[int, ...]], int]


def count(name: str, bits: tuple[int, int], operator: str = "native", **fields: object) -> Actions:
    """Return the operations of the layer, equal ones added up."""
    arch, (w, a) = replace(find_arch(name), **fields), bits
    fmt = LayerFormat(w_bits=w, a_bits=a, operator=operator)
    load = Workload(layer=LAYER, fmt=fmt, out_bits=a, operand_bits=(a,), operand_shapes=(LAYER.in_shape,))
    data = LayerData(activation=np.full(LAYER.in_shape, 5), zero_point=0, codec=hold(np.ones((3, 4, 1, 1), np.int64)))
    found: Counter = Counter()
    for one in arch.bind(load, data if arch.needs_data else None).count_actions(WHOLE):
        if one.verb not in ("read", "write"):
            found[one.component, one.verb, one.bits] += one.count
    return dict(found)


ENGINES: dict[str, tuple[tuple[int, int], Actions]] = {
    # both operands go through a cell's registers for each product
    "systolic:small": ((4, 6), {("mac", "mac", (4, 6, 32)): 48, ("array", "register", (10,)): 48}),
    "fixed8:small": ((8, 8), {("mac", "mac", (8, 8, 32)): 48, ("array", "register", (16,)): 48}),
    "diannao:small": ((4, 6), {("mac", "mac", (4, 6, 32)): 48}),
    # 4 bits by 8: two products a unit, so two units for four channels, of each pixel and filter
    "bitfusion:small": ((4, 6), {("mac", "fusion_unit", (8, 2)): 4 * 3 * 2}),
    # each of 4 x 6 pairs of planes: 48 ANDs, counted by adders of two bits, and a word shifted and added for each of 12 results
    "bismo:small": (
        (4, 6), {("mac", "mult", (1, 1)): 48 * 24, ("mac", "add", (2,)): 48 * 24, ("array", "shift_add", (32,)): 12 * 24},
    ),
    # two digits by three, with a sign each; a tree of 16 lanes of which four are used: two additions, one, and two that pass it on;
    # a weight's two digits are held for each product, an activation once for all filters
    "palquant:small": (
        (4, 6),
        {
            ("mac", "mult", (3, 3)): 48 * 6, ("mac", "add", (7,)): 12 * 6 * 2, ("mac", "add", (8,)): 12 * 6,
            ("mac", "add", (9,)): 12 * 6, ("mac", "add", (10,)): 12 * 6, ("mac", "shift_add", (32,)): 12 * 6,
            ("array", "register", (32,)): 12 * 6, ("array", "register", (2,)): 48 * 2, ("array", "register", (6,)): 16,
        },
    ),
    # a count up to 64 has 7 bits
    "cambricon-x:small": ((4, 6), {("mac", "mac", (4, 6, 32)): 48, ("indexing", "add", (7,)): 48}),
    # two ones an activation, shifted by up to 3 places and added for each filter; both of a lane in turn, two cycles a pixel
    "bit-pragmatic:small": (
        (4, 6), {("units", "shift", (7,)): 48 * 2, ("units", "add", (7,)): 48 * 2, ("sums", "shift_add", (32,)): 4 * 2 * 3},
    ),
    # an address of 512 accumulators, and a place for none; 16 activations written to registers, read for two vectors of filters
    "scnn:small": (
        (4, 6), {("mac", "mult", (4, 6)): 48, ("coordinates", "add", (10,)): 48, ("banks", "add", (32,)): 48,
         ("vectors", "register", (6,)): 16 * 3},
    ),
    "simd:a76": ((8, 8), {("mac", "mac", (8, 8, 32)): 48}),
    "simd:a76-fp32": ((4, 6), {("mac", "fp_mult", (32,)): 48, ("mac", "fp_add", (32,)): 48}),
}  # fmt: skip


@pytest.mark.parametrize("name", ENGINES)
def test_operations_of_engines_are_those_counted_by_hand(name):
    bits, wanted = ENGINES[name]
    assert count(name, bits) == wanted


@pytest.mark.parametrize(
    ("flow", "held", "sums"),
    [
        ("ws", {(4,): 12}, 12 * 3), ("is", {(6,): 16}, 12 * 3), ("os", {}, 48 + 12),
        ("rs", {(4,): 12, (6,): 16 * 3}, 48 + 12 * 3),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("operator", "chunk"), [("multiply", "clp"), ("shift", "slp"), ("add", "alp")])
def test_elements_of_nasa_s_chunks_hold_what_stays(flow, held, sums, operator, chunk):
    """12 weights or 16 inputs are loaded once; the operands of each operation are read from registers.

    Sums are written and read: at each operation where they stay, and once in a shadow; or in a tree, in two registers for four
    rows and in one for two sums. Row stationary: an output row at a time, inputs for all three filters.
    """
    sizes = {f"{chunk}_rows": 4, f"{chunk}_cols": 4, f"{chunk}_dataflow": flow}
    operation = {"multiply": ("mult", (4, 6)), "shift": ("shift", (6,)), "add": ("add", (7,))}[
        operator
    ]  # 6 bits and a carry
    registers = {("array", "register", bits): times for bits, times in held.items()}
    assert count("nasa:small", (4, 6), operator, **sizes) == {
        ("mac", *operation): 48, ("sum", "add", (40,)): 48, ("array", "register", (10,)): 48, **registers,
        ("sum", "register", (40,)): 2 * sums,
    }  # fmt: skip


def test_elements_of_scnn_that_have_a_part_of_the_plane_hold_the_weights():
    """Read for each of two images: 12 entries of 4 bits and a run of 4, a number of them for each channel; all elements listen."""
    for high, wide, elements in ((2, 2, 4), (2, 1, 2), (1, 1, 1)):
        layer = replace(LAYER, P=high, Q=wide, H=high, W=wide)
        fmt, data = LayerFormat(w_bits=4, a_bits=6), np.full(layer.in_shape, 5)
        load = Workload(layer=layer, fmt=fmt, out_bits=6, operand_bits=(6,), operand_shapes=(layer.in_shape,))
        weights = hold(np.ones((3, 4, 1, 1), np.int64))
        datapath = find_arch("scnn:small").bind(load, LayerData(activation=data, zero_point=0, codec=weights))
        whole = Mapping(tile=(2, 1, 3, 4, high, wide), order="MKC")
        found = {(x.component, x.verb): x.count for x in datapath.count_actions(whole)}
        assert found["wbuf", "read"] * elements == found["rf", "write"]
        assert found["wbuf", "read"] == 2 * (12 * (4 + 4) + 4 * 2)


def test_products_of_mpic_are_of_the_filters_widths():
    found = count("mpic:small", (4, 8))
    assert found["mac", "mac", (4, 8, 32)] == 48
    assert {key[0] for key in found} == {"mac", "registers"}


SIDE = {"P": 2, "Q": 2, "H": 2, "W": 2}


@pytest.mark.parametrize(
    ("layer", "bits", "operation", "steps", "read"),
    [
        (Layer(name="v", op="add", inputs=("x", "y"), G=3, **SIDE), (4, 6), "op", 12, 12 * (4 + 6)),
        (Layer(name="v", op="add", inputs=("x", "y"), G=3, **SIDE), (6, 4), "op", 12, 12 * (4 + 6)),
        (Layer(name="v", op="activation", inputs=("x",), G=3, **SIDE), (6,), "op", 12, 12 * 6),
        (Layer(name="v", op="softmax", inputs=("x",), G=5), (6,), "op", 15, 5 * 6),
        (Layer(name="v", op="lrn", inputs=("x",), G=3, attrs=(("size", 5),), **SIDE), (6,), "op", 12 * 7, 12 * 6),
        (
            Layer(name="v", op="maxpool", inputs=("x",), G=3, P=2, Q=2, R=2, S=2, stride=(2, 2), H=4, W=4), (6,), "compare",
            12 * 4, 12 * 4 * 6,
        ),
    ],
)  # fmt: skip
def test_steps_of_the_vector_unit_are_as_wide_as_the_widest_operand(layer, bits, operation, steps, read):
    shape = (1, layer.G, layer.H, layer.W)
    load = Workload(layer=layer, fmt=LayerFormat(), out_bits=5, operand_bits=bits, operand_shapes=(shape,) * len(bits))
    datapath = find_arch("systolic:small").bind(load)
    found = {(x.component, x.verb, x.bits): x.count for x in datapath.count_actions(WHOLE)}
    assert found == {("vector", operation, (6,)): steps, ("ibuf", "read", ()): read}
    assert int(datapath.sum_tiles(np.array([[1, 2, 1, 1, 2, 1]])).busy[0]) == steps  # one lane
