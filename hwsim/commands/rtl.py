"""``hwsim rtl``: an accelerator as Verilog, with what tools need to build it."""

from __future__ import annotations

import argparse
import sys

from hwsim.commands._options import add_arch_options, choose_arch

HELP = "write an architecture as Verilog, with register map, constraints and build scripts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_arch_options(parser)
    group = parser.add_argument_group("output")
    group.add_argument("-o", "--output", metavar="DIR", required=True, help="folder that the files are written into")
    group.add_argument("--lint", action="store_true", help="check the Verilog with Verilator as well")


def run(args: argparse.Namespace) -> int:
    """Generate, check, write."""
    import os
    from pathlib import Path

    from hwsim.commands._hardware import require_rtl
    from hwsim.core.errors import HwsimError
    from hwsim.report.files import check_writable, open_folder_atomically

    arch = choose_arch(args)
    check_writable(args.output, folder=True)
    require_rtl("generating hardware")
    from accel_rtl.package import build_package

    package = build_package(arch, lambda text: print(f"hwsim: {text}", file=sys.stderr))
    if args.lint:
        from accel_rtl.emit import Verilog
        from accel_rtl.lint import lint_verilog

        text = dict(package.files)[f"{package.name}.v"]
        found = lint_verilog(Verilog(name=package.name, text=text, digest="", ports=()))
        if found:
            first = found[0]
            raise HwsimError(f"{package.name}.v: {len(found)} findings, line {first.line}: {first.kind}: {first.text}")
    with open_folder_atomically(args.output) as folder:
        for name, text in package.files:
            (folder / name).write_text(text)
    for name, _ in package.files:
        if name.endswith(".sh"):
            os.chmod(Path(args.output) / name, 0o755)
    width = max(len(name) for name, _ in package.files)
    for name, text in package.files:
        print(f"{name:{width}}  {len(text.encode()):>11,} bytes")
    for reason in package.left_out:
        print(f"hwsim: left out: {reason}", file=sys.stderr)
    return 0
