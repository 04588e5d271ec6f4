"""Synthesis: counts that are known by construction, and budgets that a change must not exceed unnoticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.extras import require
from tests.reference import reference

require("amaranth", "pyosys")

from amaranth.hdl import Module, Shape, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from accel_rtl import synth
from accel_rtl.blocks.adder_tree import AdderTree
from accel_rtl.blocks.booth import BoothCell
from accel_rtl.blocks.index_select import IndexSelect
from accel_rtl.emit import emit_rtlil
from accel_rtl.synth import format_table, synthesize, synthesize_blocks
from hwsim.core.errors import SpecError


class Mac(wiring.Component):
    """A registered multiply and accumulate: one DSP, registers of product and sum."""

    def __init__(self) -> None:
        super().__init__({"a": In(signed(8)), "b": In(signed(8)), "o": Out(signed(32))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.o.eq(self.o + self.a * self.b)
        return m


class Store(wiring.Component):
    """A memory of 1024 words, one port each way."""

    def __init__(self) -> None:
        super().__init__({"address": In(10), "write": In(1), "at": In(10), "data": In(32), "o": Out(32)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = kept = memory.Memory(shape=Shape(32), depth=1024, init=[])
        write, read = kept.write_port(), kept.read_port()
        m.d.comb += [
            write.addr.eq(self.at), write.en.eq(self.write), write.data.eq(self.data), read.addr.eq(self.address),
            self.o.eq(read.data),
        ]  # fmt: skip
        return m


class Mixed(wiring.Component):
    """A block RAM, and a small memory that is read at once."""

    def __init__(self) -> None:
        super().__init__(
            {"address": In(10), "write": In(1), "at": In(10), "data": In(32), "o": Out(32), "now": Out(32)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.store = store = Store()
        m.submodules.small = small = memory.Memory(shape=Shape(32), depth=16, init=[])
        write, read = small.write_port(), small.read_port(domain="comb")
        m.d.comb += [getattr(store, name).eq(getattr(self, name)) for name in ("address", "write", "at", "data")]
        m.d.comb += [
            write.addr.eq(self.at[:4]), write.en.eq(self.write), write.data.eq(self.data), read.addr.eq(self.address[:4]),
            self.o.eq(store.o), self.now.eq(read.data),
        ]  # fmt: skip
        return m


@pytest.mark.parametrize(("target", "dsp"), [("ecp5", 1), ("gowin", 1), ("ice40", 0)])
def test_registers_and_multipliers_are_counted(target: str, dsp: int) -> None:
    found = synthesize(Mac(), target)
    assert (found.ff, found.dsp, found.bram, found.lutram) == (32, dsp, 0, 0)
    assert found.carry > 0
    assert sum(count for _, count in found.cells) >= found.lut + found.ff + found.carry + found.dsp


@pytest.mark.parametrize("target", ["ecp5", "gowin"])
def test_collision_logic_goes_where_it_is_not_needed(target: str) -> None:
    careful, plain = synthesize(Store(), target), synthesize(Store(), target, collision_free=True)
    assert careful.bram == plain.bram == 2
    assert plain.lut == plain.ff == 0
    assert careful.ff > 0


@pytest.mark.slow
def test_xilinx_flow_runs() -> None:
    found = synthesize(Mac(), "xc7")
    assert (found.dsp, found.bram) == (1, 0)


def test_gates() -> None:
    tree = synthesize(AdderTree(inputs=4, in_bits=8).create(), "gates")
    assert tree.ff == 9 + 9 + 10 + 2
    assert tree.transistors > 4 * tree.ff
    assert tree.gate_equivalents == tree.transistors / 4


def test_standard_cells(tmp_path: Path) -> None:
    library = reference("ihp_sg13g2", "sg13g2_stdcell_typ_1p20V_25C.lib")
    cell = synthesize(BoothCell().create(), "asic", liberty=library)
    assert cell.ff == 100
    assert 100 * 40 < cell.area_um2 < 12_000  # a flip-flop has 47 um2
    assert 500 < cell.path_ps < 6000
    moved = tmp_path / "moved.lib"
    moved.write_bytes(library.read_bytes())
    assert synthesize(BoothCell().create(), "asic", liberty=moved) == cell  # its place says nothing


def test_memories_read_at_once_keep_their_mask() -> None:
    """Yosys stops at a mask of collisions on an asynchronous port."""
    careful, plain = synthesize(Mixed(), "ecp5"), synthesize(Mixed(), "ecp5", collision_free=True)
    assert plain.lutram == careful.lutram > 0
    assert plain.bram == careful.bram > 0
    assert plain.lut < careful.lut


def test_budgets_of_the_blocks_on_ecp5() -> None:
    blocks = {"booth": BoothCell().create(), "select": IndexSelect(rows=12).create()}
    found = synthesize_blocks(blocks, "ecp5")
    assert (found["booth"].ff, found["select"].ff) == (100, 26)
    assert found["booth"].lut <= 230
    assert found["select"].lut <= 190
    lines = format_table(found).splitlines()
    assert lines[0] == "| block | lut | carry | ff | dsp | bram | lutram |"
    assert lines[2].startswith("| booth | ")
    assert lines[3].split("|")[4].strip() == "26"


def test_second_synthesis_runs_no_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    first = synthesize(Mac(), "ecp5")
    monkeypatch.setattr(synth, "run_yosys", lambda *args: pytest.fail("synthesized twice"))
    assert synthesize(Mac(), "ecp5") == first


def test_bad_requests_are_named(tmp_path: Path) -> None:
    mac = Mac()
    emit_rtlil(mac)  # Amaranth warns of a component of which nothing is made
    with pytest.raises(
        SpecError, match=r"synth\.target: got 'stratix', expected one of ecp5, ice40, gowin, xc7, gates, asic"
    ):
        synthesize(mac, "stratix")
    with pytest.raises(SpecError, match=r"synth\.liberty: got None, expected a standard-cell library \(\.lib\)"):
        synthesize(mac, "asic")
    with pytest.raises(SpecError, match=r"synth\.liberty: got '.*absent\.lib', expected a readable file"):
        synthesize(mac, "asic", liberty=tmp_path / "absent.lib")
