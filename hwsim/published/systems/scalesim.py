"""SCALE-Sim: the baseline of systolic arrays, a check of the engine rather than a system of its own."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING

from hwsim.published.claims import Row, System, find_reference, skip_row
from hwsim.published.scalesim import (
    Array,
    compute_output_size,
    count_filter_reads,
    count_ifmap_reads,
    fold_gemm,
    report_cycles,
    report_ofmap_writes,
    view_as_gemm,
)

if TYPE_CHECKING:
    from pathlib import Path

    from hwsim.core.layer import Layer
    from hwsim.published.scalesim import Dataflow

SOURCE = "a run of SCALE-Sim v3 (3.0.0), ResNet-18 on 32 x 32"
TOPOLOGY = ("scalesim", "resnet18_topology.csv")
SIDE = 32
TOTALS: dict[Dataflow, int] = {"os": 1_718_353, "ws": 2_519_815, "is": 2_838_997}
"""Its Total Cycles, summed over 21 layers."""
HUGE = 1 << 40


def read_shapes(path: Path) -> list[list[int]]:
    """Return height, width, filter height and width, channels, filters, stride of each layer."""
    with path.open(newline="") as lines:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if row]
    return [[int(cell) for cell in row[1:8]] for row in rows[1:]]


def make_layer(shape: list[int]) -> Layer:
    """Return a layer with SCALE-Sim's output size: the overhanging window of an uneven stride is padding."""
    from hwsim.core.layer import Layer

    height, width, r, q, channels, filters, stride = shape
    out = [compute_output_size(n, f, stride) for n, f in ((height, r), (width, q))]
    over = [max(0, (p - 1) * stride + f - n) for p, f, n in zip(out, (r, q), (height, width), strict=True)]
    return Layer(
        name="layer", op="conv", inputs=("x",), C=channels, K=filters, H=height, W=width, R=r, S=q, P=out[0], Q=out[1],
        stride=(stride, stride), padding=(0, 0, over[0], over[1]),
    )  # fmt: skip


def count_engine(layer: Layer, flow: Dataflow) -> tuple[int, int]:
    """Return the compute cycles and the words that the engine reads from both buffers, the layer as one tile."""
    from hwsim.archs.registry import find_arch
    from hwsim.archs.systolic.spec import Systolic
    from hwsim.core.datapath import Workload
    from hwsim.core.mapping import TILE_DIMS, Mapping
    from hwsim.core.policy import LayerFormat
    from hwsim.pipeline.layer import run_layer

    base = find_arch("systolic", "base")
    assert isinstance(base, Systolic)
    shell = replace(base.shell, wbuf_bits=HUGE, ibuf_bits=HUGE, obuf_bits=HUGE)
    arch = replace(base, preset="base+", rows=SIDE, cols=SIDE, dataflow=flow, shell=shell)
    datapath = arch.bind(
        Workload(
            layer=layer, fmt=LayerFormat(), out_bits=8, operand_bits=(8,), operand_shapes=(layer.in_shape,),
        )
    )  # fmt: skip
    mapping = Mapping(tile=tuple(getattr(layer, dim) for dim in TILE_DIMS), order="MKC")
    stats = run_layer(datapath, arch, mapping)[0]
    reads = [a.count for a in stats.actions if a.verb == "read" and a.component in ("wbuf", "ibuf")]
    return stats.compute_cycles, sum(reads) // 8


def reproduce() -> tuple[Row, ...]:
    """Return SCALE-Sim's rows: cycles by dataflow, words read, its known miscount."""
    path = find_reference(*TOPOLOGY)
    if path is None:
        return tuple(skip_row(f"cycles, {flow}", SOURCE, *TOPOLOGY) for flow in TOTALS)
    shapes = read_shapes(path)
    gemms = [view_as_gemm(*shape) for shape in shapes]
    rows, reads = [], []
    for flow, total in TOTALS.items():
        array = Array(rows=SIDE, cols=SIDE, dataflow=flow)
        found = [count_engine(make_layer(shape), flow) for shape in shapes]
        rows.append(
            Row(
                claim=f"cycles of ResNet-18 on {SIDE} x {SIDE}, {flow}, each layer one tile", source=SOURCE, unit="cycles",
                claimed=total, equations=sum(report_cycles(gemm, array) for gemm in gemms),
                simulated=sum(cycles for cycles, _ in found),
                why=f"one more a layer ({len(shapes)}): it reports the index of the last cycle for their number (its issue 125)",
            )
        )  # fmt: skip
        words = sum(count_ifmap_reads(gemm, array) + count_filter_reads(gemm, array) for gemm in gemms)
        reads.append(
            Row(
                claim=f"words read from the input and weight SRAM, {flow}", source=SOURCE, unit="words", claimed=words,
                equations=words, simulated=sum(words for _, words in found),
                why="the claim is the sum of its reports, which its equations give row by row (tests/published/test_scalesim.py)",
            )
        )  # fmt: skip
    array = Array(rows=SIDE, cols=SIDE, dataflow="os")
    idle = sum(fold_gemm(gemm, array).folds * 2 * SIDE for gemm in gemms)
    written = sum(report_ofmap_writes(gemm, array) for gemm in gemms)
    outputs = sum(gemm.M * gemm.N for gemm in gemms)
    miscount = Row(
        claim="words written to the output SRAM, os", source=SOURCE, unit="words", claimed=written, equations=written,
        simulated=outputs,
        why=f"every output is written once; its report adds {idle:,} idle slots, rows + columns a fold (its issue 166)",
    )  # fmt: skip
    return (*rows, *reads, miscount)


SYSTEM = System(
    name="scalesim", title="systolic arrays, the baseline of the field", reproduce=reproduce, archs=("systolic",), order=3,
    source="Samajdar et al., SCALE-Sim, arXiv 1811.02883; scalesim 3.0.0",
)  # fmt: skip
