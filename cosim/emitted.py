"""Generated accelerators, kept by the sources that they are generated from: Amaranth takes seconds to write one."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import accel_rtl
import hwsim.archs
import hwsim.core
from accel_rtl.emit import (
    Rtlil,
    Verilog,
    cached_folder,
    emit_rtlil,
    emit_verilog,
    hash_content,
    list_ports,
    list_versions,
    locate_cache,
)
from hwsim.archs.registry import encode_arch
from hwsim.core.arch import Arch
from hwsim.core.errors import HwsimError

if TYPE_CHECKING:
    from accel_rtl.accelerator import AcceleratorComponent

PACKAGES = (accel_rtl, hwsim.archs, hwsim.core)
"""All that decides what is generated for an `Arch`."""


@cache
def create_top(arch: Arch) -> AcceleratorComponent:
    """Return the top of an accelerator; errors as of `accel_rtl.accelerator.create_accelerator`."""
    from accel_rtl.accelerator import create_accelerator

    list_versions()
    return create_accelerator(arch)


@cache
def emit_accelerator(arch: Arch) -> Rtlil:
    """Return an accelerator as RTLIL."""
    top = create_top(arch)
    text = _keep("rtlil", arch, lambda: emit_rtlil(top).text)
    return Rtlil(name="top", text=text, ports=list_ports(top), clocked=True)


@cache
def emit_accelerator_verilog(arch: Arch) -> Verilog:
    """Return an accelerator as Verilog."""
    top = create_top(arch)
    text = _keep("verilog", arch, lambda: emit_verilog(top).text)
    return Verilog(name="top", text=text, digest=hash_content(text), ports=list_ports(top))


@cache
def hash_sources() -> str:
    """Return a digest of the sources of `PACKAGES`."""
    texts = []
    for package in PACKAGES:
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            texts += [path.relative_to(folder).as_posix(), path.read_text()]
    return hash_content(*texts)


def _keep(kind: str, arch: Arch, write: Callable[[], str]) -> str:
    key = hash_content("emitted", kind, encode_arch(arch), hash_sources(), *list_versions())
    with naming_folder():
        return (build_once(key, lambda folder: _write(folder / "text", write())) / "text").read_text()


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def build_once(key: str, build: Callable[[Path], None]) -> Path:
    """Return `accel_rtl.emit.cached_folder` of a key; processes that want the same at once wait for one of them to build it."""
    if (locate_cache() / key).is_dir():
        return cached_folder(key, build)
    with (locate_cache() / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return cached_folder(key, build)


class naming_folder:
    """A context in which a folder that cannot be written is a user's error."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            where = f" ({error.filename})" if error.filename else ""
            raise HwsimError(
                f"generated hardware cannot be kept: {error.strerror or error}{where}; XDG_CACHE_HOME names another folder"
            ) from None
