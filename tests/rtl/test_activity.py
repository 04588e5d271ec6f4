"""Netlists of gates: values and counts against a naive simulator, energy against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys")

from accel_rtl.power.activity import Simulation, arrange, collect, join, spread, spread_alike
from accel_rtl.power.energy import price_activity
from accel_rtl.power.liberty import Library, PowerTable, read_library
from accel_rtl.power.liberty_logic import tabulate
from accel_rtl.power.mapped import read_netlist
from hwsim.core.errors import InputError, SpecError
from tests.reference import reference
from tests.rtl.naive_netlist import TINY, NaiveNetlist, build_design, evaluate

IHP = ("ihp_sg13g2", "sg13g2_stdcell_typ_1p20V_25C.lib")


@pytest.fixture
def tiny(tmp_path: Path) -> Library:
    path = tmp_path / "tiny.lib"
    path.write_text(TINY)
    return read_library(path)


def draw_design(rng: np.random.Generator):
    """Return a random netlist: three inputs of two bits, gates that read what stands before them, flip-flops in loops."""
    bits, cells = [3, 4, 5, 6, 7, 8, "0", "1"], []
    flops = list(range(100, 100 + int(rng.integers(1, 6))))
    bits += flops
    for out in range(20, 20 + int(rng.integers(4, 25))):
        kind, names = (("NAND", "AB"), ("INV", "A"), ("XOR", "AB"), ("MUX", ("D0", "D1", "S")))[rng.integers(4)]
        cells.append((kind, {**{name: bits[rng.integers(len(bits))] for name in names}, "Y": out}))
        bits.append(out)
    for k, out in enumerate(flops):
        pins = {"CK": 2, "D": bits[rng.integers(len(bits))], "Q": out}
        cells.append(("DFF", {**pins, "RB": "1"}) if k % 2 else ("DFFN", {**pins, "QN": out + 50}))
    order = rng.permutation(len(cells))
    return build_design(
        {"a": [3, 4], "b": [5, 6], "c": [7, 8]}, {"o": bits[-4:], "n": [150]}, [cells[i] for i in order]
    )


@pytest.mark.kernel
@pytest.mark.unjitted
@pytest.mark.parametrize("seed", range(12))
def test_values_and_counts_are_those_of_a_naive_simulator(tiny: Library, seed: int) -> None:
    rng = np.random.default_rng(seed)
    design = draw_design(rng)
    netlist = read_netlist(design, tiny)
    lanes, cycles, warm = int(rng.integers(1, 65)), 9, 2
    drawn = rng.integers(0, 4, (3, cycles, lanes))
    simulation = Simulation(netlist, lanes)
    ports = {name: spread(values, 2) for name, values in zip("abc", drawn, strict=True)}
    rows = arrange(netlist, ports, cycles)
    seen = np.concatenate([simulation.run(rows[:warm], counted=False), simulation.run(rows[warm:])])
    found = {name: collect(words)[:, :lanes] for name, words in simulation.split(seen).items()}
    naive = [NaiveNetlist(design) for _ in range(lanes)]
    module = design["modules"]["top"]
    for t in range(cycles):
        for lane, one in enumerate(naive):
            inputs = {
                bit: int(drawn[k, t, lane]) >> i & 1 for k in range(3) for i, bit in enumerate((3 + 2 * k, 4 + 2 * k))
            }
            values = one.step(inputs, t >= warm)
            for name in "on":
                bits = module["ports"][name]["bits"]
                assert found[name][t, lane] == sum(values[bit] << i for i, bit in enumerate(bits))
    activity = simulation.report()
    assert activity.cycles == (cycles - warm) * lanes
    pins = {}  # the design's bits by the netlist's nets: outputs of cells and ports
    for port, nets in {**netlist.inputs, **netlist.outputs}.items():
        pins |= dict(zip(module["ports"][port]["bits"], nets, strict=True))
    for row in range(2):
        for bit, net in pins.items():
            assert activity.toggles[row, net] == sum(one.toggles[row][bit] for one in naive), (row, bit)
            assert activity.rises[row, net] == sum(one.rises[row][bit] for one in naive), (row, bit)
        everything = sum(one.toggles[row][bit] for one in naive for bit in one.toggles[row])
        assert activity.toggles[row].sum() == everything


def test_settled_values_alone_give_the_same_counts(tiny: Library) -> None:
    rng = np.random.default_rng(5)
    netlist = read_netlist(draw_design(rng), tiny)
    rows = rng.integers(0, 1 << 62, (20, 6)).astype(np.uint64)
    counts = []
    for timed in (True, False):
        simulation = Simulation(netlist, 64, timed)
        simulation.run(rows[:1], counted=False)
        simulation.run(rows[1:])
        counts.append(simulation.report())
    for name in ("toggles", "rises", "shares"):
        np.testing.assert_array_equal(getattr(counts[0], name)[0], getattr(counts[1], name)[0])
        assert not getattr(counts[1], name)[1].any()
    np.testing.assert_array_equal(counts[0].states, counts[1].states)
    assert (counts[0].toggles[1] >= counts[0].toggles[0]).all()


def test_energy_of_three_cells_by_hand(tiny: Library) -> None:
    """NAND of a and b, an inverter behind it, a register behind that: 2 V, one stream, four counted cycles."""
    design = build_design(
        {"a": [3], "b": [4]}, {"q": [7]},
        [("NAND", {"A": 3, "B": 4, "Y": 5}), ("INV", {"A": 5, "Y": 6}), ("DFF", {"CK": 2, "D": 6, "Q": 7, "RB": "1"})],
    )  # fmt: skip
    netlist = read_netlist(design, tiny)
    simulation = Simulation(netlist, 1)
    simulation.run(arrange(netlist, {}, 1), counted=False)  # a = b = 0: y = 1, inverted 0, q = 0
    steps = [(1, 0), (1, 1), (0, 0), (0, 0)]
    rows = np.array([[a, b] for a, b in steps], np.uint64)
    simulation.run(rows)
    # a rises and falls; b rises and falls; y falls (by b) and rises (by both); the inverter the other way; q rises and falls
    found = price_activity(netlist, tiny, simulation.report(), period_ps=1000, slew_ns=0.2)
    loads = {"a": 0.01, "b": 0.02, "y": 0.04, "d": 0.07, "q": 0.0}
    switching = 0.5 * 2.0**2 * 2 * sum(loads.values())
    nand_rise = 2.4  # at slew 0.2: 2.0 without load, 3.0 at 0.1 pF; the inverter loads it with 0.04
    nand = 0.25 + (nand_rise + 0.25) / 2  # the fall came with b, the rise with both
    internal = nand + (0.1 + 0.2) + 2 * (0.3 + 0.5) / 2 + (0.6 + 0.8)
    # states (d, q) by cycle: 0 0, 1 0, 0 1, 0 0; never both: 0.02 and 0.04 each cycle
    clock = 4 * (0.06 + 0.05 * 2.0**2)
    assert found.switching_pj == pytest.approx(switching / 4)
    assert found.internal_pj == pytest.approx(internal / 4)
    assert found.clock_pj == pytest.approx(clock / 4)
    assert found.leakage_pj == pytest.approx((3 + 1 + 6) * 1e-9 * 1000)
    assert found.total_pj == pytest.approx((switching + internal + clock) / 4 + 1e-5)


def test_a_glitch_is_counted_where_cells_take_time(tiny: Library) -> None:
    """a against its own inverse: the XOR never changes once settled, and twice at each of four changes of a."""
    design = build_design(
        {"a": [3]}, {"o": [5]}, [("INV", {"A": 3, "Y": 4}), ("XOR", {"A": 3, "B": 4, "Y": 5})], clocked=False
    )
    netlist = read_netlist(design, tiny)
    simulation = Simulation(netlist, 64)
    simulation.run(arrange(netlist, {}, 1), counted=False)
    simulation.run(spread_alike(0b0101, 4)[:, None])
    activity, out = simulation.report(), netlist.outputs["o"][0]
    assert activity.toggles[0, out] == 0
    assert activity.toggles[1, out] == 64 * 4 * 2
    settled, timed = (price_activity(netlist, tiny, activity, period_ps=1, timed=timed) for timed in (False, True))
    assert settled.switching_pj == timed.switching_pj  # nothing hangs on the output


@pytest.mark.parametrize("bits", [1, 7, 33, 63])
def test_integers_come_back_from_their_bits(bits: int) -> None:
    rng = np.random.default_rng(bits)
    values = rng.integers(-(1 << bits - 1), 1 << bits - 1, (5, 64))
    np.testing.assert_array_equal(collect(spread(values, bits), signed=True), values)
    np.testing.assert_array_equal(collect(spread(values & (1 << bits) - 1, bits)), values & (1 << bits) - 1)
    pair = join([spread(values, bits), spread_alike(2, 2)])
    assert pair.shape == (5, bits + 2)
    assert (pair[:, bits] == 0).all()
    assert (~pair[:, bits + 1] == 0).all()


@pytest.mark.parametrize(
    "function", ["!(A*B)", "A'", "A B | !C", "(A+B)*(C^D)", "!A ^ B & C", "((A))'", "!(A & (B | !C)) ^ D", "1", "0"]
)
def test_truth_tables_are_those_of_the_expression(function: str) -> None:
    pins = "ABCD"
    table = tabulate(function, pins)
    text = (
        function.replace("((A))'", "!A").replace("A'", "!A").replace("A B", "A & B").replace("+", "|").replace("*", "&")
    )
    # Liberty binds ^ closer than &: written out where that matters
    text = text.replace("!A ^ B & C", "(!A ^ B) & C")
    for row in range(16):
        values = {pin: bool(row >> k & 1) for k, pin in enumerate(pins)}
        python = text.replace("!", " True ^ ").replace("1", "True").replace("0", "False")
        if function == "!A ^ B & C":
            python = "((not A) ^ B) and C"
        if function == "A B | !C":
            python = "(A and B) or not C"
        assert (table >> row & 1) == int(eval(python, {}, values)), (function, row)
    with pytest.raises(ValueError, match="unknown pin 'E'"):
        tabulate("A*E", pins)
    with pytest.raises(ValueError, match="parenthesis"):
        tabulate("(A", pins)


def test_tables_are_bilinear_and_hold_their_edges() -> None:
    table = PowerTable(slews_ns=(1.0, 3.0), loads_pf=(0.0, 1.0), values_pj=(0.0, 10.0, 20.0, 30.0))
    assert table.evaluate(2.0, 0.5) == pytest.approx(15.0)
    assert table.evaluate(0.0, 0.25) == pytest.approx(2.5)
    assert table.evaluate(9.0, 9.0) == 30.0
    assert PowerTable(values_pj=(4.0,)).evaluate(1, 1) == 4.0
    assert PowerTable(slews_ns=(1.0, 2.0), values_pj=(1.0, 2.0)).evaluate(1.5, 7) == pytest.approx(1.5)


def test_ihp_library_is_read_as_it_stands() -> None:
    library = read_library(reference(*IHP))
    assert (library.voltage_v, len(library.cells)) == (1.2, 84)
    nand, flop = library.cells["sg13g2_nand2_1"], library.cells["sg13g2_dfrbpq_1"]
    assert [(pin.name, pin.capacitance_pf) for pin in nand.inputs] == [("A", 0.00288593), ("B", 0.00297812)]
    assert nand.leakage_w == pytest.approx(81.2456e-12)
    arc = next(arc for arc in nand.find_pin("Y").power if arc.related == ("A",))
    assert arc.rise.evaluate(0.0966, 0.0234) == pytest.approx(0.00187958)
    assert arc.fall.evaluate(2.5074, 0.3) == pytest.approx(0.00335023)
    assert flop.register is not None
    assert (flop.register.clock, flop.register.clear) == ("CLK", "!RESET_B")
    assert len(flop.find_pin("CLK").power) == 7
    assert library.cells["sg13g2_dlhq_1"].latch


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("library (tiny) {", "library (tiny) { ??"), r"line 2: not Liberty: '\?\?"),
        (lambda text: text.rstrip()[:-1], "group library is not closed"),
        (lambda text: "cell (X) { }", "line 1: got 'cell', expected library"),
        (lambda text: text.replace("nom_voltage : 2.0", "nom_voltage : high"), "nom_voltage: got 'high', expected a number"),
        (lambda text: text.replace("internal_power", "other_power"), "library tiny has no internal_power in any cell"),
        (lambda text: text.replace('"1.0, 2.0", "3.0, 4.0"', '"1.0, 2.0"'), "2 values for 2 slews and 2 loads"),
        (lambda text: text.replace('"1nW"', '"1 cat"'), "unit '1 cat', expected one of W"),
    ],
)  # fmt: skip
def test_bad_libraries_take_one_line(tmp_path: Path, change, message: str) -> None:
    path = tmp_path / "bad.lib"
    path.write_text(change(TINY))
    with pytest.raises(InputError, match=message) as caught:
        read_library(path)
    assert "\n" not in str(caught.value).strip() or str(caught.value).count("\n") == 1


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([("FANCY", {"A": 3, "Y": 4})], "got 'FANCY', expected a cell of tiny"),
        ([("LATCH", {"G": 3, "D": 3, "Q": 4})], "no latch"),
        ([("DFF", {"CK": 3, "D": 3, "Q": 4, "RB": "1"})], "a flip-flop at the rising edge of clk"),
        ([("DFF", {"CK": 2, "D": 3, "Q": 4, "RB": 3})], "a flip-flop whose !RB is tied off"),
        ([("INV", {"A": 4, "Y": 5}), ("INV", {"A": 5, "Y": 4})], "2 cells in a loop"),
    ],
)
def test_netlists_that_cannot_be_simulated_are_refused(tiny: Library, cells, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read_netlist(build_design({"a": [3]}, {"o": [4]}, cells), tiny)


def test_ports_of_another_netlist_are_refused(tiny: Library) -> None:
    netlist = read_netlist(build_design({"a": [3, 4]}, {"o": [5]}, [("NAND", {"A": 3, "B": 4, "Y": 5})], False), tiny)
    with pytest.raises(InputError, match="port b: the netlist has none of that name"):
        arrange(netlist, {"b": spread_alike(0, 1)}, 1)
    with pytest.raises(InputError, match="port a: 3 bits, the netlist has 2"):
        arrange(netlist, {"a": spread_alike(0, 3)}, 1)
    assert evaluate("!(A*B)", {"A": 1, "B": 1}) == 0
