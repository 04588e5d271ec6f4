"""``hwsim synth``: what an accelerator takes of an FPGA, in gates or in standard cells, and the clock that it meets."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING

from hwsim.commands._options import add_arch_options, choose_arch, read_positive

if TYPE_CHECKING:
    from accel_rtl.emit import Rtlil
    from accel_rtl.fpga_results import FpgaRecord
    from accel_rtl.netlist import Synthesis
    from accel_rtl.place import Placement
    from hwsim.core.arch import Arch

HELP = "count what an architecture needs on an FPGA, in gates or in standard cells; its clock after place and route"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from accel_rtl.parts import TARGETS

    add_arch_options(parser)
    group = parser.add_argument_group("synthesis")
    group.add_argument("--target", choices=TARGETS, default="ecp5-85k", help="part or kind (default: ecp5-85k)")
    group.add_argument("--liberty", metavar="FILE", help="standard-cell library (.lib), for --target asic")
    group.add_argument("--block", metavar="NAME", help="one block alone, by its path, e.g. engine.unit.array")
    group.add_argument("--no-place", action="store_true", help="counts alone: no place and route (ecp5-85k is placed)")
    group.add_argument(
        "--seed", type=int, default=1, metavar="N", help="seed of the placer, or of the draw (default: 1)"
    )
    group.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else")
    group.add_argument("--record", metavar="DIR", help="write the record into DIR as well")
    energy = parser.add_argument_group("energy of a block, from the activity of its netlist")
    energy.add_argument(
        "--energy", action="store_true", help="simulate the block's standard cells and price what they do"
    )
    energy.add_argument("--net", metavar="NAME", help="values of this network's layers (default: a uniform draw)")
    energy.add_argument("--layer", default="", metavar="NAME", help="only this layer of the network")
    energy.add_argument(
        "--weights", metavar="SOURCE", help="pretrained, synthetic, or a file (default: the file's own)"
    )
    energy.add_argument("--policy", metavar="TEXT", help="bits, e.g. w8a8 (default: the file's own, else w8a8)")
    energy.add_argument("--image", metavar="FILE", help="input images (.npy, or .png/.jpg with pillow)")
    energy.add_argument("--batch", type=read_positive, metavar="N", help="images of them (default: 1)")
    energy.add_argument("--period-ps", type=float, metavar="PS", help="clock period (default: 4000)")
    energy.add_argument("--slew-ps", type=float, metavar="PS", help="transition of inputs (default: 100)")
    energy.add_argument("--no-glitches", action="store_true", help="settled values alone: faster")


def run(args: argparse.Namespace) -> int:
    """Synthesize, print, place, record."""
    from pathlib import Path

    from hwsim.commands._hardware import require_rtl

    arch = choose_arch(args)
    require_rtl("synthesis")
    _check_liberty(args)
    from hwsim.commands._synth_energy import check_options, run_energy

    check_options(args)
    if args.energy:
        return run_energy(args, arch)
    from accel_rtl.accelerator import create_accelerator
    from accel_rtl.emit import emit_rtlil
    from accel_rtl.netlist import cut_block, format_blocks, synthesize_design
    from accel_rtl.parts import PLACED
    from accel_rtl.place import list_tools, place

    placed = args.target in PLACED and not args.no_place
    if placed:
        list_tools()
    label = f"{arch.name} {arch.preset}" + (f" {args.block}" if args.block else "")
    _tell(f"{label}: Amaranth writes RTLIL")
    source = emit_rtlil(create_accelerator(arch))
    if args.block:
        source = cut_block(source, args.block)
    _tell(f"{label}: Yosys maps it to {args.target}")
    found = synthesize_design(source, args.target, liberty=Path(args.liberty).absolute() if args.liberty else None)
    if not args.json:
        print(format_blocks(found))
        _print_demand(found)
    found.check_capacity(label)
    clock = None
    if placed:
        _tell(f"{label}: nextpnr places and routes it (minutes for a whole accelerator)")
        clock = place(source, args.target, seed=args.seed)
        if not args.json:
            print(f"clock after place and route, seed {args.seed}: {clock.fmax_hz / 1e6:.1f} MHz")
    if found.part is not None:
        _record(args, arch, found, clock, source)
    elif args.json:
        from hwsim.core.jsonio import to_json

        print(to_json(found, indent=2))
    return 0


def _check_liberty(args: argparse.Namespace) -> None:
    from pathlib import Path

    from accel_rtl.synth import hash_file
    from hwsim.core.errors import SpecError

    if args.liberty:
        hash_file(Path(args.liberty))
        if args.target != "asic":
            raise SpecError("--liberty", args.liberty, "--target asic beside it")
    elif args.target == "asic":
        raise SpecError("--target", args.target, "--liberty FILE beside it: a standard-cell library (.lib)")


def _tell(text: str) -> None:
    print(f"hwsim: {text}", file=sys.stderr)


def _print_demand(found: Synthesis) -> None:
    for resource, (count, bound) in found.list_demand().items():
        share = f" ({count / bound:.0%})" if bound else ""
        print(f"{resource:>5}: {count:,} of {bound:,}{share}")
    if found.macros:
        print(f"memories: {found.macro_bits:,} bits in {found.macros:,} SRAM macros, in no count above")
    if found.total.path_ps:
        print(f"longest path through logic: {found.total.path_ps:,.0f} ps, registers and wires left out")


def _record(args: argparse.Namespace, arch: Arch, found: Synthesis, clock: Placement | None, source: Rtlil) -> None:
    """Keep the result of a whole design where reports find it; print it if JSON is asked for."""
    from pathlib import Path

    from accel_rtl.fpga_results import list_records, save_record
    from hwsim.core.jsonio import to_json

    record = _make_record(args, arch, found, clock)
    if args.json:
        print(to_json(record, indent=2))
    if args.block:
        return
    older = [one for one in list_records(arch) if one.target == record.target and one.design == record.design]
    if clock is not None or not any(one.fmax_hz for one in older):  # counts alone replace no clock of the same hardware
        save_record(record)
        if args.record:
            _tell(f"recorded in {save_record(record, Path(args.record))}")


def _make_record(args: argparse.Namespace, arch: Arch, found: Synthesis, clock: Placement | None) -> FpgaRecord:
    from accel_rtl.emit import list_versions
    from accel_rtl.fpga_results import BlockCounts, FpgaRecord, key_design

    kinds = ("lut", "carry", "ff", "dsp", "bram", "lutram")
    demand = found.list_demand()
    return FpgaRecord(
        arch=arch.name, preset=arch.preset, target=args.target, fields=key_design(arch), design=found.design,
        command=write_command(args, arch), tools=clock.tools if clock else list_versions(), seed=args.seed,
        capacity={name: bound for name, (_, bound) in demand.items()},
        blocks=tuple(
            BlockCounts(name=b.name, instances=b.instances, **{kind: getattr(b.cost, kind) for kind in kinds}) for b in found.blocks
        ),
        fmax_hz=clock.fmax_hz if clock else 0.0, **{name: count for name, (count, _) in demand.items()},
    )  # fmt: skip


def write_command(args: argparse.Namespace, arch: Arch) -> str:
    """Return the command line that makes a result again."""
    words = ["hwsim", "synth"]
    words += ["--config", args.config] if args.config else ["--arch", arch.name, "--preset", arch.preset.rstrip("+")]
    if args.memory:
        words += ["--memory", args.memory]
    for setting in args.settings:
        words += ["--set", setting]
    words += ["--target", args.target]
    if args.block:
        words += ["--block", args.block]
    if args.no_place:
        words.append("--no-place")
    if args.seed != 1:
        words += ["--seed", str(args.seed)]
    return shlex.join(words)
