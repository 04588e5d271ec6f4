"""``hwsim cosim``: layers on the generated hardware, every bit and every cycle against the simulator."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from hwsim.commands._options import add_arch_options, choose_arch, choose_network, read_natural, read_positive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosim.plan import Ask, LayerResult, NetworkRun
    from hwsim.commands._progress import Progress
    from hwsim.core.arch import Arch

HELP = "run layers on the generated RTL and compare every bit and cycle with the simulator"
MOST_SHOWN = 10
"""Mismatches of random layers that are printed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_arch_options(parser)
    group = parser.add_argument_group("layers")
    what = group.add_mutually_exclusive_group(required=True)
    what.add_argument("--net", metavar="NAME", help="a network of hwsim list, or a file (.onnx, .tflite)")
    what.add_argument("--many", type=read_natural, metavar="N", help="N random layers, one process a core")
    group.add_argument("--layer", default="", metavar="NAME", help="only this layer of the network")
    group.add_argument(
        "--weights", metavar="SOURCE", help="pretrained, synthetic, or a file (default: the file's own, else synthetic)"
    )
    group.add_argument("--policy", metavar="TEXT", help="bits, e.g. w8a8 (default: a quantized file's own, else w8a8)")
    group.add_argument("--batch", type=read_positive, default=1, metavar="N", help="images of one pass (default: 1)")
    group.add_argument("--image", metavar="FILE", help="input image (.npy, or .png/.jpg with pillow)")
    group.add_argument(
        "--seed", type=read_natural, default=0, metavar="N", help="seed of all that is drawn (default: 0)"
    )
    how = parser.add_argument_group("simulation")
    how.add_argument(
        "--backend",
        choices=("batch", "cocotb"),
        default="batch",
        help="batch: compiled model (default); cocotb: the Verilog on Verilator",
    )
    how.add_argument(
        "--stress",
        type=read_natural,
        metavar="SEED",
        help="random back-pressure on every channel: bits are compared, cycles reported",
    )
    how.add_argument(
        "--waves",
        default="mismatch.vcd",
        metavar="FILE",
        help="VCD of the region of a mismatch (default: mismatch.vcd)",
    )
    how.add_argument("--json", action="store_true", help="print the comparison as JSON, and nothing else")


def run(args: argparse.Namespace) -> int:
    """Run, compare, print; 1 where anything differs."""
    from hwsim.commands._progress import Progress
    from hwsim.core.errors import MissingExtra, SpecError

    if args.layer and not args.net:
        raise SpecError("--layer", args.layer, "--net beside it")
    if args.many == 0:
        raise SpecError("--many", 0, "at least 1")
    arch = choose_arch(args)
    last: list[Ask] = []
    with Progress() as progress:
        try:
            results = _run_many(args, arch, progress) if args.many else _run_network(args, arch, progress, last)
        except ModuleNotFoundError as error:
            raise MissingExtra(str(error.name), "rtl", "co-simulation") from None
    wrong = [result for result in results if result.mismatches]
    notes = [_draw_waves(args, arch, wrong[0], last)] if wrong else []
    if args.json:
        print(json.dumps(_build_json(args, arch, results), indent=2, allow_nan=False))
    else:
        print("\n".join(format_many(results) if args.many else format_network(results, args.stress is not None)))
    for note in notes:
        print(f"hwsim: {note}", file=sys.stderr)
    return 1 if wrong else 0


def _run_many(args: argparse.Namespace, arch: Arch, progress: Progress) -> tuple[LayerResult, ...]:
    if args.backend == "cocotb":
        from cosim.bench.launch import RandomLayers, run_cocotb

        source = RandomLayers(arch=arch, seed=args.seed, numbers=tuple(range(args.many)), stress=args.stress)
        return run_cocotb(arch, source)
    from cosim.run import run_many

    found = run_many(arch, args.many, args.seed, args.stress, progress=progress)
    return tuple(sorted(found, key=lambda result: int(result.name.rsplit(" ", 1)[1])))


def _run_network(args: argparse.Namespace, arch: Arch, progress: Progress, last: list[Ask]) -> tuple[LayerResult, ...]:
    source = make_source(args, arch)
    if args.backend == "cocotb":
        from cosim.bench.launch import run_cocotb

        return run_cocotb(arch, source, last)
    from cosim.harness.model import open_harness
    from cosim.run import drive

    count = sum(layer.kind in ("mac", "vector") for layer in source.network.layers)
    return drive(source.plan(), open_harness(arch), last, progress, 1 if args.layer else count)


def make_source(args: argparse.Namespace, arch: Arch) -> NetworkRun:
    """Return what the options describe: a network with tensors and an input."""
    from cosim.plan import NetworkRun
    from hwsim.nets.synthetic import synthesize_input, synthesize_tensors
    from hwsim.pipeline.tensors import check_sizes, fit_inputs

    network, tensors, policy = choose_network(args)
    if args.batch != 1:
        network = network.with_batch(args.batch)
    check_sizes(network)
    tensors = tensors or synthesize_tensors(network, args.seed)
    image: dict[str, Any] = fit_inputs(synthesize_input(network, args.seed), tensors)
    if args.image:
        from hwsim.commands._image import read_image

        image = dict(read_image(args.image, network))
    return NetworkRun(
        network=network, arch=arch, policy=policy, tensors=tensors, image=image, layer=args.layer, stress=args.stress
    )


def _draw_waves(args: argparse.Namespace, arch: Arch, result: LayerResult, last: list[Ask]) -> str:
    from pathlib import Path

    from cosim.plan import Ask
    from cosim.random_layers import draw_job
    from cosim.run import write_waves

    if args.many:
        number = int(result.name.rsplit(" ", 1)[1])
        job = draw_job(arch, args.seed, number).job
        last[:] = [Ask(job=job, stress=None if args.stress is None else args.stress + number)]
    return "waves of the first mismatch in " + write_waves(arch, last[0], result.mismatches[0], Path(args.waves))


def _build_json(args: argparse.Namespace, arch: Arch, results: Sequence[LayerResult]) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "arch": arch.name, "preset": arch.preset, "memory": arch.memory.label, "backend": args.backend,
        "stress": args.stress, "seed": args.seed, "equal": not any(result.mismatches for result in results),
        "layers": [asdict(result) for result in results],
    }  # fmt: skip


def _ratio(results: Sequence[LayerResult]) -> list[str]:
    """Return cells: simulated cycles a second, the simulator's time, how many times longer the hardware's simulation took."""
    rtl, own = (sum(getattr(result, f"{name}_seconds") for result in results) for name in ("rtl", "simulator"))
    cycles = sum(result.host_cycles for result in results)
    return [f"{cycles / rtl:,.0f}" if rtl else "-", f"{own * 1e3:.2f} ms", f"{rtl / own:,.0f}x" if own else "-"]


def format_network(results: Sequence[LayerResult], stressed: bool = False) -> list[str]:
    """Return the table of a network, a line a layer, and what differs."""
    head = ["layer", "cycles RTL", "simulator", "elements equal", "RTL cycles/s", "simulator time", "RTL/simulator"]
    ran = [result for result in results if not result.skipped]
    rows = [head]
    for result in ran:
        same = "=" if result.cycles == result.expected_cycles else "+" if stressed else "!"
        rows.append([
            result.name, f"{result.cycles:,} {same}", f"{result.expected_cycles:,}",
            f"{result.equal_elements:,} of {result.elements:,}", *_ratio([result]),
        ])  # fmt: skip
    totals = [
        sum(getattr(result, name) for result in ran)
        for name in ("cycles", "expected_cycles", "equal_elements", "elements")
    ]
    same = "=" if totals[0] == totals[1] else "+" if stressed else "!"
    rows.append(["total", f"{totals[0]:,} {same}", f"{totals[1]:,}", f"{totals[2]:,} of {totals[3]:,}", *_ratio(ran)])
    lines = _align(rows)
    lines += [f"{result.name}: not on the hardware: {result.skipped}" for result in results if result.skipped]
    lines += [f"{result.name}: {one.text}" for result in ran for one in result.mismatches]
    wrong = sum(bool(result.mismatches) for result in ran)
    what = "bits" if stressed else "bits and cycles"
    lines.append(f"{len(ran) - wrong} of {len(ran)} layers equal in {what}")
    return lines


def format_many(results: Sequence[LayerResult]) -> list[str]:
    """Return what was found of random layers: counts, speed, and the first ones that differ."""
    wrong = [result for result in results if result.mismatches]
    instructions, elements = (sum(getattr(result, name) for result in results) for name in ("instructions", "elements"))
    cycles = sum(result.cycles for result in results)
    speed, own, ratio = _ratio(results)
    lines = [
        f"{len(results):,} layers, {instructions:,} instructions, {cycles:,} cycles, {elements:,} output elements",
        f"RTL {speed} cycles/s a process; simulator {own} for all, ratio {ratio}",
        f"{len(wrong)} mismatches",
    ]
    for result in wrong[:MOST_SHOWN]:
        lines += [f"{result.name}: {result.text}", *(f"  {one.text}" for one in result.mismatches)]
    if len(wrong) > MOST_SHOWN:
        lines.append(f"... and {len(wrong) - MOST_SHOWN} more")
    return lines


def _align(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
