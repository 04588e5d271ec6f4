"""Counts handed from the simulator to the energy models, and the terms that come back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that happened ``count`` times.

    Parameters
    ----------
    component : str
        ``dram``, ``wbuf``, ``ibuf``, ``obuf``, ``index``, ``rf``, ``mac``, ``booth``, ``rebuild``, ``vector``, ``requant`` ...
    verb : str
        ``read``, ``write``, ``activate``, ``refresh`` for storage; the operation for logic (``mac``, ``add``, ``shift_add`` ...).
    count : int
        Number of operations; for ``read`` and ``write`` of storage the number of bits.
    bits : tuple of int
        Operand widths of an operation; empty for storage.
    """

    component: str
    verb: str
    count: int
    bits: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaPart:
    """``count`` copies of an operator (or of a register, ``op`` = ``register`` with its width) in a part of the chip."""

    component: str
    op: str
    count: int
    bits: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMemory:
    """Memories inside an engine, besides the shell's scratchpads: priced and drawn as those are.

    Parameters
    ----------
    name : str
        Component of its actions, ``read`` and ``write`` in bits.
    capacity_bits : int
        All macros together.
    width_bits : int
        Bits of one access.
    macros : int
        Memories that share the capacity.
    """

    name: str
    capacity_bits: int
    width_bits: int
    macros: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyTerm:
    """One priced action: energy_pj = count * unit_pj.

    Parameters
    ----------
    component, verb : str
        As in `Action`; ``leakage`` and ``dram_static`` for energy that passes with time.
    count : float
        Operations, bits, or seconds.
    unit : str
        What ``count`` counts: ``op``, ``bit``, ``row``, ``cycle`` ...
    unit_pj : float
        Energy of one.
    energy_pj : float
        The product.
    source : str
        Where ``unit_pj`` comes from.
    note : str
        The rule by which it was derived, and its certainty where it is not verified.
    """

    component: str
    verb: str
    count: float
    unit: str
    unit_pj: float
    energy_pj: float
    source: str
    note: str = ""
