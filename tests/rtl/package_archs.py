"""A small accelerator for the tests of what is written around the Verilog."""

from __future__ import annotations

from hwsim.archs.overrides import override
from hwsim.archs.registry import find_arch
from hwsim.core.arch import Arch

SETTINGS = {
    "rows": 2, "cols": 2, "shell.ibuf_bits": 2 * 64 * 64, "shell.wbuf_bits": 2 * 64 * 64, "shell.obuf_bits": 2 * 256 * 64,
}  # fmt: skip


def tiny_arch() -> Arch:
    """Return a systolic array of 2 x 2 cells."""
    return override(find_arch("systolic", "small"), SETTINGS)


def tiny_options() -> list[str]:
    """Return the command line's options for it."""
    settings = [word for field, value in SETTINGS.items() for word in ("--set", f"{field}={value}")]
    return ["--arch", "systolic", "--preset", "small", *settings]
