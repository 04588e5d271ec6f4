"""A whole design through synthesis: cost by block, and the netlist that is placed.

Blocks keep their boundary down to three levels below the top, everything beneath is flattened into them. What is placed is the same
netlist, its boundaries dissolved: what is counted is what meets the clock.
"""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accel_rtl.blocks.scratchpad import NO_COLLISION
from accel_rtl.cache import cached_folder, hash_content
from accel_rtl.emit import Rtlil, list_versions, run_yosys
from accel_rtl.parts import PARTS, TARGETS, Part
from accel_rtl.synth import MACRO_ATTRIBUTE, Utilization, count_cells, finish_commands, hash_file, read_counts
from hwsim.core.check import require_choice
from hwsim.core.errors import SpecError, UnknownName

TOP = "(top)"
"""Name under which what stands in no block is reported."""
LEVELS = 3
MACRO_BITS = 1 << 13
"""A memory of so many bits is an SRAM macro on a chip, no registers (targets ``gates`` and ``asic``)."""
NETLISTS = ("ecp5", "asic")
"""Families whose netlist is kept: for the placer, for its activity (`accel_rtl.power.mapped`)."""
NETLIST = "top.json.gz"
_MODULE = re.compile(r"^module (\\\S+)$", re.MULTILINE)
_PORT = re.compile(r"(cell \$memrd_v2 \S+\n(?:    .*\n)*?    parameter \\MEMID \"\\+(\S+?)\"\n(?:    .*\n)*?"
                   r"    parameter \\COLLISION_X_MASK )(\d+)'0+\n")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Cost of the blocks of one name.

    Parameters
    ----------
    name : str
        Path below the top, numbers at its end left out.
    instances : int
        How many there are.
    cost : Utilization
        Of all of them, without the blocks inside that are listed themselves.
    """

    name: str
    instances: int
    cost: Utilization


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesis:
    """A design on a target.

    Parameters
    ----------
    target : str
        One of `accel_rtl.parts.TARGETS`.
    total : Utilization
    blocks : tuple of Block
        In order of their names.
    design : str
        Digest of the RTLIL.
    macros, macro_bits : int
        Memories that are no logic on a chip (targets ``gates`` and ``asic``), and what they hold; in no other count.
    """

    target: str
    total: Utilization
    blocks: tuple[Block, ...]
    design: str
    macros: int = 0
    macro_bits: int = 0

    @property
    def part(self) -> Part | None:
        """The FPGA, if the target is one."""
        return PARTS.get(self.target)

    def list_demand(self) -> dict[str, tuple[int, int]]:
        """Return what an FPGA has to give and what it has, by resource."""
        part = self.part
        if part is None:
            return {}
        total = self.total
        luts = total.lut + part.carry_luts * total.carry + part.lutram_luts * total.lutram
        # a block RAM of 36 kbit is two halves of an xc7 part
        whole = sum(count for cell, count in total.cells if cell.startswith("RAMB36"))
        wanted = {"lut": luts, "ff": total.ff, "dsp": total.dsp, "bram": total.bram + whole}
        return {name: (count, int(getattr(part, name))) for name, count in wanted.items()}

    def check_capacity(self, name: str) -> None:
        """Raise SpecError where the part is too small, saying by how much."""
        over = [
            f"{count:,} {resource} of {bound:,} ({count - bound:,} too many)"
            for resource, (count, bound) in self.list_demand().items()
            if count > bound
        ]
        if over:
            raise SpecError("synth.target", self.target, f"a part that {name} fits: it needs {', '.join(over)}")


def list_blocks(source: Rtlil) -> tuple[str, ...]:
    """Return the paths of all blocks of a design, those within others included."""
    prefix = f"\\{source.name}."
    return tuple(found.removeprefix(prefix) for found in _MODULE.findall(source.text) if found.startswith(prefix))


def cut_block(source: Rtlil, block: str) -> Rtlil:
    """Return one block of a design as a design of its own.

    Raises
    ------
    UnknownName
        No block of that path, with the nearest ones.
    """
    known = list_blocks(source)
    if block not in known:
        raise UnknownName("block", block, known)
    path = f"{source.name}.{block}"
    modules = re.split(r"(?m)^(?=attribute \\generator|module \\)", source.text)
    # the generator's attribute stands before each module; modules keep their own names but for the top
    parts = [part for part in modules if _heads(part, path)]
    text = modules[0] + "".join('attribute \\generator "Amaranth"\n' + part for part in parts)
    text = text.replace(f"\\{path}.", "\\top.").replace(f"module \\{path}\n", "module \\top\n")
    return Rtlil(name="top", text=text, ports=(), clocked=source.clocked)


def _heads(part: str, path: str) -> bool:
    found = _MODULE.match(part)
    return found is not None and (found[1] == f"\\{path}" or found[1].startswith(f"\\{path}."))


def list_collision_free(source: Rtlil) -> dict[str, tuple[str, ...]]:
    """Return the memories, by module, of which no address is read and written in one cycle (`NO_COLLISION`)."""
    found = {}
    for name, body in _split_modules(source.text):
        marked = re.findall(rf"attribute \\{NO_COLLISION} 1\n(?:  attribute .*\n)*  memory .* \\(\S+)\n", body)
        if marked:
            found[name] = tuple(marked)
    return found


def mark_macros(source: Rtlil) -> tuple[Rtlil, tuple[int, ...]]:
    """Return the design with memories of `MACRO_BITS` or more marked as SRAM macros, and what each holds."""
    found: list[int] = []

    def mark(line: re.Match[str]) -> str:
        bits = int(line[1]) * int(line[2])
        if bits < MACRO_BITS:
            return line[0]
        found.append(bits)
        return f"  attribute \\{MACRO_ATTRIBUTE} 1\n{line[0]}"

    text = re.sub(r"(?m)^  memory width (\d+) size (\d+) ", mark, source.text)
    return replace(source, text=text), tuple(found)


def ignore_collisions(source: Rtlil) -> Rtlil:
    """Return the design with the marked memories' reads undefined where the address is written in the same cycle.

    Block RAM of ECP5 and Gowin cannot give the old word then; without this Yosys builds logic that does.
    """
    marked = list_collision_free(source)
    text = []
    for name, body in _split_modules(source.text):
        names = marked.get(name, ())

        def release(found: re.Match[str], names: tuple[str, ...] = names) -> str:
            if found[2] not in names:
                return found[0]
            return f"{found[1]}{found[3]}'{'1' * int(found[3])}\n"

        text.append(_PORT.sub(release, body) if names else body)
    return replace(source, text="".join(text))


def digest_design(source: Rtlil) -> str:
    """Return a digest of the hardware that is synthesized."""
    return hash_content(ignore_collisions(source).text)


def _split_modules(text: str) -> list[tuple[str, str]]:
    parts = re.split(r"(?m)^(?=module \\)", text)
    return [((found[1] if (found := _MODULE.match(part)) else ""), part) for part in parts]


def synthesize_design(source: Rtlil, target: str, *, liberty: Path | None = None, levels: int = LEVELS) -> Synthesis:
    """Count what a design needs on a target, by block.

    Parameters
    ----------
    source : Rtlil
        Of `accel_rtl.emit.emit_rtlil`, its top called ``top``.
    target : str
        One of `accel_rtl.parts.TARGETS`.
    liberty : Path, optional
        Standard-cell library, for ``asic`` alone.
    levels : int
        Levels of blocks that keep their boundary.

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
    family = PARTS[target].family if target in PARTS else target
    library = hash_file(liberty) if liberty is not None else ""
    design, source = digest_design(source), ignore_collisions(source)
    kept = [f"{source.name}.{block}" for block in list_blocks(source) if block.count(".") < levels]
    commands = ["read_rtlil top.il", f"hierarchy -check -top {source.name}", "proc"]
    if kept:
        commands.append("setattr -mod -set keep_hierarchy 1 " + " ".join(f"\\{name}" for name in kept))
    macros: tuple[int, ...] = ()
    if target not in PARTS:
        source, macros = mark_macros(source)
    commands += ["flatten", "chformal -remove", "opt_clean", "splitnets"]
    commands += finish_commands(family, liberty, bool(macros))
    if family in NETLISTS:
        commands += ["setattr -mod -unset keep_hierarchy *", "flatten -noscopeinfo", "opt_clean", "write_json top.json"]
    named = [command.replace(str(liberty), "LIBERTY") for command in commands]
    key = hash_content("blocks", source.text, library, *named, *list_versions())

    def build(folder: Path) -> None:
        (folder / "top.il").write_text(source.text)
        (folder / "yosys.log").write_text(run_yosys(commands, folder))
        (folder / "top.il").unlink()  # large, and made again from the architecture
        if family in NETLISTS:
            (folder / NETLIST).write_bytes(gzip.compress((folder / "top.json").read_bytes(), 5, mtime=0))
            (folder / "top.json").unlink()

    folder = cached_folder(key, build)
    text, log = (folder / "stat.json").read_text(), (folder / "yosys.log").read_text()
    stat = json.loads(text[text.index("{") :])
    total = read_counts(stat["design"], family, key, log)
    blocks = _group_blocks(stat["modules"], family, key, source.name)
    return Synthesis(
        target=target, total=total, blocks=blocks, design=design, macros=len(macros), macro_bits=sum(macros)
    )


def _group_blocks(modules: dict[str, Any], family: str, key: str, top: str) -> tuple[Block, ...]:
    """Return the blocks' costs, numbered ones together."""
    groups: dict[str, list[Utilization]] = {}
    for name, stat in modules.items():
        plain = name.removeprefix("\\")
        path = TOP if plain == top else re.sub(r"(_\d+|\$\d+)+$", "", plain.removeprefix(f"{top}."))
        groups.setdefault(path, []).append(_leave_out_children(stat, modules, family, key))
    return tuple(
        Block(name=name, instances=len(costs), cost=_add_costs(costs)) for name, costs in sorted(groups.items())
    )


def _leave_out_children(stat: dict[str, Any], modules: dict[str, Any], family: str, key: str) -> Utilization:
    """Return a module's own cost: Yosys counts cells of the module alone, but area and transistors with all that stands in it."""
    cost = read_counts(stat, family, key, "")
    transistors, area = cost.transistors, cost.area_um2
    known = {name.removeprefix("\\"): module for name, module in modules.items()}
    for name, value in stat["num_cells_by_type"].items():
        if name.removeprefix("\\") in known:
            child, many = read_counts(known[name.removeprefix("\\")], family, key, ""), count_cells(value)
            transistors, area = transistors - many * child.transistors, area - many * child.area_um2
    return replace(cost, transistors=transistors, area_um2=max(0.0, area))


def _add_costs(costs: list[Utilization]) -> Utilization:
    fields = ("lut", "carry", "ff", "dsp", "bram", "lutram", "transistors", "area_um2")
    cells: dict[str, int] = {}
    for cost in costs:
        for cell, count in cost.cells:
            cells[cell] = cells.get(cell, 0) + count
    sums = {field: sum(getattr(cost, field) for cost in costs) for field in fields}
    return replace(costs[0], **sums, cells=tuple(sorted(cells.items())))


def format_blocks(found: Synthesis) -> str:
    """Return a Markdown table, a line a block, the total, and what a part has."""
    if found.part is not None:
        columns = ["lut", "carry", "ff", "dsp", "bram", "lutram"]
    elif found.target == "gates":
        columns = ["ff", "transistors", "gate_equivalents"]
    else:
        columns = ["ff", "area_um2"]
    lines = ["| block | instances | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    rows = [(block.name, str(block.instances), block.cost) for block in found.blocks]
    for name, count, cost in [*rows, ("**total**", "", found.total)]:
        shown = (f"{getattr(cost, column):,.0f}" for column in columns)
        lines.append(f"| {name} | {count} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"
