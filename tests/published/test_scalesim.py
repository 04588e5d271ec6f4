"""SCALE-Sim v3's reports of ResNet-18 on 32 x 32, its equations, and the systolic engine: three ways to the same counts."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.systolic.spec import PRESETS
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, Mapping
from hwsim.engine.lower import lower
from hwsim.engine.run import time_program
from hwsim.published import scalesim as s
from tests.naive_cases import HUGE, workload_of
from tests.reference import reference

TOTALS = {"os": 1_718_353, "ws": 2_519_815, "is": 2_838_997}


def read_rows(name: str) -> list[dict[str, str]]:
    """Read a CSV of the reference run; its headers and cells are padded and each line ends with a comma."""
    with reference("scalesim", name).open(newline="") as lines:
        header, *rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if row]
    return [dict(zip(header, row, strict=False)) for row in rows]


def read_layers() -> list[list[int]]:
    """Return height, width, filter height and width, channels, filters, stride of each layer."""
    return [[int(cell) for cell in list(row.values())[1:8]] for row in read_rows("resnet18_topology.csv")]


def as_layer(height: int, width: int, r: int, q: int, channels: int, filters: int, stride: int) -> Layer:
    """Return the layer with SCALE-Sim's output size: the overhanging window of an uneven stride is padding here."""
    out = [s.compute_output_size(n, f, stride) for n, f in ((height, r), (width, q))]
    over = [max(0, (p - 1) * stride + f - n) for p, f, n in zip(out, (r, q), (height, width), strict=True)]
    return Layer(
        name="layer", op="conv", inputs=("x",), C=channels, K=filters, H=height, W=width, R=r, S=q, P=out[0], Q=out[1],
        stride=(stride, stride), padding=(0, 0, over[0], over[1]),
    )  # fmt: skip


def run_engine(layer: Layer, array: s.Array) -> tuple[int, int, int, int]:
    """Return compute cycles, exec instructions, ibuf and wbuf words read, all through lowering and shell kernel, as one tile."""
    base = PRESETS["base"]
    shell = replace(base.shell, wbuf_bits=HUGE, ibuf_bits=HUGE, obuf_bits=HUGE)
    arch = replace(base, preset="base+", rows=array.rows, cols=array.cols, dataflow=array.dataflow, shell=shell)
    datapath = arch.bind(workload_of(layer))
    mapping = Mapping(tile=tuple(getattr(layer, dim) for dim in TILE_DIMS), order="MKC")
    program = lower(datapath, arch, mapping)
    run, _ = time_program(program, arch)
    reads = {a.component: a.count for a in datapath.count_actions(mapping) if a.verb == "read"}
    return run.compute_cycles, int((program.table["op"] == 3).sum()), reads["ibuf"] // 8, reads["wbuf"] // 8


@pytest.mark.parametrize("flow", ["os", "ws"])
def test_equations_equal_every_row_of_the_reports(flow):
    array = s.Array(rows=32, cols=32, dataflow=flow)
    compute, access = read_rows(f"{flow}_compute_report.csv"), read_rows(f"{flow}_detailed_access_report.csv")
    layers = read_layers()
    assert len(layers) == len(compute) == len(access) == 21
    for row, words, shape in zip(compute, access, layers, strict=True):
        gemm = s.view_as_gemm(*shape)
        assert s.report_cycles(gemm, array) == int(row["Total Cycles"])
        assert s.report_mapping_efficiency(gemm, array) == pytest.approx(float(row["Mapping Efficiency %"]), rel=1e-12)
        assert s.report_overall_utilization(gemm, array) == pytest.approx(float(row["Overall Util %"]), rel=1e-12)
        assert s.report_compute_utilization(gemm, array) == pytest.approx(float(row["Compute Util %"]), rel=1e-12)
        assert s.count_ifmap_reads(gemm, array) == int(words["SRAM IFMAP Reads"])
        assert s.count_filter_reads(gemm, array) == int(words["SRAM Filter Reads"])
        assert s.report_ofmap_writes(gemm, array) == int(words["SRAM OFMAP Writes"])


@pytest.mark.parametrize("flow", ["os", "ws", "is"])
def test_totals_of_the_reference_run(flow):
    array = s.Array(rows=32, cols=32, dataflow=flow)
    assert sum(s.report_cycles(s.view_as_gemm(*shape), array) for shape in read_layers()) == TOTALS[flow]


@pytest.mark.parametrize("flow", ["os", "ws", "is"])
def test_engine_computes_resnet18_in_their_cycles_plus_one_and_with_their_reads(flow):
    array = s.Array(rows=32, cols=32, dataflow=flow)
    for shape in read_layers():
        gemm = s.view_as_gemm(*shape)
        assert run_engine(as_layer(*shape), array) == (
            s.report_cycles(gemm, array) + 1,
            1,
            s.count_ifmap_reads(gemm, array),
            s.count_filter_reads(gemm, array),
        )


SIDES = st.integers(1, 48)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data(), SIDES, SIDES, st.sampled_from(["os", "ws", "is"]))
def test_engine_equals_the_equations_on_random_convolutions_and_gemms(data, rows, cols, flow):
    array = s.Array(rows=rows, cols=cols, dataflow=flow)
    if data.draw(st.booleans(), "gemm"):
        m, k, n = (data.draw(st.integers(1, 300)) for _ in range(3))
        layer, gemm = Layer(name="layer", op="gemm", inputs=("x",), N=m, C=k, K=n), s.Gemm(M=m, K=k, N=n)
    else:
        window = [data.draw(st.integers(1, 7)) for _ in range(2)]
        size = [data.draw(st.integers(f, 40)) for f in window]
        shape = (
            *size,
            *window,
            data.draw(st.integers(1, 40)),
            data.draw(st.integers(1, 80)),
            data.draw(st.integers(1, 3)),
        )
        layer, gemm = as_layer(*shape), s.view_as_gemm(*shape)
    assert layer.macs == gemm.macs
    assert run_engine(layer, array) == (
        s.report_cycles(gemm, array) + 1,
        1,
        s.count_ifmap_reads(gemm, array),
        s.count_filter_reads(gemm, array),
    )


def test_an_uneven_stride_hangs_over_the_edge():
    assert s.compute_output_size(224, 7, 2) == 110  # (224 - 7) // 2 + 1 = 109 windows fit
    assert s.compute_output_size(56, 3, 1) == 54
