"""The Chrome trace against the cycle engine's own timeline and accounts; loop nests against the Program."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict

import numpy as np
import pytest

from hwsim.archs.overrides import choose_memory, override
from hwsim.archs.registry import find_arch
from hwsim.core.datapath import Workload
from hwsim.core.layer import Layer
from hwsim.core.mapping import ORDERS, Mapping
from hwsim.core.policy import LayerFormat
from hwsim.core.program import EXECUTE, LOAD_I, LOAD_P, LOAD_W, QUEUES, STORE_O, LayerTrace
from hwsim.engine.lower import lower
from hwsim.engine.run import time_program
from hwsim.report.loopnest import find_depth, format_loopnest, list_loops, spills_psums
from hwsim.report.trace import list_slices, write_trace
from tests.cli.fake import make_report

LAYER = Layer(
    name="c", op="conv", inputs=("x",), N=2, G=2, K=12, C=6, P=8, Q=8, R=3, S=3, H=8, W=8, padding=(1, 1, 1, 1)
)
TILES = [(1, 1, 4, 3, 8, 4), (2, 1, 12, 2, 4, 8), (1, 2, 12, 6, 3, 8), (2, 2, 12, 6, 8, 8), (1, 1, 12, 6, 8, 3)]
ARCHS = {
    "flat": find_arch("systolic:small"),
    "ws": override(find_arch("systolic:small"), {"dataflow": "ws", "fold_overlap": "skewed"}),
    "ports": override(find_arch("systolic:small"), {"channels": "per-operand", "bits_per_cycle": "16"}),
    "dram": choose_memory(find_arch("systolic:small"), "lpddr4-3200"),
}


def run_layer(arch, tile, order):
    work = Workload(layer=LAYER, fmt=LayerFormat(), out_bits=8, operand_bits=(8,), operand_shapes=(LAYER.in_shape,))
    program = lower(arch.bind(work), arch, Mapping(tile=tile, order=order))
    run, timeline = time_program(program, arch)
    return run, LayerTrace("c", program, timeline, run.cycles)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(("tile", "order"), [(tile, order) for tile in TILES[:3] for order in ("MKC", "CMK", "KCM")])
def test_slices_match_the_engine(arch, tile, order):
    run, trace = run_layer(ARCHS[arch], tile, order)
    slices = list(list_slices(trace))
    tracks = defaultdict(list)
    for item in slices:
        assert item.cycles > 0
        assert item.start >= 0
        assert item.start + item.cycles <= run.cycles
        tracks[item.track].append((item.start, item.start + item.cycles))
    for name, spans in tracks.items():
        spans.sort()
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans)), name
    table = trace.program.table
    for queue, name in enumerate(QUEUES):
        rows = table["queue"] == queue
        times = zip(trace.timeline.start[rows].tolist(), trace.timeline.end[rows].tolist(), strict=True)
        assert sorted(tracks[name]) == sorted(span for span in times if span[1] > span[0])
    waits = Counter()
    for item in slices:
        if item.track == "exec waits":
            waits[item.name] += item.cycles
    stalls = dict(run.stall_cycles)
    assert sum(waits.values()) == sum(stalls.values()) - stalls["fill"]
    if not stalls["refresh"]:
        assert waits == Counter({name: count for name, count in stalls.items() if name != "fill"})


def test_a_bank_is_taken_by_its_load_and_freed_by_its_last_use():
    _, trace = run_layer(ARCHS["flat"], TILES[0], "MKC")
    table, end = trace.program.table, trace.timeline.end.tolist()
    banks = defaultdict(list)
    for item in list_slices(trace):
        banks[item.track].append(item)
    for buffer, op, bit in (("wbuf", LOAD_W, 0), ("ibuf", LOAD_I, 1)):
        for bank in (0, 1):
            spans = [(item.start, item.start + item.cycles) for item in banks[f"{buffer}[{bank}]"]]
            loads = [i for i in range(len(table)) if table[i]["op"] == op and table[i]["bank"] == bank]
            assert len(spans) == len(loads) > 1
            for number, load in enumerate(loads):
                stop = loads[number + 1] if number + 1 < len(loads) else len(table)
                users = [
                    i
                    for i in range(load, stop)
                    if table[i]["op"] == EXECUTE and int(table[i]["bank"]) >> bit & 1 == bank
                ]
                assert spans[number] == (int(trace.timeline.start[load]), max(end[i] for i in users))


def test_written_trace_is_chrome_json_with_named_tracks(tmp_path):
    report = make_report(2)
    _, trace = run_layer(ARCHS["ports"], TILES[0], "MKC")
    from dataclasses import replace

    stats = replace(report.layers[0].stats, cycles=trace.cycles, compute_cycles=trace.cycles, stall_cycles=())
    report = replace(report, layers=(replace(report.layers[0], name="c", stats=stats), *report.layers[1:]))
    assert write_trace(report, (trace,), tmp_path / "t.json") == []
    found = json.loads((tmp_path / "t.json").read_text())
    names = {e["tid"]: e["args"]["name"] for e in found["traceEvents"] if e["ph"] == "M" and e["name"] == "thread_name"}
    expected = {
        "layers",
        "load",
        "load_w",
        "exec",
        "store",
        "exec waits",
        "wbuf[0]",
        "wbuf[1]",
        "ibuf[0]",
        "ibuf[1]",
        "obuf[0]",
        "obuf[1]",
    }
    assert set(names.values()) == expected
    layers = [e for e in found["traceEvents"] if e["ph"] == "X" and names[e["tid"]] == "layers"]
    assert next((e["name"], e["ts"], e["dur"]) for e in layers) == ("c", 0, trace.cycles)
    assert sum(e["dur"] for e in layers) == report.cycles
    assert found["otherData"]["time_unit"] == "1 us drawn = 1 cycle"
    boxes = [(names[e["tid"]], e["name"], e["ts"], e["dur"]) for e in found["traceEvents"] if e["ph"] == "X"]
    assert {(s.track, s.name, s.start, s.cycles) for s in list_slices(trace)} <= set(boxes)


def len_of(trace):
    """Return the bytes that the writer sets aside for one layer."""
    return 390 * len(trace.program)


def test_a_trace_too_large_is_cut_and_says_so(tmp_path):
    from dataclasses import replace

    report = make_report(3)
    _, trace = run_layer(ARCHS["flat"], TILES[0], "MKC")
    traces = tuple(replace(trace, name=cost.name) for cost in report.layers if cost.cycles)
    (note,) = write_trace(report, traces, tmp_path / "t.json", limit_bytes=len_of(trace) * 13 // 10)
    text = (tmp_path / "t.json").read_text()
    assert len(text) < len_of(trace) * 13 // 10 + 5000
    found = json.loads(text)
    assert found["otherData"]["notes"] == [note]
    assert note == "cut at 0 MB: from layer stage0.block1.conv on (3 layers) only the layer track is drawn"
    layers = [e for e in found["traceEvents"] if e["ph"] == "X" and e["tid"] == 0]
    assert len(layers) == len(traces)
    assert write_trace(report, traces, tmp_path / "t.json") == []


def test_a_failure_leaves_no_trace_file(tmp_path, monkeypatch):
    monkeypatch.setattr("hwsim.report.trace._describe_run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_trace(make_report(1), (), tmp_path / "t.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("tile", TILES)
def test_loop_nest_loads_as_often_as_the_program(tile, order):
    arch = ARCHS["flat"]
    work = Workload(layer=LAYER, fmt=LayerFormat(), out_bits=8, operand_bits=(8,), operand_shapes=(LAYER.in_shape,))
    mapping = Mapping(tile=tile, order=order)
    ops = lower(arch.bind(work), arch, mapping).table["op"]
    loops = list_loops(LAYER, mapping)
    for operand, op in (("W", LOAD_W), ("I", LOAD_I)):
        times = int(np.prod([count for _, _, _, count in loops[: find_depth(loops, operand)]]))
        assert times == (ops == op).sum(), operand
    assert spills_psums(loops) == bool((ops == LOAD_P).any())
    text = format_loopnest(LAYER, mapping)
    assert int(np.prod([count for *_, count in loops])) == (ops == EXECUTE).sum()
    assert text.count("for ") == sum(count > 1 for *_, count in loops)
    assert ("partial sums" in text) == spills_psums(loops)
    if not spills_psums(loops):
        times = int(np.prod([count for _, _, _, count in loops[: find_depth(loops, "O")]]))
        assert times == (ops == STORE_O).sum()


def test_loop_nest_reads_as_expected():
    text = format_loopnest(LAYER, Mapping(tile=(1, 1, 5, 6, 4, 8), order="KMC"), {"wbuf": 8192, "ibuf": 0})
    assert text == "\n".join(
        [
            "# c: conv N2 G2 K12 C6 P8 Q8 R3 S3",
            "# order G K M C (M = N P Q), 24 tiles; given, not searched",
            "for g in 0..2 step 1:  # 2 tiles",
            "  for k in 0..12 step 5:  # 3 tiles, last 2",
            "    load weights -> wbuf, up to 1.00 KiB a bank, stays over n p",
            "    for n in 0..2 step 1:  # 2 tiles",
            "      for p in 0..8 step 4:  # 2 tiles",
            "        load inputs -> ibuf",
            "        take a bank of obuf",
            "        exec N1 G1 K5 C6 P4 Q8 R3 S3",
            "        store outputs",
        ]
    )
