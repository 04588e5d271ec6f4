"""What a mapper minimizes, as a function of cycles and traffic."""

from __future__ import annotations

from dataclasses import dataclass

from hwsim.core.check import require_choice

OBJECTIVES = ("cycles", "least-cycles", "energy", "edp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Cycles, energy or their product. Of mappings as fast as the fastest, within `hwsim.core.mapping.TIES`, energy decides.

    Energy of a mapping = ``fixed_pj`` (what every mapping of the layer costs) + traffic times the unit energies +
    ``static_pj_per_cycle`` times cycles. It grows with cycles and with every kind of traffic, so lower bounds of those give a
    lower bound of it.

    Parameters
    ----------
    name : str
        One of ``OBJECTIVES``.
    read_pj, write_pj : float
        Memory, per bit.
    wbuf_write_pj, ibuf_write_pj, obuf_write_pj, wbuf_read_pj, ibuf_read_pj, obuf_read_pj, sbuf_write_pj, sbuf_read_pj : float
        Buffers, per bit.
    activate_pj, refresh_pj : float
        A row activation and a refresh of a DRAM part; zero with flat memory. No bound counts them.
    static_pj_per_cycle : float
        Leakage and memory standby.
    fixed_pj : float
        Energy that no mapping changes.
    """

    name: str = "cycles"
    read_pj: float = 0.0
    write_pj: float = 0.0
    wbuf_write_pj: float = 0.0
    ibuf_write_pj: float = 0.0
    obuf_write_pj: float = 0.0
    wbuf_read_pj: float = 0.0
    ibuf_read_pj: float = 0.0
    obuf_read_pj: float = 0.0
    sbuf_write_pj: float = 0.0
    sbuf_read_pj: float = 0.0
    activate_pj: float = 0.0
    refresh_pj: float = 0.0
    static_pj_per_cycle: float = 0.0
    fixed_pj: float = 0.0

    def __post_init__(self) -> None:
        require_choice("objective", self.name, OBJECTIVES)
