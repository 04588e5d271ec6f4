"""Clock constraints of a generated design in the form of each tool.

The AXI ports of an accelerator belong to a design around it, so no pins are given; the clock is, and all paths to and from ports
are left to that design.
"""

from __future__ import annotations


def write_lpf(clock_hz: float) -> str:
    """Return preferences for nextpnr-ecp5 and Diamond."""
    return f'BLOCK RESETPATHS;\nBLOCK ASYNCPATHS;\nFREQUENCY PORT "clk" {clock_hz / 1e6:.3f} MHZ;\n'


def write_pcf(clock_hz: float) -> str:
    """Return constraints for nextpnr-ice40."""
    return f"# pins belong to the design around this one: set_io clk J3\nset_frequency clk {clock_hz / 1e6:.3f}\n"


def write_cst() -> str:
    """Return physical constraints for Gowin's tools: a frame, since all pins belong to the design around this one."""
    return (
        '// pins belong to the design around this one, e.g.\n// IO_LOC "clk" 4;\n// IO_PORT "clk" IO_TYPE=LVCMOS33;\n'
    )


def write_sdc(clock_hz: float) -> str:
    """Return the clock in Synopsys' form (Gowin, OpenROAD, Quartus)."""
    return f"create_clock -name clk -period {1e9 / clock_hz:.3f} [get_ports {{clk}}]\n"


def write_xdc(clock_hz: float) -> str:
    """Return the clock for Vivado."""
    return f"create_clock -name clk -period {1e9 / clock_hz:.3f} [get_ports clk]\n"
