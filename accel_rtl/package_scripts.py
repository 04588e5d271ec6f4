"""Scripts that go with a generated accelerator: Yosys, nextpnr, Vivado, FuseSoC."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hwsim.core.arch import Arch
from hwsim.core.version import VERSION

INTERFACES = ("s_axi_ctrl", "m_axi_mem", "m_axi_prog")
"""Prefixes of the AXI ports."""
_SYNTH = {
    "ecp5": "synth_ecp5 -top {name} -json {name}_ecp5.json",
    "ice40": "synth_ice40 -top {name} -json {name}_ice40.json",
    "gowin": "synth_gowin -top {name} -json {name}_gowin.json",
}


def write_yosys_script(name: str, flow: str) -> str:
    """Return a Yosys script: ``yosys -s <flow>.ys`` in the folder of the files."""
    synth = _SYNTH[flow].format(name=name)
    return f"read_verilog {name}.v\nhierarchy -check -top {name}\ncheck -assert\n{synth}\nstat\n"


def write_shell_script(name: str, flow: str, clock_hz: float) -> str:
    """Return a script that synthesizes, places and routes with the open tools; tools by the variables YOSYS and NEXTPNR."""
    mhz = f"{clock_hz / 1e6:g}"
    lines = ["#!/bin/sh", "set -eu", 'cd "$(dirname "$0")"', f'"${{YOSYS:-yosys}}" -s {flow}.ys']
    if flow == "ecp5":
        files = f"--json {name}_ecp5.json --lpf {name}.lpf --report {name}_ecp5_report.json"
        lines.append("# pads are left out: this measures the logic between registers")
        lines.append(
            f'"${{NEXTPNR:-nextpnr-ecp5}}" --85k --package CABGA756 {files} --lpf-allow-unconstrained --out-of-context '
            f"--freq {mhz} --timing-allow-fail --seed 1"
        )
    else:
        lines.append(
            "# nextpnr wants a pin for every port, the AXI ports have more bits than the package pins: place it in a design"
        )
    return "\n".join(lines) + "\n"


def write_vivado_synth(name: str, part: str) -> str:
    """Return a Vivado script: ``vivado -mode batch -source vivado_synth.tcl [-tclargs PART]``, out of context."""
    return "\n".join(
        [
            "# vivado -mode batch -source vivado_synth.tcl -tclargs PART",
            f"set part {part}",
            "if {[llength $argv] > 0} { set part [lindex $argv 0] }",
            "set here [file dirname [file normalize [info script]]]",
            "create_project -in_memory -part $part",
            f"read_verilog [file join $here {name}.v]",
            f"read_xdc -mode out_of_context [file join $here {name}.xdc]",
            f"synth_design -top {name} -part $part -mode out_of_context",
            "opt_design",
            "place_design",
            "route_design",
            f"report_utilization -hierarchical -file [file join $here {name}_utilization.rpt]",
            f"report_timing_summary -file [file join $here {name}_timing.rpt]",
            f"write_checkpoint -force [file join $here {name}.dcp]",
            "",
        ]
    )


def write_vivado_ip(name: str, title: str) -> str:
    """Return a Vivado script that packages the design as IP (IP-XACT); AXI interfaces are inferred by the ports' names."""
    lines = [
        "# vivado -mode batch -source vivado_ip.tcl: the IP appears in the folder ip",
        "set here [file dirname [file normalize [info script]]]",
        "create_project -in_memory",
        f"add_files [file join $here {name}.v]",
        f"set_property top {name} [current_fileset]",
        "ipx::package_project -root_dir [file join $here ip] -vendor hwsim -library accelerators -taxonomy /UserIP -import_files",
        "set core [ipx::current_core]",
        f"set_property name {name} $core",
        f"set_property display_name {{{title}}} $core",
    ]
    lines += [f"ipx::associate_bus_interfaces -busif {bus} -clock clk $core" for bus in INTERFACES]
    lines += [
        "set reset [ipx::get_bus_interfaces rst -of_objects $core]",
        "set_property value ACTIVE_HIGH [ipx::add_bus_parameter POLARITY $reset]",
        "ipx::create_xgui_files $core",
        "ipx::update_checksums $core",
        "ipx::save_core $core",
        "",
    ]
    return "\n".join(lines)


def write_core(name: str, arch: Arch, flows: Sequence[str]) -> str:
    """Return a FuseSoC core description (CAPI2)."""
    lines = [
        "CAPI=2:",
        f"name: hwsim:accelerators:{name}:{VERSION}",
        f'description: "{arch.name} {arch.preset}: {arch.title}"',
        "",
        "filesets:",
        "  rtl:",
        "    files:",
        f"      - {name}.v",
        "    file_type: verilogSource",
        "  software:",
        "    files:",
        f"      - {name}_registers.h: {{is_include_file: true}}",
        "    file_type: user",
        "  xdc:",
        "    files:",
        f"      - {name}.xdc",
        "    file_type: xdc",
    ]
    kinds = {"ecp5": ("lpf", "LPF"), "ice40": ("pcf", "PCF"), "gowin": ("cst", "CST")}
    for flow in flows:
        suffix, kind = kinds[flow]
        lines += [f"  {flow}:", "    files:", f"      - {name}.{suffix}", f"    file_type: {kind}"]
    lines += ["", "targets:", "  default: &default", "    filesets: [rtl]", f"    toplevel: {name}", "  lint:"]
    lines += [
        "    <<: *default",
        "    default_tool: verilator",
        "    tools:",
        "      verilator:",
        "        mode: lint-only",
    ]
    tools = {
        "ecp5": (
            "trellis",
            "nextpnr_options: [--85k, --package, CABGA756, --lpf-allow-unconstrained, --out-of-context, --timing-allow-fail]",
        ),
        "ice40": ("icestorm", "nextpnr_options: [--hx8k, --package, ct256, --pcf-allow-unconstrained]"),
        "gowin": ("apicula", "device: GW2AR-LV18QN88C8/I7"),
    }
    for flow in flows:
        tool, options = tools[flow]
        lines += [f"  {flow}:", "    <<: *default", f"    default_tool: {tool}", f"    filesets: [rtl, {flow}]"]
        lines += ["    tools:", f"      {tool}:", f"        {options}"]
    lines += ["  vivado:", "    <<: *default", "    default_tool: vivado", "    filesets: [rtl, xdc]"]
    lines += ["    tools:", "      vivado:", "        part: xc7a100tcsg324-1"]
    return "\n".join(lines) + "\n"


def write_readme(name: str, arch: Arch, files: Sequence[str], left_out: Iterable[str]) -> str:
    """Return a page that says what each file is."""
    meanings = {
        f"{name}.v": "the design; top module of this name, ports clk, rst (synchronous, high), s_axi_ctrl_* (AXI4-Lite), "
        "m_axi_mem_* (AXI4), m_axi_prog_* (AXI4, read only)",
        f"{name}.f": "list of sources, for simulators",
        f"{name}_registers.h": "register map for C",
        f"{name}_registers.md": "register map to read",
        f"{name}.core": "FuseSoC core",
        f"{name}.lpf": "clock for nextpnr-ecp5, Diamond",
        f"{name}.pcf": "clock for nextpnr-ice40",
        f"{name}.cst": "frame of pins for Gowin",
        f"{name}.sdc": "clock for Gowin, OpenROAD, Quartus",
        f"{name}.xdc": "clock for Vivado",
        "vivado_synth.tcl": "Vivado: synthesis, place and route out of context",
        "vivado_ip.tcl": "Vivado: the design as IP",
        "README.md": "this page",
    }
    for flow in ("ecp5", "ice40", "gowin"):
        meanings[f"{flow}.ys"] = f"Yosys: synthesis for {flow}"
        meanings[f"build_{flow}.sh"] = "Yosys and nextpnr-ecp5" if flow == "ecp5" else "Yosys"
    rows = [f"| `{file}` | {meanings[file]} |" for file in files]
    lines = [f"# {name}", "", f"{arch.name} {arch.preset}: {arch.title}. Written by hwsim {VERSION}.", ""]
    lines += ["| file | content |", "|---|---|", *rows, *(["", "Left out:"] if left_out else [])]
    return "\n".join([*lines, *(f"- {reason}" for reason in left_out)]) + "\n"
