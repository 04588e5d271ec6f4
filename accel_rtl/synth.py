"""What a component costs on an FPGA family, in gates, or in standard cells; counted by Yosys.

Counts are those of synthesis: placement may add or merge a few cells. Every result is kept under a hash of the RTLIL, the
commands, the versions of the tools and, for standard cells, the library.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

from accel_rtl.emit import cached_folder, emit_rtlil, hash_content, list_versions, run_yosys
from hwsim.core.check import require_choice
from hwsim.core.errors import HwsimError, SpecError

FPGA_COMMANDS = {
    "ecp5": "synth_ecp5 -top top",
    "ice40": "synth_ice40 -top top",
    "gowin": "synth_gowin -top top",
    "xc7": "synth_xilinx -family xc7 -top top",
}
TARGETS = (*FPGA_COMMANDS, "gates", "asic")
PERIOD_PS = 4000
"""Delay that ``abc`` aims at when it maps to standard cells."""
DONT_USE = ("lgcp", "slgcp", "sighold", "dlhq", "dlhr", "dlhrq", "dllr", "dllrq")
"""Parts of names of clock gates, bus keepers and latches: not for logic."""
MACRO, MACRO_ATTRIBUTE = "$__sram", "hwsim_macro"
"""Cell type of a memory that is no logic on a chip, and what marks it."""
GATES = "AND,NAND,OR,NOR,XOR,XNOR,MUX"
_PREPARE = ("hierarchy -check -top top", "proc", "flatten", "chformal -remove", "opt_clean")
# Without splitnets ABC9 meets two wires with the names that Amaranth gives to fields (YosysHQ/yosys #4349).
_SPLIT = "splitnets"
# Read ports are still cells of their own here. An asynchronous one answers with the word that stands: Yosys stops at a mask on it.
_IGNORE_COLLISION = "setparam -set COLLISION_X_MASK 1'1 t:$memrd_v2 r:CLK_ENABLE=1 %i"

# Cells by kind, of each family. LUT RAM counts as LUTs that hold memory, apart from ``lut``.
_KINDS: dict[str, dict[str, str]] = {
    "ecp5": {
        "lut": r"LUT4", "carry": r"CCU2C", "ff": r"TRELLIS_FF", "dsp": r"MULT18X18D|MULT9X9D|ALU54B",
        "bram": r"DP16KD|PDPW16KD", "lutram": r"TRELLIS_DPR16X4",
    },
    "ice40": {
        "lut": r"SB_LUT4", "carry": r"SB_CARRY", "ff": r"SB_DFF\w*", "dsp": r"SB_MAC16", "bram": r"SB_RAM40_4K\w*",
        "lutram": r"(?!)",
    },
    "gowin": {
        "lut": r"LUT[1-4]", "carry": r"ALU", "ff": r"DFF\w*", "dsp": r"MULT\w+|PADD\w+",
        "bram": r"DPB|DPX9B|SDPB|SDPX9B|SP|SPX9|pROM|pROMX9", "lutram": r"RAM16\w+",
    },
    "xc7": {
        "lut": r"LUT[1-6]|INV", "carry": r"CARRY4", "ff": r"FD[RSCP]E\w*", "dsp": r"DSP48E1", "bram": r"RAMB\w+",
        "lutram": r"RAM(16|32|64|128|256)\w+|SRL\w+",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilization:
    """Cost of one component on one target.

    Parameters
    ----------
    target : str
    lut, carry, ff, dsp, bram, lutram : int
        Cells of an FPGA; ``carry`` in the family's own carry cells (ECP5's CCU2C has two bits, a CARRY4 four). ``ff`` also of
        gates and standard cells.
    transistors : int
        CMOS transistors by Yosys' estimate (target ``gates``).
    area_um2 : float
        Area of the standard cells (target ``asic``).
    path_ps : float
        Longest path through logic by ``abc``, wires and registers' own times left out (target ``asic``).
    cells : tuple of (str, int)
        All cells by type.
    digest : str
        Of what it was counted from.
    """

    target: str
    lut: int = 0
    carry: int = 0
    ff: int = 0
    dsp: int = 0
    bram: int = 0
    lutram: int = 0
    transistors: int = 0
    area_um2: float = 0.0
    path_ps: float = 0.0
    cells: tuple[tuple[str, int], ...]
    digest: str

    @property
    def gate_equivalents(self) -> float:
        """Two-input NANDs of four transistors each."""
        return self.transistors / 4


def synthesize(
    component: wiring.Component, target: str, *, liberty: Path | None = None, collision_free: bool = False
) -> Utilization:
    """Count what a component needs on a target.

    Parameters
    ----------
    component : amaranth.lib.wiring.Component
    target : str
        ``ecp5``, ``ice40``, ``gowin``, ``xc7``, ``gates`` or ``asic``.
    liberty : Path, optional
        Standard-cell library, for ``asic`` alone.
    collision_free : bool
        No address of its memories is read and written in one cycle (to be proved by the caller): block RAM is inferred without
        the logic that would give the old word.

    Raises
    ------
    SpecError
        An unknown target, or ``asic`` without a library (or another target with one).
    HwsimError
        Yosys failed.
    """
    require_choice("synth.target", target, TARGETS)
    if (target == "asic") != (liberty is not None):
        expected = "a standard-cell library (.lib)" if liberty is None else "none but for the target asic"
        raise SpecError("synth.liberty", liberty and str(liberty), expected)
    source = emit_rtlil(component)
    library = hash_file(liberty) if liberty is not None else ""
    commands = list_commands(target, liberty, collision_free)
    # The library's place says nothing, its content does.
    named = [command.replace(str(liberty), "LIBERTY") for command in commands]
    key = hash_content("synth", source.text, library, *named, *list_versions())

    def build(folder: Path) -> None:
        (folder / "top.il").write_text(source.text)
        log = run_yosys(commands, folder)
        (folder / "yosys.log").write_text(log)

    folder = cached_folder(key, build)
    return _read_result(folder, target, key)


def list_commands(target: str, liberty: Path | None = None, collision_free: bool = False) -> list[str]:
    """Return the Yosys commands of a target: ``top.il`` in, ``stat.json`` out."""
    prepare = ["read_rtlil top.il", *_PREPARE, *([_IGNORE_COLLISION] if collision_free else ()), _SPLIT]
    return [*prepare, *finish_commands(target, liberty)]


def finish_commands(target: str, liberty: Path | None = None, macros: bool = False) -> list[str]:
    """Return the Yosys commands behind preparation: map to the target's cells, write ``stat.json``.

    ``macros``: memories that bear the attribute ``hwsim_macro`` are SRAM macros on a chip: cells of a type of their own.
    """
    if target in FPGA_COMMANDS:
        return [FPGA_COMMANDS[target], "tee -q -o stat.json stat -json"]
    commands = ["synth -flatten -top top"]
    if macros:
        hide = f"chtype -set {MACRO} t:$mem_v2 a:{MACRO_ATTRIBUTE}=1 %i"
        commands = ["synth -flatten -top top -run begin:fine", hide, "synth -flatten -top top -run fine:check"]
    if target == "gates":
        return [*commands, f"abc -g {GATES}", "opt_clean", "tee -q -o stat.json stat -json -tech cmos"]
    assert liberty is not None
    avoid = " ".join(f"-dont_use *_{name}_*" for name in DONT_USE)
    script = "+strash;ifraig;scorr;dch,-f;map;topo;buffer;upsize;dnsize;stime,-p"
    return [
        *commands, f"dfflibmap -liberty {liberty} {avoid}", f"abc -liberty {liberty} -D {PERIOD_PS} {avoid} -script {script}",
        "opt_clean", f"tee -q -o stat.json stat -json -liberty {liberty}",
    ]  # fmt: skip


def synthesize_blocks(
    components: Mapping[str, wiring.Component], target: str, *, liberty: Path | None = None
) -> dict[str, Utilization]:
    """Return the cost of each of several components, each on its own."""
    return {name: synthesize(component, target, liberty=liberty) for name, component in components.items()}


def format_table(results: Mapping[str, Utilization]) -> str:
    """Return a Markdown table, a line a block, with the columns that its target has."""
    targets = {result.target for result in results.values()}
    if targets <= set(FPGA_COMMANDS):
        columns = ["lut", "carry", "ff", "dsp", "bram", "lutram"]
    elif targets == {"gates"}:
        columns = ["ff", "transistors", "gate_equivalents"]
    else:
        columns = ["ff", "area_um2", "path_ps"]
    lines = ["| block | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, result in results.items():
        values = (getattr(result, column) for column in columns)
        shown = (f"{value:,.0f}" if isinstance(value, float) else f"{value:,}" for value in values)
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def hash_file(path: Path) -> str:
    """Return a digest of a file's bytes; SpecError if it cannot be read."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise SpecError("synth.liberty", str(path), "a readable file", error.strerror or "") from None


def _read_result(folder: Path, target: str, key: str) -> Utilization:
    text = (folder / "stat.json").read_text()
    design = json.loads(text[text.index("{") :])["design"]
    return read_counts(design, target, key, (folder / "yosys.log").read_text())


def read_counts(stat: Mapping[str, Any], target: str, key: str, log: str) -> Utilization:
    """Return what an entry of ``stat -json`` (of a module, or of the whole design) says.

    Parameters
    ----------
    stat : mapping
    target : str
    key : str
        Becomes the digest.
    log : str
        What Yosys printed, for the longest path of ``asic``.
    """
    cells = {name.removeprefix("\\"): count_cells(value) for name, value in stat["num_cells_by_type"].items()}
    # blocks that kept their boundary, and marks of those that did not
    cells = {name: count for name, count in cells.items() if not name.startswith("top.") and name != "$scopeinfo"}
    ordered = tuple(sorted(cells.items()))
    if target in FPGA_COMMANDS:
        kinds = {kind: _sum_cells(cells, pattern) for kind, pattern in _KINDS[target].items()}
        return Utilization(target=target, cells=ordered, digest=key, **kinds)
    if target == "gates":
        registers = _sum_cells(cells, r"\$_S?DFFE?_\w+|\$_SDFFCE_\w+")
        estimate = int(str(stat.get("estimated_num_transistors", 0)).rstrip("+"))
        return Utilization(target=target, cells=ordered, digest=key, ff=registers, transistors=estimate)
    if "area" not in stat and set(cells) - {MACRO}:
        raise HwsimError("yosys: the library gives no area")
    return Utilization(
        target=target, cells=ordered, digest=key, ff=_sum_cells(cells, r".*df[fr]\w*"),
        area_um2=float(stat.get("area", 0)), path_ps=max(map(float, re.findall(r"Delay\s*=\s*([\d.]+) ps", log)), default=0.0),
    )  # fmt: skip


def count_cells(value: object) -> int:
    """Return the cells of an entry of ``num_cells_by_type``: a number, or an object with one."""
    return int(value["count"]) if isinstance(value, dict) else int(str(value))


def _sum_cells(cells: Mapping[str, int], pattern: str) -> int:
    return sum(count for name, count in cells.items() if re.fullmatch(pattern, name))
