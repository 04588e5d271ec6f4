"""Cuts the function ``eval`` that CXXRTL writes into some of a hundred lines each.

A compiler takes more than linear time over one function of thousands of lines: an accelerator of 2x2x2 cells took 62 s at -O1
in one piece, 15 s in forty (g++ 12), and runs as fast. Values that only one part uses stay local to it, others become members.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

PART_LINES = 100
DECLARED = re.compile(r"\t(?:value|wire)<\d+> (\w+);")
NAME = re.compile(r"\b[a-z]\w*")
CLOCKED = "\tif (posedge_p_clk) {"
PROLOGUE = ("\tbool converged = ", "\tbool posedge_p_clk = this->posedge_p_clk();")
EPILOGUE = "\treturn converged;"
DECLARATIONS = (
    "\tbool eval(performer *performer = nullptr) override;\n",
    "\tbool eval(performer *performer) override;\n",
)
ARGUMENTS = "performer *performer, bool posedge_p_clk"


@dataclass(slots=True, eq=False)
class _Part:
    clocked: bool
    lines: list[str] = field(default_factory=list)
    locals: list[str] = field(default_factory=list)


def split_eval(text: str, top: str, part_lines: int = PART_LINES) -> str:
    """Return a model with its ``eval`` in parts; what is not written as Yosys 0.70 writes it comes back unchanged.

    Parameters
    ----------
    text : str
        What ``write_cxxrtl`` wrote of a flat design.
    top : str
        Class of the model.
    part_lines : int
        A part has no more, unless one statement has.
    """
    head = f"bool {top}::eval(performer *performer) {{\n"
    at = text.find(head)
    end = text.find("\n}\n", at)
    mark = next((mark for mark in DECLARATIONS if text.count(mark) == 1), "")
    body = text[at + len(head) : end].split("\n")
    known = len(body) > 2 and body[0].startswith(PROLOGUE[0]) and body[1] == PROLOGUE[1] and body[-1] == EPILOGUE
    if at < 0 or end < 0 or not mark or not known:
        return text
    declared, groups = _group_statements(body[2:-1])
    parts = _form_parts(groups, part_lines)
    shared = _place_declarations(declared, parts)
    if shared is None:
        return text
    members = [*shared, *(f"\tvoid eval_{k}({ARGUMENTS});" for k in range(len(parts)))]
    written = [
        "\n".join(
            [f"__attribute__((noinline)) void {top}::eval_{k}({ARGUMENTS}) {{", *part.locals, *part.lines, "}\n\n"]
        )
        for k, part in enumerate(parts)
    ]
    calls = [
        f"\t{'if (posedge_p_clk) ' if part.clocked else ''}eval_{k}(performer, posedge_p_clk);"
        for k, part in enumerate(parts)
    ]
    before = text[:at].replace(mark, mark + "\n".join(members) + "\n")
    return before + "".join(written) + head + "\n".join([*body[:2], *calls, body[-1]]) + text[end:]


def _group_statements(lines: list[str]) -> tuple[dict[str, str], list[list[str]]]:
    """Return declarations by name, and the statements between comments: what uses a temporary stands with it."""
    declared: dict[str, str] = {}
    groups: list[list[str]] = []
    begins = True
    for line in lines:
        found = DECLARED.fullmatch(line)
        if line.startswith("\t//"):
            begins = True
        elif found:
            declared[found[1]] = line
        else:
            if begins:
                groups.append([])
            begins = False
            groups[-1].append(line)
    return declared, groups


def _form_parts(groups: list[list[str]], part_lines: int) -> list[_Part]:
    """Return the parts; one of nothing but registers and memories is needed at the clock's edge alone."""
    parts: list[_Part] = []
    for group in groups:
        clocked = group[0] == CLOCKED and [line for line in group if line == "\t}"] == group[-1:]
        room = bool(parts) and len(parts[-1].lines) + len(group) <= part_lines
        same = room and (parts[-1].clocked == clocked or len(parts[-1].lines) < part_lines // 3)
        if not same:
            parts.append(_Part(clocked))
        parts[-1].clocked &= clocked
        parts[-1].lines += group
    return parts


def _place_declarations(declared: dict[str, str], parts: list[_Part]) -> list[str] | None:
    """Put declarations into the only part that has their name; return the others, or None if a temporary is in two parts."""
    users: dict[str, list[_Part]] = {}
    for part in parts:
        for name in set(NAME.findall("\n".join(part.lines))):
            users.setdefault(name, []).append(part)
    if any(name.startswith("tmp_") and len(using) > 1 for name, using in users.items()):
        return None
    shared = []
    for name, line in declared.items():
        using = users.get(name, [])
        if len(using) == 1:
            using[0].locals.append(line)
        elif using:
            shared.append(line)
    return shared
