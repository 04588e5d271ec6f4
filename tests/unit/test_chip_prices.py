"""Area and unit energies of what every chip has: scratchpads with banks and copies, staging, vector and store lanes, own memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from energy_models import load_table
from energy_models.ops import price_op
from energy_models.pricing import BufferSpec, price_actions, price_buffer
from energy_models.sram import sram_cost
from hwsim.archs.registry import find_arch
from hwsim.core.actions import Action
from hwsim.core.datapath import Workload
from hwsim.core.layer import Layer
from hwsim.core.policy import LayerFormat
from hwsim.pipeline.prices import Prices, choose_prices

KB = 8 * 1024
MACROS = {
    # name: (bits of one memory, bits of its word, ports, how many): two banks, `ibuf` once for each of eight rows; a quarter of
    # `obuf` is staging where a preset does not say
    "systolic:small": {
        "wbuf": (16 * KB, 64, "1rw", 2), "ibuf": (8 * KB, 64, "1rw", 2 * 8), "obuf": (16 * KB, 64, "1rw", 2),
        "sbuf": (8 * KB, 64, "1rw", 1),
    },
    "bismo:edge": {
        "wbuf": (32 * KB, 256, "1rw", 2), "ibuf": (32 * KB, 256, "1rw", 2), "obuf": (64 * KB, 2048, "1rw", 2),
        "lhs": (512 * 256, 256, "1r1w", 8), "rhs": (512 * 256, 256, "1r1w", 8),
    },
    "eyeriss:paper": {
        "wbuf": (8 * KB, 64, "1rw", 2), "ibuf": (12 * KB, 64, "1rw", 2), "obuf": (27 * KB, 128, "1rw", 2),
        "sbuf": (14 * KB, 64, "1rw", 1),
    },
    "mpic:paper": {
        "wbuf": (32 * KB, 32, "1rw", 2), "ibuf": (32 * KB, 64, "1rw", 2), "obuf": (64 * KB, 32, "1rw", 2),
        "columns": (8 * KB, 32, "1r1w", 1), "program": (2 * KB, 32, "1r1w", 1), "memory": (512 * KB, 64, "1rw", 1),
    },
    # two banks of a part of `wbuf` for each of 8 x 8 units, of `ibuf` for each of 8 rows, of `obuf` for each of 8 columns
    "bitfusion:8x8": {
        "wbuf": (2 * KB, 32, "1rw", 2 * 64), "ibuf": (4 * KB, 32, "1rw", 2 * 8), "obuf": (KB, 32, "1rw", 2 * 8),
    },
    # 64 B, 1 KB, 256 B
    "bitfusion:E": {"wbuf": (512, 32, "1rw", 2 * 512), "ibuf": (KB, 32, "1rw", 2 * 16), "obuf": (2048, 32, "1rw", 2 * 32)},
}  # fmt: skip


def list_areas(prices: Prices) -> dict[str, float]:
    return {item.name: item.area_um2 for item in prices.price_area() if item.area_um2 is not None}


@pytest.mark.parametrize("name", MACROS)
def test_memories_take_the_area_of_all_their_macros(name):
    prices = choose_prices(find_arch(name), None)
    found = list_areas(prices)
    for own, (bits, width, ports, many) in MACROS[name].items():
        unit = sram_cost(prices.arch.node_nm, "itrs-lstp", bits, width, ports=ports).area_um2
        assert unit is not None
        assert found[own] == pytest.approx(many * unit, abs=1e-3)


@pytest.mark.parametrize(("name", "op", "bits"), [("systolic", "requant", (32, 31)), ("fixed8", "shift", (32,))])
def test_vector_and_store_unit_are_as_wide_as_their_lanes(name, op, bits):
    """A lane: an adder of 16 bits; a multiplier of 32-bit sums by 31 bits and a shifter, on fixed8 a shifter alone."""
    arch = find_arch(name, "base")
    prices = choose_prices(
        replace(arch, preset="base+", shell=replace(arch.shell, vector_lanes=24, store_lanes=7)), None
    )
    found, table = list_areas(prices), prices.table
    assert found["vector add 16"] == pytest.approx(24 * price_op(table, "add", 16).area_um2, abs=1e-3)
    key = f"requant {op} " + "x".join(map(str, bits))
    assert found[key] == pytest.approx(7 * price_op(table, op, *bits).area_um2, abs=1e-3)


def test_copies_are_written_together_and_read_one_by_one():
    """Eight copies of 8 KB: a bit read is one bit of one copy, a bit written is written eight times; all of them leak."""
    table, actions = (
        load_table("horowitz45"),
        [Action(component="ibuf", verb=verb, count=64) for verb in ("read", "write")],
    )
    one, eight = (
        price_actions(
            actions, table, {"ibuf": BufferSpec(capacity_bits=16 * KB, width_bits=64, banks=2, copies=copies)}, None, 100, 1e9
        )
        for copies in (1, 8)
    )  # fmt: skip
    energy = [{(term.component, term.verb): term.unit_pj for term in priced.terms} for priced in (one, eight)]
    assert energy[1]["ibuf", "read"] == energy[0]["ibuf", "read"]
    assert energy[1]["ibuf", "write"] == 8 * energy[0]["ibuf", "write"]
    assert energy[1]["leakage", "ibuf"] == pytest.approx(8 * energy[0]["leakage", "ibuf"])


@pytest.mark.parametrize("name", ["bitfusion:8x8", "bitfusion:E"])
def test_an_access_of_a_split_buffer_costs_what_one_of_its_part_does(name):
    """The report's terms and the mapper's unit energies; leakage is that of all parts; a part below the sweep says so."""
    prices = choose_prices(find_arch(name), None)
    actions = tuple(
        Action(component=c, verb=v, count=4096) for c in ("wbuf", "ibuf", "obuf") for v in ("read", "write")
    )
    priced = price_actions(actions, prices.table, prices.buffers, prices.dram, 1000, prices.arch.clock_hz)
    found = {(term.component, term.verb): term for term in priced.terms}
    layer = Layer(name="x", op="conv", inputs=("x",), K=32, C=32, P=8, Q=8, R=3, S=3, H=10, W=10)
    load = Workload(
        layer=layer,
        fmt=LayerFormat(w_bits=8, a_bits=8),
        out_bits=8,
        operand_bits=(8,),
        operand_shapes=(layer.in_shape,),
    )
    objective = prices.make_objective("energy", prices.arch.bind(load))
    for own, (bits, width, ports, many) in MACROS[name].items():
        unit = sram_cost(prices.arch.node_nm, "itrs-lstp", bits, width, ports=ports)
        assert found[own, "read"].unit_pj == unit.read_pj / width == getattr(objective, f"{own}_read_pj")
        assert found[own, "write"].unit_pj == unit.write_pj / width == getattr(objective, f"{own}_write_pj")
        assert found["leakage", own].unit_pj == pytest.approx(many * unit.leak_mw / prices.arch.clock_hz * 1e9)
        assert ("unverified" in found[own, "read"].note) == (bits < 256 * 8)


def test_a_buffer_is_one_piece_where_an_architecture_says_nothing():
    arch = find_arch("systolic:small")
    assert [arch.buffer_macros(name) for name in ("wbuf", "ibuf", "obuf")] == [1, 1, 1]
    arch = find_arch("bitfusion:E")
    assert [arch.buffer_macros(name) for name in ("wbuf", "ibuf", "obuf", "sbuf")] == [512, 16, 32, 1]


def test_a_second_port_costs_area():
    table = load_table("horowitz45")
    one, two = (price_buffer(BufferSpec(capacity_bits=64 * KB, width_bits=64, ports=p), table) for p in ("1rw", "1r1w"))
    assert two.area_um2 is not None
    assert one.area_um2 is not None
    assert two.area_um2 > 1.2 * one.area_um2  # a second word line and pair of bit lines a cell
