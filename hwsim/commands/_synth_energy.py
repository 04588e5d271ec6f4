"""``hwsim synth --energy``: what a block takes, from the activity of its netlist."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accel_rtl.power.energy import Energy
    from accel_rtl.power.energy_blocks import Block, Measured
    from accel_rtl.power.layer_stimuli import LayerRun
    from accel_rtl.power.liberty import Library
    from accel_rtl.power.stimuli import Stimulus
    from hwsim.core.arch import Arch

_OF_A_NETWORK = ("--image", "--layer", "--weights", "--policy", "--batch")


def check_options(args: argparse.Namespace) -> None:
    """Raise SpecError for options that do not go together; those of --energy that were left out get their defaults."""
    from hwsim.core.errors import SpecError

    values = {"--net": args.net, **{name: getattr(args, name[2:]) for name in _OF_A_NETWORK}}
    if not args.energy:
        values |= {"--period-ps": args.period_ps, "--slew-ps": args.slew_ps, "--no-glitches": args.no_glitches or None}
    elif args.target != "asic":
        raise SpecError("--energy", args.target, "--target asic and --liberty FILE beside it")
    elif not args.block:
        from accel_rtl.power.energy_blocks import OPERATIONS

        raise SpecError("--energy", "the whole accelerator", f"--block NAME beside it: {', '.join(OPERATIONS)}")
    if not args.energy or not args.net:
        for name, value in values.items():
            if value not in (None, ""):
                raise SpecError(name, value, f"{'--net' if args.energy else '--energy'} beside it")
    if not args.energy:
        return
    from accel_rtl.power.energy import SLEW_NS
    from accel_rtl.synth import PERIOD_PS

    for name, value in (("batch", 1), ("period_ps", float(PERIOD_PS)), ("slew_ps", SLEW_NS * 1e3)):
        if getattr(args, name) is None:
            setattr(args, name, value)
    for name, value in (("--period-ps", args.period_ps), ("--slew-ps", args.slew_ps)):
        if not 0 < value <= 1e9:
            raise SpecError(name, value, "a number above 0, at most 1e9")


def check_slew(library: Library, slew_ps: float) -> None:
    """Raise SpecError for a transition beyond the slowest one that the library's power tables have."""
    from hwsim.core.errors import SpecError

    arcs = (arc for cell in library.cells.values() for pin in cell.pins for arc in pin.power)
    slowest = max((slew for arc in arcs for table in (arc.rise, arc.fall) for slew in table.slews_ns), default=0.0)
    if slowest and slew_ps > slowest * 1e3 * (1 + 1e-9):
        raise SpecError(
            "--slew-ps", slew_ps, f"at most {slowest * 1e3:g}, the slowest in {library.name}'s power tables"
        )


def prepare_stimuli(args: argparse.Namespace, arch: Arch, spec: Any) -> list[Stimulus]:
    """Return what the network's layers put to a block; nothing without a network, where a draw drives it."""
    from accel_rtl.power.layer_stimuli import drive_layer
    from accel_rtl.shell.store import StoreUnit
    from accel_rtl.shell.vector import VectorUnit
    from hwsim.core.errors import SpecError

    if not args.net:
        if isinstance(spec, StoreUnit | VectorUnit):
            raise SpecError("--block", args.block, "--net NAME beside it: only a network's layers drive it")
        return []
    stimuli = [drive_layer(spec, arch, run) for run in list_runs(args, arch)]
    found = [stimulus for stimulus in stimuli if stimulus is not None]
    if not found:
        raise SpecError("--net", args.net, f"a network with a layer that runs on {args.block}")
    return found


def run_energy(args: argparse.Namespace, arch: Arch) -> int:
    """Map, simulate, price, print."""
    from pathlib import Path

    from accel_rtl.accelerator import find_engine
    from accel_rtl.power.energy_blocks import draw_stimulus, find_spec, map_block, measure, measure_idle, sum_up
    from accel_rtl.power.liberty import read_library

    liberty = Path(args.liberty).absolute()
    spec = find_spec(find_engine(arch), args.block)
    check_slew(read_library(liberty), args.slew_ps)
    stimuli = prepare_stimuli(args, arch, spec)
    print(f"hwsim: {arch.name} {arch.preset} {args.block}: Yosys maps it to standard cells", file=sys.stderr)
    block = map_block(arch, args.block, liberty)
    stimuli = stimuli or [draw_stimulus(block, args.seed)]
    found = []
    options = {"period_ps": args.period_ps, "slew_ns": args.slew_ps / 1e3}
    for stimulus in stimuli:
        print(f"hwsim: {stimulus.name}: the netlist runs", file=sys.stderr)
        found.append(measure(block, stimulus, **options, glitches=not args.no_glitches))
    total, idle = sum_up(found), measure_idle(block, **options)
    if args.json:
        import json

        print(json.dumps(_build_json(args, block, [*found, total], idle), indent=2, allow_nan=False))
    else:
        print("\n".join(format_energy(args, block, found, total, idle)))
    return 0


def list_runs(args: argparse.Namespace, arch: Arch) -> list[LayerRun]:
    """Return the layers of the network that an accelerator runs, with their values."""
    from accel_rtl.power.layer_stimuli import LayerRun
    from accel_rtl.power.layer_values import list_values
    from hwsim.commands._options import choose_network
    from hwsim.core.errors import SpecError, UnknownName
    from hwsim.engine.functional import quantize_inputs
    from hwsim.nets.synthetic import synthesize_input, synthesize_tensors
    from hwsim.pipeline.prices import choose_prices
    from hwsim.pipeline.tensors import check_sizes, fit_inputs, prepare_tensors
    from hwsim.pipeline.workloads import list_workloads
    from mappers.cache import open_cache

    images, args.batch = args.batch, 1
    network, tensors, policy = choose_network(args)
    if args.layer and args.layer not in {layer.name for layer in network.layers}:
        raise UnknownName("layer", args.layer, [layer.name for layer in network.layers])
    wide = network.with_batch(images)
    check_sizes(wide)
    tensors = tensors or synthesize_tensors(wide, args.seed)
    image: dict[str, Any] = fit_inputs(synthesize_input(wide, args.seed), tensors)
    if args.image:
        from hwsim.commands._image import read_image

        image = dict(read_image(args.image, wide))
    loads = list_workloads(network, policy)
    quantized = prepare_tensors(wide, arch, policy, loads, tensors, image).tensors
    runs, cache = [], open_cache()
    for values in list_values(network, quantized, quantize_inputs(wide, quantized, image)):
        if args.layer and values.layer.name != args.layer:
            continue
        load = loads[values.layer.name]
        if values.layer.kind == "mac":
            arch.check(load)
        datapath = arch.bind(load, None)
        mapping = cache.find(datapath, arch, choose_prices(arch, None).make_objective("cycles", datapath))
        runs.append(LayerRun(values=values, datapath=datapath, mapping=mapping))
    if not runs:
        raise SpecError("--layer" if args.layer else "--net", args.layer or args.net, "a layer that the hardware runs")
    return runs


def format_energy(
    args: argparse.Namespace, block: Block, found: Sequence[Measured], total: Measured, idle: Energy
) -> list[str]:  # fmt: skip
    """Return the table and what has to be known about it."""
    from accel_rtl.power.energy import FIELDS
    from accel_rtl.power.energy_blocks import find_operation

    what, library = find_operation(block.name), block.library
    article = "an" if what == "element" else "a"
    head = [
        f"pJ {article} {what}",
        f"{what}s",
        *(name.removesuffix("_pj") for name in FIELDS),
        "total",
        "with glitches",
        "pJ a cycle",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for one in [*found, *([total] if len(found) > 1 else [])]:
        each = one.settled.scale(one.cycles_per_operation)
        glitched = "-" if args.no_glitches else f"{one.timed.scale(one.cycles_per_operation).total_pj:.3f}"
        cells = [one.name if one is not total else "**total**", f"{one.whole:,}"]
        cells += [f"{getattr(each, name):.3f}" for name in FIELDS]
        cells += [f"{each.total_pj:.3f}", glitched, f"{one.settled.total_pj:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    total_cells, area = sum(block.netlist.counts.values()), block.synthesis.total.area_um2
    pulses = "; with glitches: every cell a unit of time behind its inputs, every pulse counted"
    lines += [
        f"cells: {total_cells:,}, {area:,.0f} um2; {total.compared:,} results equal to the block's definition",
        f"nothing but the clock: {idle.total_pj:.3f} pJ a cycle",
        f"{library.name}, {library.voltage_v:g} V, clock {args.period_ps:g} ps, input slew {args.slew_ps:g} ps",
        "no wires (nothing is placed), no clock tree, no load at the outputs",
        "total: a net changes once a cycle at most" + ("" if args.no_glitches else pulses),
    ]
    if block.netlist.macros:
        bits = sum(macro.width * macro.words for macro in block.netlist.macros)
        lines.append(
            f"memories: {bits:,} bits in {len(block.netlist.macros)} SRAM macros, not priced; {total.reads:.2f} reads and "
            f"{total.writes:.2f} writes {article} {what}"
        )
    return lines


def _build_json(args: argparse.Namespace, block: Block, found: Sequence[Measured], idle: Energy) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "arch": block.arch.name, "preset": block.arch.preset, "block": block.name, "library": block.library.name,
        "voltage_v": block.library.voltage_v, "period_ps": args.period_ps, "slew_ps": args.slew_ps,
        "area_um2": block.synthesis.total.area_um2, "idle": asdict(idle), "glitches": not args.no_glitches,
        "rows": [asdict(one) for one in found],
    }  # fmt: skip
