"""Operators, registers and memories of every preset, counted by hand from the sizes of its source; their areas by the unit's area.

``register bits`` are all registers of the engine together; other operators are counted by name and width. Sizes of papers stand
in the presets' sources (`hwsim.archs.*.spec`), their meaning beside each row.
"""

from __future__ import annotations

from dataclasses import replace
from math import fsum

import pytest

from energy_models.ops import price_op
from hwsim.archs.registry import find_arch, list_archs
from hwsim.pipeline.prices import choose_prices

KB = 8 * 1024
Counts = dict[str, int]


def sum_tree(columns: int, lanes: int, bits: int) -> Counts:
    """Return the adders of trees over ``lanes`` products of ``bits`` bits: half as many a level, a bit wider each."""
    found = {}
    while lanes > 1:
        lanes, bits = lanes // 2, bits + 1
        found[f"add {bits}"] = columns * lanes
    return found


HAND: dict[str, Counts] = {
    # Eyeriss (ISSCC 2016): an element has a 16-bit multiplier, an adder, registers of 12 inputs, 224 weights, 24 sums (32 bits)
    "eyeriss:paper": {
        "mult 16x16": 168, "add 32": 168, "register bits": 168 * (12 * 16 + 224 * 16 + 24 * 32),
    },
    # DNN-Chip-Predictor's Eyeriss: registers of 12, 192 and 16 words
    "eyeriss:predictor": {"mult 16x16": 168, "add 32": 168, "register bits": 168 * (12 * 16 + 192 * 16 + 16 * 32)},
    "eyeriss:small": {"mult 16x16": 12, "add 32": 12, "register bits": 12 * (12 * 16 + 64 * 16 + 8 * 32)},
    # BISMO (FPL 2018), HAQ's table 2: 8 x 8 units; in each 256 ANDs, a popcount tree (2 bits an input), shifter and accumulator
    "bismo:edge": {"mult 1x1": 64 * 256, "add 2": 64 * 256, "shift_add 32": 64, "register bits": 64 * 32},
    "bismo:cloud": {"mult 1x1": 256 * 256, "add 2": 256 * 256, "shift_add 32": 256, "register bits": 256 * 32},
    "bismo:small": {"mult 1x1": 16 * 64, "add 2": 16 * 64, "shift_add 32": 16, "register bits": 16 * 32},
    # PalQuant (ECCV 2022): 4,096 multipliers of 2-bit digits and a sign; a sum for 16 lanes of each of 64 columns; a digit of
    # weights in each cell, 16 bits of activation for each of 64 lanes of 4 blocks
    "palquant:base": {
        "mult 3x3": 4096, **sum_tree(64, 64, 6), "shift_add 32": 64 * 4,
        "register bits": 4096 * 2 + 64 * 4 * 16 + 64 * 4 * 32,
    },
    "palquant:small": {
        "mult 3x3": 128, **sum_tree(8, 16, 6), "shift_add 32": 8 * 2, "register bits": 128 * 2 + 16 * 16 + 8 * 2 * 32,
    },
    # an 8-bit cell holds both operands, its sum, and the last one that is on its way out
    "systolic:base": {"mult 8x8": 32 * 32, "add 32": 32 * 32, "register bits": 32 * 32 * (8 + 8 + 32 + 32)},
    "systolic:small": {"mult 8x8": 64, "add 32": 64, "register bits": 64 * (8 + 8 + 32 + 32)},
    "fixed8:base": {"mult 8x8": 32 * 32, "add 32": 32 * 32, "register bits": 32 * 32 * (8 + 8 + 32 + 32)},
    "fixed8:small": {"mult 8x8": 64, "add 32": 64, "register bits": 64 * (8 + 8 + 32 + 32)},
    # Bit Fusion (ISCA 2018): 512 units of sixteen 2-bit bricks, all else inside the unit's figure
    "bitfusion:E": {"fusion_unit 8x2": 512}, "bitfusion:S": {"fusion_unit 8x2": 512},
    "bitfusion:8x8": {"fusion_unit 8x2": 64}, "bitfusion:small": {"fusion_unit 8x2": 16},
    # DianNao (ASPLOS 2014): 16 trees over 16 multipliers, 15 adders and that of the partial sum each
    "diannao:paper": {"mult 16x16": 256, "add 32": 16 * (15 + 1), "register bits": 16 * 32},
    "diannao:comparison": {"mult 8x8": 1024, "add 32": 32 * (31 + 1), "register bits": 32 * 32},
    "diannao:small": {"mult 8x8": 64, "add 32": 8 * (7 + 1), "register bits": 8 * 32},
    # Cambricon-X (MICRO 2016): 16 elements of 16 multipliers; an adder of counts up to 256 for each, two words of 256 activations
    "cambricon-x:paper": {
        "mult 16x16": 256, "add 32": 16 * (15 + 1), "add 9": 256, "register bits": 16 * 32 + 2 * 256 * 16,
    },
    "cambricon-x:comparison": {
        "mult 8x8": 1024, "add 32": 64 * (15 + 1), "add 9": 1024, "register bits": 64 * 32 + 2 * 256 * 8,
    },
    "cambricon-x:small": {"mult 8x8": 32, "add 32": 8 * (3 + 1), "add 7": 32, "register bits": 8 * 32 + 2 * 64 * 8},
    # SCNN (ISCA 2017): 64 elements of 4 x 4 multipliers, each with an adder of coordinates, and 32 banks with an adder and a queue
    # of the 3 products that wait and the 16 of a cycle: product, and address with a bit more (1024, 512, 512 accumulators); an
    # element's queue of 50 vectors of weights with 4 bits of a run, and its vector of activations
    "scnn:paper": {
        "mult 16x16": 1024, "add 11": 1024, "add 32": 64 * 32,
        "register bits": 64 * 32 * 19 * (32 + 11) + 64 * (50 * 4 * 20 + 4 * 16),
    },
    "scnn:comparison": {
        "mult 8x8": 1024, "add 10": 1024, "add 32": 64 * 32, "register bits": 64 * 32 * 19 * (16 + 10) + 64 * (50 * 4 * 12 + 4 * 8),
    },
    "scnn:small": {
        "mult 8x8": 16, "add 10": 16, "add 32": 4 * 8, "register bits": 4 * 8 * 7 * (16 + 10) + 4 * (50 * 2 * 12 + 2 * 8),
    },
    # Bit-Pragmatic (MICRO 2017): 16 tiles, 16 filters, 16 windows, 16 lanes; a shifter of up to 3 places in each lane, 15 adders
    # behind them, a second shifter and two sums a unit; weights, and terms with their sign
    "bit-pragmatic:paper": {
        "shift 19": 65536, "add 19": 4096 * 15, "shift_add 32": 4096,
        "register bits": 4096 * 2 * 32 + 256 * 16 * 16 + 16 * 16 * 17,
    },
    "bit-pragmatic:comparison": {
        "shift 11": 8192, "add 11": 512 * 15, "shift_add 32": 512,
        "register bits": 512 * 2 * 32 + 32 * 16 * 8 + 16 * 16 * 9,
    },
    "bit-pragmatic:small": {
        "shift 11": 128, "add 11": 32 * 3, "shift_add 32": 32, "register bits": 32 * 2 * 32 + 8 * 4 * 8 + 4 * 4 * 9,
    },
    # SmartExchange (ISCA 2020): 64 slices x 16 lines x 8 cells; two rebuild engines a line with 3 shift-and-adds, a 3 x 3 basis of
    # bytes and a row of 3 x 16 bits; 8 trees over 16 lines a slice; two banks of 12 entries a line: 3 x 8 activations of 9 bits,
    # and 3 rebuilt weights
    "smartdeal:paper": {
        "booth_digit 8x32": 8192, "shift_add 16": 1024 * 2 * 3, "add 32": 64 * 8 * 15,
        "register bits": 8192 * (8 + 2 * 32) + 1024 * 2 * (72 + 48) + 1024 * 2 * 12 * (3 * 8 * 9 + 24),
    },
    "smartdeal:small": {
        "booth_digit 8x32": 64, "shift_add 16": 16 * 2 * 3, "add 32": 4 * 4 * 3,
        "register bits": 64 * (8 + 2 * 32) + 16 * 2 * (72 + 48) + 16 * 2 * 12 * (3 * 4 * 9 + 24),
    },
    # NASA (ICCAD 2022): 6 x 11, 7 x 10 and 6 x 6 elements; an operator, an adder of 40-bit sums, two rows of 12 weights, one of 12
    # inputs, the sum twice; a sum of two operands has a bit more
    "nasa:paper": {
        "mult 8x8": 66, "shift 16": 70, "add 7": 36, "add 40": 66 + 70 + 36,
        "register bits": 66 * (24 * 8 + 12 * 8 + 80) + 70 * (24 * 6 + 12 * 16 + 80) + 36 * (24 * 6 + 12 * 6 + 80),
    },
    "nasa:small": {
        "mult 8x8": 16, "shift 16": 16, "add 9": 12, "add 40": 16 + 16 + 12,
        "register bits": 16 * (24 * 8 + 12 * 8 + 80) + 16 * (24 * 6 + 12 * 16 + 80) + 12 * (24 * 8 + 12 * 8 + 80),
    },
    # MPIC (arXiv 2010.04073): 32 bits of each width, an adder of twice the width a product, two of RV32, 32 registers
    **{
        f"mpic:{preset}": {
            "mult 2x2": 16, "mult 4x4": 8, "mult 8x8": 4, "mult 16x16": 2, "add 4": 16, "add 8": 8, "add 16": 4,
            "add 32": 2 + 2, "register bits": 32 * 32,
        }
        for preset in ("paper", "small")
    },
    # AArch64: 32 registers of 128 bits; SDOT multiplies 16 bytes a pipe, FMLA four floats
    "simd:a76": {"mult 8x8": 2 * 16, "add 32": 2 * 16, "register bits": 32 * 128},
    "simd:a55": {"mult 8x8": 16, "add 32": 16, "register bits": 32 * 128},
    "simd:a76-fp32": {"fp_mult 32": 2 * 4, "fp_add 32": 2 * 4, "register bits": 32 * 128},
    "simd:a55-fp32": {"fp_mult 32": 4, "fp_add 32": 4, "register bits": 32 * 128},
    "simd:small": {"mult 8x8": 8, "add 32": 8, "register bits": 32 * 64},
}  # fmt: skip
MEMORIES: dict[str, dict[str, tuple[int, int, int]]] = {
    # bits, bits of a word, memories: 512, 1024 or 256 words of a plane a row and a column of units
    "bismo:edge": {"lhs": (8 * 512 * 256, 256, 8), "rhs": (8 * 512 * 256, 256, 8)},
    "bismo:cloud": {"lhs": (16 * 1024 * 256, 256, 16), "rhs": (16 * 1024 * 256, 256, 16)},
    "bismo:small": {"lhs": (4 * 256 * 64, 64, 4), "rhs": (4 * 256 * 64, 64, 4)},
    # both sets of accumulators: 32 banks of 32 (16) in each of 64 elements; 256 KB are what `comparison` takes from its inputs
    "scnn:paper": {"acc": (2 * 64 * 32 * 32 * 32, 32, 2 * 64 * 32)},
    "scnn:comparison": {"acc": (256 * KB, 32, 2 * 64 * 32)},
    "scnn:small": {"acc": (2 * 4 * 8 * 64 * 32, 32, 2 * 4 * 8)},
    # two sets of two columns, 8 KB (4) in all; 2 KB of program; a register a word
    "mpic:paper": {"columns": (8 * KB, 32, 1), "program": (2 * KB, 32, 1)},
    "mpic:small": {"columns": (4 * KB, 32, 1), "program": (2 * KB, 32, 1)},
    # the Technical Reference Manuals' first caches; instructions of 4 bytes, 4, 2 or 1 a cycle
    **{f"simd:a76{end}": {"icache": (64 * KB, 4 * 32, 1), "l1": (64 * KB, 128, 1)} for end in ("", "-fp32")},
    **{f"simd:a55{end}": {"icache": (32 * KB, 2 * 32, 1), "l1": (32 * KB, 128, 1)} for end in ("", "-fp32")},
    "simd:small": {"icache": (4 * KB, 32, 1), "l1": (4 * KB, 64, 1)},
}
PRESETS = tuple(f"{entry.name}:{preset}" for entry in list_archs() for preset in entry.presets)


def test_every_preset_is_counted():
    assert set(HAND) == set(PRESETS)
    assert set(MEMORIES) <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_operators_and_registers_are_those_counted_by_hand(name):
    found: Counts = {}
    for part in find_arch(name).list_area():
        key = "register bits" if part.op == "register" else f"{part.op} " + "x".join(map(str, part.bits))
        found[key] = found.get(key, 0) + part.count * (part.bits[0] if part.op == "register" else 1)
    assert found == HAND[name]


@pytest.mark.parametrize("dataflow", ["ws", "is"])
@pytest.mark.parametrize("name", ["systolic:base", "fixed8:base"])
def test_sums_that_move_need_no_place_to_leave_from(name, dataflow):
    """Weight and input stationary: sums walk down the columns, one a cell; as many bits as an 8 x 8 product and 32 take."""
    parts = replace(find_arch(name), preset="base+", dataflow=dataflow).list_area()
    assert [part.bits for part in parts if part.op == "register"] == [(8 + 8 + 32,)]


@pytest.mark.parametrize("name", PRESETS)
def test_memories_of_engines_are_those_counted_by_hand(name):
    arch = find_arch(name)
    found = {one.name: (one.capacity_bits, one.width_bits, one.macros) for one in arch.list_memories()}
    assert found == MEMORIES.get(name, {})
    specs = choose_prices(arch, None).buffers
    assert {own: (specs[own].capacity_bits, specs[own].width_bits, specs[own].banks) for own in found} == found


@pytest.mark.parametrize("name", PRESETS)
def test_the_report_s_area_is_that_of_the_operators_counted_by_hand(name):
    """Item by item, by the unit area of the energy table; registers, of many widths, are left to the counts above."""
    arch = find_arch(name)
    prices = choose_prices(arch, None)
    items = prices.price_area()
    shell = {"vector add 16", *(item.name for item in items if item.name.startswith("requant"))}
    for key, count in HAND[name].items():
        if key == "register bits":
            continue
        op, _, bits = key.partition(" ")
        unit = price_op(prices.table, op, *map(int, bits.split("x"))).area_um2
        mine = [item.area_um2 for item in items if item.name.endswith(f" {key}") and item.name not in shell]
        if unit is None:
            assert set(mine) == {None}
        else:
            assert fsum(area for area in mine if area is not None) == pytest.approx(
                count * unit, abs=1e-3
            )  # areas are rounded


def sum_multipliers(name: str, width: int) -> float:
    """Return the area of one preset's multipliers in square multipliers of ``width`` bits: as many bits times bits."""
    products = 0
    for part in find_arch(name).list_area():
        if part.op in ("mult", "fp_mult"):
            products += part.count * part.bits[0] * part.bits[-1]
    return products / width**2


def test_multipliers_of_presets_stand_in_the_ratios_of_their_sources():
    assert sum_multipliers("bismo:cloud", 1) == 4 * sum_multipliers("bismo:edge", 1)
    # SmartExchange compares at 8,192 bit-serial multipliers, which count as 1,024 of 8 bits
    for name in ("diannao", "cambricon-x", "scnn"):
        assert sum_multipliers(f"{name}:comparison", 8) == 8192 / 8
        # 16-bit ones where the paper has them; a quarter as many elements (SCNN: as many)
        assert sum_multipliers(f"{name}:paper", 16) == (1024 if name == "scnn" else 256)
    serial = {part.op: part.count for part in find_arch("smartdeal:paper").list_area()}["booth_digit"]
    assert (
        serial == {part.op: part.count for part in find_arch("bit-pragmatic:comparison").list_area()}["shift"] == 8192
    )
    # a dot product of 32-bit registers does 32 x 32 bits' worth at 2 to 16 bits: 1/16, 1/8, 1/4 and 1/2 of it
    assert sum_multipliers("mpic:paper", 32) == 1 / 16 + 1 / 8 + 1 / 4 + 1 / 2
    assert sum_multipliers("eyeriss:paper", 16) == sum_multipliers("eyeriss:predictor", 16) == 12 * 14


@pytest.mark.parametrize(("name", "word", "bits"), [("bismo:edge", 256, 502), ("bismo:small", 64, 120)])
def test_adders_of_a_popcount_tree_take_its_bits(name, word, bits):
    """128 half adders, 64 of two bits, ... one of eight: 502 bits for 256 inputs; two an input is what is priced."""
    assert sum((word >> level) * level for level in range(1, word.bit_length())) == bits
    arch = find_arch(name)
    adders = sum(part.count * part.bits[0] for part in arch.list_area() if part.op == "add") / (arch.rows * arch.cols)
    assert bits <= adders <= bits + word.bit_length() + 1
