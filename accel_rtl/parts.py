"""FPGA parts that designs are counted against: what each holds, with the source."""

from __future__ import annotations

from dataclasses import dataclass

from hwsim.core.errors import UnknownName


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One FPGA.

    Parameters
    ----------
    name : str
        As targets are named.
    family : str
        Synthesis target of `accel_rtl.synth`.
    device : str
        The vendor's name, with the package that constraints are written for.
    lut, ff, dsp, bram : int
        What it holds: look-up tables of the family, registers, multipliers, block RAMs as Yosys counts them.
    carry_luts, lutram_luts : int
        LUTs that a carry cell, and a cell of LUT RAM, takes.
    source : str
        Of the capacities.
    """

    name: str
    family: str
    device: str
    lut: int
    ff: int
    dsp: int
    bram: int
    carry_luts: int
    lutram_luts: int
    source: str


PLACED = {"ecp5-85k": ("--85k", "--package", "CABGA756")}
"""Parts on which designs are placed, with nextpnr's options."""
PARTS = {
    part.name: part
    for part in (
        Part(
            name="ecp5-85k", family="ecp5", device="LFE5UM5G-85F-8BG756C", lut=83640, ff=83640, dsp=156, bram=208, carry_luts=2,
            lutram_luts=4, source="Lattice FPGA-DS-02012, table 1.1; nextpnr-ecp5's chip database says the same",
        ),
        Part(
            name="ice40", family="ice40", device="iCE40HX8K-CT256", lut=7680, ff=7680, dsp=0, bram=32, carry_luts=0,
            lutram_luts=0, source="Lattice FPGA-DS-02029, table 1.1",
        ),
        Part(
            name="gowin", family="gowin", device="GW2AR-LV18QN88C8/I7", lut=20736, ff=15552, dsp=48, bram=46, carry_luts=1,
            lutram_luts=4, source="Gowin DS226, table 1-1 (unverified: from memory of the data sheet)",
        ),
        Part(
            name="xc7", family="xc7", device="xc7a100tcsg324-1", lut=63400, ff=126800, dsp=240, bram=270, carry_luts=0,
            lutram_luts=1, source="Xilinx DS180, Artix-7 XC7A100T (unverified: from memory of the data sheet); halves of 36 kbit",
        ),
    )
}  # fmt: skip
TARGETS = (*PARTS, "gates", "asic")
"""Targets of ``hwsim synth``."""


def find_part(name: str) -> Part:
    """Return an FPGA part by its name, or raise UnknownName."""
    if name not in PARTS:
        raise UnknownName("FPGA part", name, PARTS)
    return PARTS[name]
