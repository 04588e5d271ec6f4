"""Errors a user can cause and mend. Bugs are plain exceptions, never one of these."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HwsimError(Exception):
    """Root of every error that a user can cause; its text is one line that says what to change."""


class SpecError(HwsimError):
    """A value does not fit its specification.

    Parameters
    ----------
    path : str
        Dotted path of the field, e.g. ``arch.rows``.
    value : object
        The offending value, shown by ``repr``.
    expected : str
        What would have been accepted.
    hint : str
        How to mend it.
    """

    def __init__(self, path: str, value: object, expected: str, hint: str = "") -> None:
        self.path, self.value, self.expected, self.hint = path, value, expected, hint
        shown = repr(value)
        if len(shown) > 120:
            shown = shown[:117] + "..."
        super().__init__(f"{path}: got {shown}, expected {expected}" + (f" ({hint})" if hint else ""))


class InputError(HwsimError):
    """An input file cannot be used; every problem found is listed."""

    def __init__(self, source: str, problems: Iterable[str]) -> None:
        self.source, self.problems = source, tuple(problems)
        super().__init__(f"{source}: " + "; ".join(self.problems))


class UnknownName(HwsimError):
    """A name that no registry holds, with the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        near = difflib.get_close_matches(name.lower(), self.known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "known: " + ", ".join(self.known)
        super().__init__(f"unknown {kind} {name!r}: {hint}")


class MissingExtra(HwsimError):
    """An optional dependency is absent; ``command`` installs it where the extra alone cannot."""

    def __init__(self, package: str, extra: str, purpose: str, command: str = "") -> None:
        install = command or f"pip install 'hwsim[{extra}]'"
        super().__init__(f"{purpose} needs {package}: {install}")


class Infeasible(HwsimError):
    """No mapping fits a buffer.

    Parameters
    ----------
    where : str
        The layer.
    buffer : str
        The buffer that is too small (``wbuf``, ``ibuf``, ``obuf``, ``sbuf``).
    demand, bound : int
        Smallest demand of any tile and what one bank holds, in bits.
    lever : str
        What would help.
    """

    def __init__(self, where: str, buffer: str, demand: int, bound: int, lever: str) -> None:
        self.where, self.buffer, self.demand, self.bound, self.lever = where, buffer, demand, bound, lever
        super().__init__(
            f"layer {where}: the smallest tile needs {demand:,} bits of {buffer}, one bank holds {bound:,}; {lever}"
        )
