"""What synthesis, place and route found for whole designs: recorded, shipped, and used as the clock of an FPGA.

Records are JSON files, one a design and target: those of the user's own runs stand in the cache (`accel_rtl.cache`), those that are
shipped in ``accel_rtl/results``. A record belongs to the fields of an architecture that shape its hardware; clock, energy table and
memory timing do not. Nothing heavy is imported here: reports read it.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from accel_rtl.cache import hash_content, locate_cache
from hwsim.core.errors import HwsimError
from hwsim.core.jsonio import from_json, to_json

if TYPE_CHECKING:
    from hwsim.core.arch import Arch

SHIPPED = Path(__file__).parent / "results"
WITHOUT_HARDWARE = (
    "preset", "source", "unverified", "clock_hz", "energy_table", "node_nm", "sram_device", "kind", "part", "latency_cycles",
    "wbuf_port_bits", "ibuf_port_bits", "obuf_port_bits",
)  # fmt: skip
"""Fields of an architecture, and of its shell and memory, that change no gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCounts:
    """Cells of the blocks of one name."""

    name: str
    instances: int
    lut: int
    carry: int
    ff: int
    dsp: int
    bram: int
    lutram: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FpgaRecord:
    """A design on an FPGA.

    Parameters
    ----------
    arch, preset, target : str
    fields : str
        Digest of the architecture's fields (`key_design`).
    design : str
        Digest of the generated hardware.
    command : str
        Makes this record again.
    tools : tuple of str
        Names and versions.
    seed : int
        Of the placer.
    lut, ff, dsp, bram : int
        What the design needs, LUTs of carry chains and LUT RAM included.
    capacity : dict
        What the part has, by the same names.
    blocks : tuple of BlockCounts
    fmax_hz : float
        Clock that was met after place and route; 0 where nothing was placed.
    """

    arch: str
    preset: str
    target: str
    fields: str
    design: str
    command: str
    tools: tuple[str, ...]
    seed: int
    lut: int
    ff: int
    dsp: int
    bram: int
    capacity: dict[str, int]
    blocks: tuple[BlockCounts, ...]
    fmax_hz: float = 0.0

    @property
    def source(self) -> str:
        """Where its figures come from, in a line."""
        placed = f"place and route, seed {self.seed}" if self.fmax_hz else "synthesis"
        return f"{self.target}, {placed}, {', '.join(self.tools)}: {self.command}"

    def format(self) -> str:
        """Return utilization and clock, in two lines."""
        used = [
            f"{getattr(self, name):,} of {bound:,} {name.upper()} ({getattr(self, name) / max(bound, 1):.0%})"
            for name, bound in self.capacity.items()
        ]
        clock = f"{self.fmax_hz / 1e6:.1f} MHz" if self.fmax_hz else "not placed"
        return f"{self.target}: {', '.join(used)}; {clock}\n  source: {self.source}"


def key_design(arch: Arch) -> str:
    """Return a digest of the fields of an architecture that shape its hardware."""
    import msgspec

    fields = msgspec.to_builtins(arch)
    plain = {
        name: {k: v for k, v in value.items() if k not in WITHOUT_HARDWARE} if isinstance(value, dict) else value
        for name, value in fields.items()
        if name not in WITHOUT_HARDWARE
    }
    return hash_content("design", arch.name, json.dumps(plain, sort_keys=True))


def list_records(arch: Arch) -> tuple[FpgaRecord, ...]:
    """Return the records of a design, one a target: one with a clock before one without, the user's own before those shipped."""
    wanted = key_design(arch)
    found: dict[str, FpgaRecord] = {}
    for path in _list_files():
        try:
            record = from_json(path.read_bytes(), FpgaRecord, str(path))
        except (OSError, HwsimError):
            continue  # of another version, or half removed
        if record.fields == wanted:
            known = found.get(record.target)
            if known is None or (record.fmax_hz and not known.fmax_hz):
                found[record.target] = record
    return tuple(found[target] for target in sorted(found))


def find_clock(arch: Arch, part: str) -> FpgaRecord:
    """Return the record of a placed design, or raise HwsimError with the command that makes it."""
    for record in list_records(arch):
        if record.target == part and record.fmax_hz:
            return record
    raise HwsimError(f"no clock of {arch.name} {arch.preset} on {part} is recorded{_say_how_to_record(arch, part)}")


def _say_how_to_record(arch: Arch, part: str) -> str:
    """Return what measures the clock, or why nothing does."""
    from accel_rtl.built import list_built_archs
    from accel_rtl.parts import PLACED

    if part not in PLACED:
        return f": designs are placed on {', '.join(PLACED)} alone"
    if arch.name not in list_built_archs():
        return f": {arch.name} has no RTL"
    command = f"hwsim synth --arch {arch.name} --preset {arch.preset.rstrip('+')}"
    return f"; this measures it: {command}{''.join(_list_changes(arch))} --target {part}"


def _list_changes(arch: Arch) -> Iterator[str]:
    """Yield the options that make an accelerator of its preset."""
    from hwsim.archs.registry import list_presets

    base = list_presets(arch.name).get(arch.preset.rstrip("+"))
    if base is None:
        yield " --set ..."
        return
    for prefix, ours, theirs in (
        ("", arch, base),
        ("shell.", arch.shell, base.shell),
        ("memory.", arch.memory, base.memory),
    ):
        for field in dataclasses.fields(ours):
            value = getattr(ours, field.name)
            own = field.name not in ("preset", "shell", "memory", "unverified", "source")
            if own and value != getattr(theirs, field.name):
                yield f" --set {prefix}{field.name}={value}"


def save_record(record: FpgaRecord, folder: Path | None = None) -> Path:
    """Write a record into a folder (the user's cache by default); return its path.

    Raises
    ------
    HwsimError
        The folder cannot be written.
    """
    home = folder or locate_cache() / "results"
    plain = re.sub(r"\W+", "_", f"{record.arch}-{record.preset}-{record.target}").strip("_")
    path = home / f"{plain}-{record.fields[:8]}.json"
    try:
        home.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".part")
        scratch.write_text(to_json(record, indent=2) + "\n")
        scratch.replace(path)
    except OSError as error:
        raise HwsimError(f"{path}: cannot be written: {error.strerror}") from None
    return path


def _list_files() -> Iterator[Path]:
    for folder in (locate_cache() / "results", SHIPPED):
        if folder.is_dir():
            yield from sorted(folder.glob("*.json"))
