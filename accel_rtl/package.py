"""A generated accelerator as a folder of files: Verilog, register map, and what tools need to build it.

The same architecture gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from accel_rtl import constraints
from accel_rtl.accelerator import create_accelerator
from accel_rtl.emit import Rtlil, Verilog, emit_rtlil, write_verilog
from accel_rtl.netlist import list_collision_free
from accel_rtl.package_scripts import (
    write_core,
    write_readme,
    write_shell_script,
    write_vivado_ip,
    write_vivado_synth,
    write_yosys_script,
)
from accel_rtl.parts import PARTS
from hwsim.core.arch import Arch

BRAM_BITS = {"ecp5": 18432, "ice40": 4096, "gowin": 18432}
"""Bits of a block RAM: Lattice FPGA-DS-02012 and FPGA-DS-02029, Gowin UG285."""
OPEN_FLOWS = {"ecp5-85k": "ecp5", "ice40": "ice40", "gowin": "gowin"}
"""Parts with Yosys and nextpnr scripts, and the names of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """The files of an accelerator.

    Parameters
    ----------
    name : str
        Top module.
    files : tuple of (str, str)
        Name and content.
    left_out : tuple of str
        What was not written, and why.
    """

    name: str
    files: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...] = ()


def name_top(arch: Arch) -> str:
    """Return the top module's name: ``hwsim_<arch>_<preset>``, ``_custom`` behind a preset with changed fields."""
    preset = arch.preset.replace("+", "_custom")
    return re.sub(r"\W+", "_", f"hwsim_{arch.name}_{preset}").strip("_").lower()


def build_package(arch: Arch, progress: Callable[[str], None] | None = None) -> Package:
    """Return all files of an accelerator.

    Parameters
    ----------
    arch : Arch
    progress : callable, optional
        Called with what is being done.

    Raises
    ------
    SpecError
        A field of the architecture that cannot be built.
    HwsimError
        The architecture has no RTL, or a tool failed.
    """
    tell = progress or (lambda text: None)
    name = name_top(arch)
    component = create_accelerator(arch)
    tell("Amaranth writes RTLIL")
    source = emit_rtlil(component, name)
    tell("Yosys writes Verilog")
    verilog = mark_memories(write_verilog(source), source)
    registers = component.register_map
    files = {
        f"{name}.v": verilog.text,
        f"{name}.f": f"{name}.v\n",
        f"{name}_registers.h": registers.write_header(),
        f"{name}_registers.md": f"# Registers of {name}\n\n{registers.write_markdown()}",
        f"{name}.lpf": constraints.write_lpf(arch.clock_hz),
        f"{name}.xdc": constraints.write_xdc(arch.clock_hz),
        f"{name}.sdc": constraints.write_sdc(arch.clock_hz),
        "vivado_synth.tcl": write_vivado_synth(name, PARTS["xc7"].device),
        "vivado_ip.tcl": write_vivado_ip(name, arch.title),
    }
    left_out, flows = [], []
    bits = measure_memories(source)
    for part, flow in OPEN_FLOWS.items():
        room = PARTS[part].bram * BRAM_BITS[flow]
        if part != "ecp5-85k" and bits > room:
            left_out.append(f"scripts for {flow}: memories of {bits:,} bits, {PARTS[part].device} has {room:,}")
            continue
        flows.append(flow)
        files[f"{flow}.ys"] = write_yosys_script(name, flow)
        files[f"build_{flow}.sh"] = write_shell_script(name, flow, arch.clock_hz)
    if "ice40" in flows:
        files[f"{name}.pcf"] = constraints.write_pcf(arch.clock_hz)
    if "gowin" in flows:
        files[f"{name}.cst"] = constraints.write_cst()
    files[f"{name}.core"] = write_core(name, arch, flows)
    files["README.md"] = write_readme(name, arch, tuple(sorted([*files, "README.md"])), left_out)
    return Package(name=name, files=tuple(sorted(files.items())), left_out=tuple(left_out))


def mark_memories(verilog: Verilog, source: Rtlil) -> Verilog:
    """Return the Verilog with attributes at memories of which no address is read and written in one cycle.

    ``no_rw_check`` tells Yosys, ``ram_style`` Vivado as well, that block RAM does without logic around it.
    """
    text = verilog.text
    for module, memories in list_collision_free(source).items():
        plain = module.removeprefix("\\")
        begin = text.index(f"\nmodule \\{plain} (" if not plain.isidentifier() else f"\nmodule {plain}(")
        end = text.index("\nendmodule", begin)
        body = text[begin:end]
        for memory in memories:
            declared = re.compile(rf"^  (reg \[\d+:\d+\] \\?{re.escape(memory)} ?\[\d+:0\];)$", re.MULTILINE)
            body, count = declared.subn(r'  (* no_rw_check, ram_style = "block" *)\n  \1', body)
            if count != 1:
                raise ValueError(f"memory {memory} of module {plain} stands {count} times in the Verilog")
        text = text[:begin] + body + text[end:]
    return Verilog(name=verilog.name, text=text, digest=verilog.digest, ports=verilog.ports)


def measure_memories(source: Rtlil) -> int:
    """Return the bits of all memories of a design."""
    return sum(int(w) * int(d) for w, d in re.findall(r"^  memory width (\d+) size (\d+) ", source.text, re.MULTILINE))
