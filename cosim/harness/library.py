"""Builds the shared libraries of the harness; kept under a hash of all that goes into them."""

from __future__ import annotations

from pathlib import Path

from accel_rtl.emit import Rtlil, hash_content
from cosim.batch import CXX_FLAGS, compile_library, find_compiler, find_runtime, list_origins, write_model
from cosim.emitted import build_once

SOURCES = Path(__file__).parent
WAVES_LEVEL = 3
"""``write_cxxrtl -g``: what the VCD shows. 3 keeps every public net that costs no evaluation of its own, and memories."""


def build_accelerator(source: Rtlil, beat_bits: int, waves: bool = False) -> Path:
    """Return the library of an accelerator's model with memories and host around it.

    Parameters
    ----------
    source : Rtlil
        The top, with the ports of docs/rtl.md.
    beat_bits : int
        Width of the memory port.
    waves : bool
        With a VCD writer; slower to build and to run.

    Raises
    ------
    HwsimError
        No compiler, or one that fails.
    """
    level = WAVES_LEVEL if waves else 0
    # CXXRTL asserts the address of a write port that is not enabled too: it may stand one past a memory of any depth
    defines = (f"-DHWSIM_BEAT_BYTES={beat_bits // 8}", "-DCXXRTL_NDEBUG", *(("-DHWSIM_WAVES",) if waves else ()))
    texts = {name: (SOURCES / name).read_text() for name in ("harness.cpp", "axi_memory.hpp")}
    key = hash_content("harness", *texts.values(), *defines, *CXX_FLAGS, *list_origins(source, level))
    compiler = find_compiler()

    def build(folder: Path) -> None:
        write_model(source, folder, level)
        for name, text in texts.items():
            (folder / name).write_text(text)
        compile_library([compiler, *CXX_FLAGS, *defines, f"-I{find_runtime()}"], "harness.cpp", folder)

    return build_once(key, build) / "harness.so"


def build_memory() -> Path:
    """Return the library of the memory alone."""
    texts = {name: (SOURCES / name).read_text() for name in ("memory_alone.cpp", "axi_memory.hpp")}
    compiler = find_compiler()

    def build(folder: Path) -> None:
        for name, text in texts.items():
            (folder / name).write_text(text)
        compile_library([compiler, *CXX_FLAGS], "memory_alone.cpp", folder)

    return build_once(hash_content("memory", *texts.values(), *CXX_FLAGS), build) / "memory_alone.so"
