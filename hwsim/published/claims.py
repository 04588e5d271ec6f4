"""What was published, and what becomes of it here: the types of `hwsim reproduce`.

A row holds one claim with up to four figures of one unit: what was published, what the field's own equations give when they are
computed again, what the simulation gives, what the generated hardware gives. A figure that does not exist is None.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

CERTAINTIES = ("verified", "unverified")
"""``verified``: read in the source named (a repository, a paper's abstract as its publisher or arXiv shows it), or measured by
running it. ``unverified``: from memory or from notes of others on it."""
STATUSES = ("shown", "skipped", "out of reach")
"""``skipped``: data that is not on this machine. ``out of reach``: it takes training, or what was never released."""
SAME = 0.005
"""Relative difference up to which a figure needs no reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One claim and its figures.

    Parameters
    ----------
    claim : str
        What is claimed, conditions included.
    source : str
        Paper, table, file.
    certainty : str or None
        One of ``CERTAINTIES``: of the claim as quoted here; by default the first where something is quoted, else None.
    unit : str
        Of all figures: ``cycles``, ``ms``, ``mJ``, ``x``, ``%`` ...
    claimed, claimed_least : float or None
        The published figure; with ``claimed_least`` the end of a range that begins there.
    equations, simulated, rtl : float or None
        Recomputed, from the cycle simulation, from the generated hardware.
    why : str
        The reason for the difference, or what else a reader has to know.
    status : str
        One of ``STATUSES``.
    """

    claim: str
    source: str
    certainty: str | None = None
    unit: str = ""
    claimed: float | None = None
    claimed_least: float | None = None
    equations: float | None = None
    simulated: float | None = None
    rtl: float | None = None
    why: str = ""
    status: str = "shown"

    def __post_init__(self) -> None:
        if self.certainty is None and self.quotes:
            object.__setattr__(self, "certainty", CERTAINTIES[0])
        if self.certainty not in (None, *CERTAINTIES):
            raise ValueError(f"{self.claim}: certainty {self.certainty!r} is none of {CERTAINTIES}")
        if self.certainty is not None and not self.quotes:
            raise ValueError(f"{self.claim}: the certainty of no claim")
        if self.status not in STATUSES:
            raise ValueError(f"{self.claim}: status {self.status!r} is none of {STATUSES}")
        if self.status != "shown" and not self.why:
            raise ValueError(f"{self.claim}: {self.status} without a reason")
        if self.claimed_least is not None and self.claimed is None:
            raise ValueError(f"{self.claim}: a range without an end")

    @property
    def quotes(self) -> bool:
        """Whether something published is quoted: a figure, or in words what is out of reach."""
        return self.claimed is not None or self.status == "out of reach"

    @property
    def found(self) -> float | None:
        """What is held against the claim: the simulation's figure, else the equations', else the hardware's."""
        return next((x for x in (self.simulated, self.equations, self.rtl) if x is not None), None)

    @property
    def difference(self) -> float | None:
        """Relative difference to the claim (0.1 is 10 % above), 0 inside a range; without a claim to the equations.

        None where there is nothing to compare.
        """
        wanted = self.equations if self.claimed is None else self.claimed
        if self.found is None or not wanted or (self.claimed is None and self.found is self.equations):
            return None
        least = wanted if self.claimed_least is None else self.claimed_least
        if self.found < least:
            return self.found / least - 1
        return max(0.0, self.found / wanted - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Figures that one row does not hold, such as a distribution.

    Parameters
    ----------
    title : str
        What the figures are, unit included.
    heads : tuple of str
        Of the columns; the first holds names.
    rows : tuple of tuple
        A name, then counts (int) and other figures (float).
    source, why : str
        Of what the figures are held against; what they say.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]
    source: str
    why: str

    def __post_init__(self) -> None:
        if any(len(row) != len(self.heads) for row in self.rows):
            raise ValueError(f"{self.title}: rows of other than {len(self.heads)} columns")


def list_no_tables() -> tuple[Table, ...]:
    """Return the tables of a system whose rows say all."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A system of the literature whose hardware side is shown.

    Parameters
    ----------
    name, title : str
        What the command calls it; what it is.
    source : str
        Paper and repository.
    reproduce : callable
        Returns its rows.
    tabulate : callable
        Returns what its rows do not hold; by default nothing.
    archs : tuple of str
        Architectures that stand for its machine; rows on generated hardware are added for those that have any.
    order : int
        Place in the list of all.
    """

    name: str
    title: str
    source: str
    reproduce: Callable[[], tuple[Row, ...]] = field(repr=False)
    tabulate: Callable[[], tuple[Table, ...]] = field(default=list_no_tables, repr=False)
    archs: tuple[str, ...] = ()
    order: int = 100


def find_reference(*parts: str) -> Path | None:
    """Return a file of others' data, or None where it is absent.

    It lies in ``$HWSIM_REFERENCE``, else in ``shared/reference`` beside the checkout; it is never shipped.
    """
    root = os.environ.get("HWSIM_REFERENCE")
    folder = Path(root) if root else Path(__file__).resolve().parents[3] / "shared" / "reference"
    path = folder.joinpath(*parts)
    return path if path.exists() else None


def skip_row(claim: str, source: str, *parts: str) -> Row:
    """Return the row of a claim whose data is absent."""
    why = f"needs {'/'.join(parts)} under the folder that HWSIM_REFERENCE names"
    return Row(claim=claim, source=source, why=why, status="skipped")


def leave_out(claim: str, source: str, why: str, certainty: str = CERTAINTIES[0]) -> Row:
    """Return the row of a claim that cannot be shown."""
    return Row(claim=claim, source=source, certainty=certainty, why=why, status="out of reach")
