"""Blocks in standard cells under stimuli: what they compute is what their specification computes, and what it costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys")

from accel_rtl.blocks.mac import Mac
from accel_rtl.blocks.requantize import Requantize
from accel_rtl.blocks.systolic_array import SystolicArray
from accel_rtl.emit import emit_rtlil
from accel_rtl.power.activity import LANES, Simulation
from accel_rtl.power.energy import price_activity
from accel_rtl.power.layer_values import cut_windows, list_values
from accel_rtl.power.mapped import map_to_cells
from accel_rtl.power.stimuli import Elements, drive_array, drive_mac, drive_requantize
from hwsim.cli import main
from hwsim.core.errors import HwsimError
from tests.reference import reference
from tests.rtl.naive_netlist import TINY

IHP = ("ihp_sg13g2", "sg13g2_stdcell_typ_1p20V_25C.lib")
REQUANTIZERS = {
    "shift": Requantize(mode="shift", tag_bits=3),
    "mulshift": Requantize(acc_bits=12, multiplier_bits=6, rounding="half_away"),
}


def play(component, stimulus, timed=True):
    """Return a component's netlist, the library, its activity and how many results were compared."""
    _, netlist, library = map_to_cells(emit_rtlil(component), reference(*IHP))
    simulation = Simulation(netlist, stimulus.lanes, timed)
    simulation.reset()
    compared = stimulus.play(simulation)
    return netlist, library, simulation.report(), compared


def draw_elements(spec: Requantize, count: int) -> Elements:
    rng = np.random.default_rng(count)
    top = 1 << spec.acc_bits - 2
    low = -spec.left_bits if spec.mode == "shift" else 0
    return Elements(
        acc=rng.integers(-top, top, count), bias=rng.integers(-top, top, count),
        multiplier=rng.integers(0, 1 << spec.multiplier_bits, count), shift=rng.integers(low, 40, count),
        limits=(int(rng.integers(-100, 100)), -100, 90),
    )  # fmt: skip


@pytest.mark.parametrize("mode", REQUANTIZERS)
@pytest.mark.parametrize("count", [10, 64 * 20 + 5])
def test_requantizers_give_the_stored_integers(mode: str, count: int) -> None:
    spec = REQUANTIZERS[mode]
    stimulus = drive_requantize(spec, "drawn", draw_elements(spec, count))
    netlist, library, activity, compared = play(spec.create(), stimulus)
    assert stimulus.lanes == min(LANES, count // 8)
    assert activity.cycles == stimulus.operations
    assert compared >= stimulus.operations
    settled, timed = (
        price_activity(netlist, library, activity, period_ps=4000, timed=timed) for timed in (False, True)
    )
    assert 0 < settled.switching_pj < timed.switching_pj
    assert (settled.clock_pj, settled.leakage_pj) == (timed.clock_pj, timed.leakage_pj)
    # twice the load of every clock pin, CV^2 each: 2.77 fF at 1.2 V, and internal power beside it
    registers = int(netlist.registers.primary.sum())
    assert settled.clock_pj > registers * 0.00276976 * 1.44
    assert activity.states.sum() == registers * activity.cycles
    # leakage: the library's, of all cells
    leaks = sum(library.cells[name].leakage_w * many for name, many in netlist.counts.items())
    assert settled.leakage_pj == pytest.approx(leaks * 4000)


def test_a_wrong_gate_is_found() -> None:
    spec = REQUANTIZERS["shift"]
    stimulus = drive_requantize(spec, "drawn", draw_elements(spec, 640))
    _, netlist, _ = map_to_cells(emit_rtlil(spec.create()), reference(*IHP))
    wrong = netlist.cells.truth.copy()
    wrong[len(wrong) // 2] ^= np.uint64(0b1111)
    simulation = Simulation(replace(netlist, cells=replace(netlist.cells, truth=wrong)), stimulus.lanes)
    simulation.reset()
    with pytest.raises(
        HwsimError, match=r"drawn: the netlist gives -?\d+, the block's definition -?\d+ \(\d+ differ\)"
    ):
        stimulus.play(simulation)


def test_the_netlist_has_the_area_that_is_counted() -> None:
    found, netlist, library = map_to_cells(emit_rtlil(REQUANTIZERS["shift"].create()), reference(*IHP))
    area = sum(library.cells[name].area_um2 * count for name, count in netlist.counts.items())
    assert area == pytest.approx(found.total.area_um2)
    assert sum(netlist.counts.values()) == sum(count for _, count in found.total.cells)
    assert int(netlist.registers.primary.sum()) == found.total.ff


def test_a_cell_adds_its_products() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.integers(-256, 256, (3, 64, 9)), rng.integers(-128, 128, (3, 64, 9))
    stimulus = drive_mac(Mac(x_bits=9, y_bits=8), "drawn", x, y)
    netlist, library, activity, compared = play(Mac(x_bits=9, y_bits=8).create(), stimulus)
    assert (compared, activity.cycles) == (2 * 64, 2 * 9 * 64)
    quiet = drive_mac(Mac(x_bits=9, y_bits=8), "zeros", np.zeros_like(x), y)
    still = play(Mac(x_bits=9, y_bits=8).create(), quiet)[2]
    energies = [price_activity(netlist, library, one, period_ps=4000).total_pj for one in (activity, still)]
    assert energies[1] < 0.6 * energies[0]


@pytest.mark.parametrize(("rows", "depth"), [(2, 5), (3, 2)])
def test_an_array_gives_its_folds(rows: int, depth: int) -> None:
    """Folds that are deeper than the array has rows, and shallower ones with a gap behind them."""
    rng = np.random.default_rng(rows)
    spec = SystolicArray(rows=rows, cols=2, x_bits=4, y_bits=3, psum_bits=12)
    x, y = rng.integers(-8, 8, (4, 5, rows, depth)), rng.integers(-4, 4, (4, 5, 2, depth))
    stimulus = drive_array(spec, "drawn", x, y)
    compared = play(spec.create(), stimulus)[3]
    assert compared >= 3 * 5 * rows  # folds whose results have left


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["synth", "--preset", "small", "--target", "asic", *words])
    done = capsys.readouterr()
    return code, done.out, done.err


def test_a_drawn_stimulus_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--arch", "fixed8", "--block", "store.requantize", "--energy", "--liberty", str(reference(*IHP))]
    code, text, _ = run(capsys, *words)
    assert code == 0
    lines = text.splitlines()
    assert lines[0].startswith(
        "| pJ an element | elements | switching | internal | clock | leakage | total | with glitches"
    )
    cells = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    assert cells[:2] == ["uniform", "16,384"]
    assert sum(map(float, cells[2:6])) == pytest.approx(float(cells[6]), abs=0.003)
    assert 8 < float(cells[6]) < float(cells[7]) < 15
    assert "no wires (nothing is placed), no clock tree, no load at the outputs" in lines
    code, text, _ = run(capsys, *words, "--json", "--no-glitches", "--seed", "1")
    again = json.loads(text)
    assert again["rows"][0]["settled"]["switching_pj"] == pytest.approx(float(cells[2]), abs=5e-4)
    assert again["rows"][0]["settled"] == again["rows"][0]["timed"]
    assert not again["glitches"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "layer"),
    [
        ("vector", "add_2"),
        ("vector", "average_pooling2d"),
        ("store", "conv2d_7"),
        ("store.requantize", "dense"),
        ("engine.unit.array.cell", "conv2d_5"),
    ],
)
def test_layers_drive_the_units_of_the_shell(block: str, layer: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every result, beat and byte strobe is that of the unit's definition, or the command fails."""
    code, text, error = run(
        capsys, "--arch", "fixed8", "--block", block, "--energy", "--liberty", str(reference(*IHP)), "--net", "resnet8",
        "--layer", layer, "--batch", "3", "--json",
    )  # fmt: skip
    assert code == 0, error
    (row, total) = json.loads(text)["rows"]
    assert row["compared"] > 0
    assert row["whole"] == total["whole"]
    assert row["timed"]["switching_pj"] > row["settled"]["switching_pj"] > 0


def test_bad_requests_take_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny, empty, ihp = tmp_path / "tiny.lib", tmp_path / "empty.lib", str(reference(*IHP))
    tiny.write_text(TINY.replace("internal_power", "other_power"))
    empty.write_text("")
    block = ("--arch", "fixed8", "--block", "store.requantize", "--energy")
    for words, message in (
        (block, "--target: got 'asic', expected --liberty FILE beside it"),
        ((*block, "--liberty", str(tmp_path / "no.lib")), "expected a readable file"),
        ((*block, "--liberty", str(tiny)), "library tiny has no internal_power in any cell"),
        ((*block, "--liberty", str(empty)), "not Liberty: no group"),
        (("--arch", "fixed8", "--energy", "--liberty", ihp), "--block NAME beside it"),
        (("--arch", "fixed8", "--block", "fetch", "--energy", "--liberty", ihp), "a block that has a stimulus"),
        (("--arch", "fixed8", "--block", "store", "--energy", "--liberty", ihp), "--net NAME beside it"),
        ((*block, "--liberty", ihp, "--layer", "fc"), "--layer: got 'fc', expected --net beside it"),
        ((*block, "--liberty", ihp, "--net", "resnet8", "--layer", "conv99"), "conv99"),
        ((*block, "--liberty", ihp, "--period-ps", "0"), "--period-ps: got 0.0, expected a number above 0"),
        (("--arch", "fixed8", "--liberty", ihp, "--net", "resnet8"), "--net: got 'resnet8', expected --energy beside it"),
        (("--arch", "bismo", "--block", "store", "--energy", "--liberty", ihp), "has no RTL"),
        ((*block, "--liberty", ihp, "--slew-ps", "99999999"), "--slew-ps: got 99999999.0, expected at most "),
        ((*block, "--liberty", ihp, "--batch", "1"), "--batch: got 1, expected --net beside it"),
        (("--arch", "fixed8", "--liberty", ihp, "--batch", "2"), "--batch: got 2, expected --energy beside it"),
        (("--arch", "fixed8", "--liberty", ihp, "--slew-ps", "100"), "--slew-ps: got 100.0, expected --energy beside it"),
        (("--arch", "fixed8", "--liberty", ihp, "--policy", "w8a8"), "--policy: got 'w8a8', expected --energy beside it"),
        (("--arch", "fixed8", "--liberty", ihp, "--no-glitches"), "--no-glitches: got True, expected --energy beside it"),
    ):  # fmt: skip
        code, text, error = run(capsys, *words)
        lines = [line for line in error.splitlines() if line.startswith("hwsim: error")]
        assert (code, text, len(lines)) == (2, "", 1), (words, error)
        assert message in lines[0], error
        assert "Yosys" not in error  # nothing is mapped before a request is whole


@pytest.mark.parametrize("name", ["conv2d_1", "conv2d_5", "conv2d_6", "dense", "average_pooling2d", "add_1"])
def test_values_of_a_layer_agree_with_one_another(name: str) -> None:
    """Windows times filters are the accumulators; these, requantized, are what the functional model stores."""
    from hwsim.archs.registry import find_arch
    from hwsim.core.policy import Policy
    from hwsim.engine.functional import quantize_inputs, run_integer
    from hwsim.nets.load import load_network
    from hwsim.nets.synthetic import synthesize_input, synthesize_tensors
    from hwsim.pipeline.tensors import prepare_tensors
    from hwsim.pipeline.workloads import list_workloads

    network = load_network("resnet8").network
    tensors = synthesize_tensors(network, 1)
    image = synthesize_input(network, 1)
    loads = list_workloads(network, Policy())
    quantized = prepare_tensors(network, find_arch("systolic", "small"), Policy(), loads, tensors, image).tensors
    outputs = run_integer(network, quantized, image)
    values = {
        one.layer.name: one for one in list_values(network, quantized, quantize_inputs(network, quantized, image))
    }
    one = values[name]
    layer, parameters, acc = one.layer, one.parameters, one.accumulators
    if one.weight is not None:
        products = one.weight.reshape(layer.K, -1) @ cut_windows(one)[0].T
        np.testing.assert_array_equal(products.reshape(acc.shape[1], -1), acc[0].reshape(acc.shape[1], -1))
    every = slice(None)
    stored = parameters.requant.apply(acc + parameters.bias[:, None, None], every, every, every)
    np.testing.assert_array_equal(np.clip(stored, *parameters.clamp), outputs[name])
