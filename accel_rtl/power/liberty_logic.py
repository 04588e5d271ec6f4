"""Boolean expressions of Liberty: ``!`` and ``'`` bind first, then ``^``, then ``*`` ``&`` and blanks, then ``+`` ``|``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

MOST_INPUTS = 6
"""Inputs of a function: its truth table has to fit 64 bits."""


def tabulate(expression: str, pins: Sequence[str]) -> int:
    """Return the truth table of a Liberty expression: bit ``i`` is its value where pin ``k`` is bit ``k`` of ``i``.

    Raises
    ------
    ValueError
        More than `MOST_INPUTS` pins, a pin that is not among them, or no expression.
    """
    if len(pins) > MOST_INPUTS:
        raise ValueError(f"{len(pins)} inputs, at most {MOST_INPUTS}")
    rows = range(1 << len(pins))
    masks = {name: sum((row >> k & 1) << row for row in rows) for k, name in enumerate(pins)}
    every = (1 << len(rows)) - 1
    tokens = re.findall(r"[A-Za-z_][\w.\[\]]*|[01!'^*&+|()]|\S", expression)
    value, rest = _read_sum(tokens, masks, every)
    if rest:
        raise ValueError(f"{expression!r}: unexpected {rest[0]!r}")
    return value


def _read_sum(tokens: list[str], masks: Mapping[str, int], every: int) -> tuple[int, list[str]]:
    value, rest = _read_product(tokens, masks, every)
    while rest and rest[0] in "+|":
        more, rest = _read_product(rest[1:], masks, every)
        value |= more
    return value, rest


def _read_product(tokens: list[str], masks: Mapping[str, int], every: int) -> tuple[int, list[str]]:
    value, rest = _read_difference(tokens, masks, every)
    while rest and rest[0] not in "+|)":
        more, rest = _read_difference(rest[1:] if rest[0] in "*&" else rest, masks, every)
        value &= more
    return value, rest


def _read_difference(tokens: list[str], masks: Mapping[str, int], every: int) -> tuple[int, list[str]]:
    value, rest = _read_factor(tokens, masks, every)
    while rest and rest[0] == "^":
        more, rest = _read_factor(rest[1:], masks, every)
        value ^= more
    return value, rest


def _read_factor(tokens: list[str], masks: Mapping[str, int], every: int) -> tuple[int, list[str]]:
    if not tokens:
        raise ValueError("the expression ends early")
    first, rest = tokens[0], tokens[1:]
    if first == "!":
        value, rest = _read_factor(rest, masks, every)
        return every ^ value, rest
    if first == "(":
        value, rest = _read_sum(rest, masks, every)
        if not rest or rest[0] != ")":
            raise ValueError("a parenthesis is not closed")
        rest = rest[1:]
    elif first in "01":
        value = every * int(first)
    elif first in masks:
        value = masks[first]
    else:
        raise ValueError(f"unknown pin {first!r}")
    while rest and rest[0] == "'":
        value, rest = every ^ value, rest[1:]
    return value, rest
