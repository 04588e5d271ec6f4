"""What the machines share that SmartExchange (ISCA 2020) compares with its own, at equal on-chip memory and multipliers.

`bit-pragmatic`, `cambricon-x`, `diannao` and `scnn` each have a preset ``comparison`` with buffers, memory, clock, node, energies
and lanes of the vector and store units of smartdeal's ``paper``; ports and array are their own.
"""

from __future__ import annotations

from typing import Any

from hwsim.archs.smartdeal.spec import PRESETS

SHELL = PRESETS["paper"].shell
SHARED: dict[str, Any] = {
    name: getattr(PRESETS["paper"], name) for name in ("memory", "clock_hz", "node_nm", "energy_table")
}
"""Fields that are the same; of `SHELL` all but the ports."""
UNVERIFIED = (
    "shell.wbuf_bits", "shell.ibuf_bits", "shell.obuf_bits", "shell.psum_bits", "memory.bits_per_cycle", "memory.latency_cycles",
    "clock_hz", "node_nm", "energy_table",
)  # fmt: skip
"""Of what is taken over: from memory of the paper."""
