"""Compiled models of generated hardware: a whole stimulus in, the outputs of every cycle out.

Yosys writes the component as C++ (CXXRTL), g++ makes a shared library of it, called once for all cycles: 0.1 to 3 million
cycles a second, against some thousands of an event-driven simulator. What a cycle shows are the values just before its clock
edge: outputs answer the inputs of the same cycle. Registers begin at their reset values; before every run the model is as
if new. Libraries are kept under a hash of the RTLIL, this file's wrapper, the flags and the versions of the tools.
"""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from amaranth.lib import wiring

from accel_rtl.emit import Field, Port, Rtlil, cached_folder, emit_rtlil, hash_content, list_versions, run_yosys
from cosim import eval_parts
from hwsim.core.errors import HwsimError, SpecError

CXX_FLAGS = ("-std=c++14", "-O1", "-fPIC", "-shared", "-w")
"""-O2 takes half as long again to compile and runs at most twice as fast."""
CXX_SECONDS = 1800
RECIPE = ("proc", "flatten", "opt_clean")
"""Yosys passes before ``write_cxxrtl``: the hierarchy is of no use to a model of which only the ports are seen."""
SPLIT = ("splitnets -driver", "opt_clean")
"""Passes behind `RECIPE` where nets need not keep their names. A net whose bits depend on others of its own bits counts as
feedback: every step is evaluated until nothing changes. Split by drivers no net is left that does: a cycle takes one evaluation."""
WORD = 32

Int64 = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32]

_WRAPPER = """\
#include "top.cc"
using namespace cxxrtl;
namespace {{
template <size_t B> const value<B> &look(const value<B> &v) {{ return v; }}
template <size_t B> const value<B> &look(const wire<B> &w) {{ return w.curr; }}
template <size_t B> void give(value<B> &v, const uint32_t *w) {{ for (size_t k = 0; k < value<B>::chunks; k++) v.data[k] = w[k]; }}
template <size_t B> void give(wire<B> &v, const uint32_t *w) {{ give(v.next, w); give(v.curr, w); }}
template <size_t B> void take(const value<B> &v, uint32_t *w) {{ for (size_t k = 0; k < value<B>::chunks; k++) w[k] = v.data[k]; }}
}}
extern "C" void run(uint64_t cycles, const uint32_t *in, uint32_t *out) {{
  cxxrtl_design::p_{top} model;
  const bool once = model.eval();  // nothing feeds back: one evaluation a cycle, outputs and the edge's registers at once
  for (uint64_t cycle = 0; cycle < cycles; cycle++, in += {in_words}, out += {out_words}) {{
{drive}
{low}{sample}
{high}  }}
}}
"""
_LOW = """\
    model.p_clk.set<bool>(false);
    if (once) { model.prev_p_clk = model.p_clk; model.p_clk.set<bool>(true); model.eval(); } else model.step();
"""


@cache
def find_compiler() -> str:
    """Return the path of g++ (or the system's c++), or raise HwsimError."""
    found = shutil.which("g++") or shutil.which("c++")
    if found is None:
        raise HwsimError("compiling a model of the hardware needs a C++ compiler: install g++")
    return found


class BatchModel:
    """A compiled component.

    Parameters
    ----------
    component : amaranth.lib.wiring.Component
        Made into a model on construction, unless the cache has it.

    Attributes
    ----------
    inputs, outputs : tuple of Port
        In the order of the words; ``rst`` is the last input of a component with registers.
    """

    def __init__(self, component: wiring.Component) -> None:
        source = emit_rtlil(component)
        given = [port for port in source.ports if port.direction == "in"]
        if source.clocked:
            plain = Field(name="rst", offset=0, width=1, count=0, signed=False)
            given.append(Port(name="rst", direction="in", width=1, fields=(plain,)))
        self.inputs = tuple(port for port in given if port.width)
        self.outputs = tuple(port for port in source.ports if port.direction == "out" and port.width)
        self._in_at, self._in_words = _place_words(self.inputs)
        self._out_at, self._out_words = _place_words(self.outputs)
        self._run = ctypes.CDLL(str(_build_library(source, self._write_wrapper(source)))).run
        self._run.argtypes = [ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p]
        self._run.restype = None

    def run(self, stimulus: Mapping[str, npt.ArrayLike], cycles: int = 0) -> dict[str, Int64]:
        """Run from reset and return the outputs of every cycle.

        Parameters
        ----------
        stimulus : mapping of str to array_like of int
            By the name of a port, or of a part of a structured one (``i__payload.weight``): ``[cycles]``, for arrays ``[cycles,
            length]``; a single value stands for all cycles. What is not named is 0. Values are taken modulo the width.
        cycles : int
            0: as many as the longest array has.

        Returns
        -------
        dict of str to int64 ``[cycles]`` or ``[cycles, length]``
            Parts of more than 64 bits as ``[cycles, words]`` of 32 bits, the lowest first.

        Raises
        ------
        SpecError
            A name that the component has not, or an array of another length.
        """
        fields = {field.name: (field, self._in_at[port.name]) for port in self.inputs for field in port.fields}
        arrays = {name: np.asarray(value) for name, value in stimulus.items()}
        for name in arrays:
            if name not in fields:
                raise SpecError(f"stimulus.{name}", name, "one of " + ", ".join(sorted(fields)))
        cycles = cycles or max((len(array) for array in arrays.values() if array.ndim), default=1)
        words = np.zeros((cycles, self._in_words), np.uint32)
        for name, array in arrays.items():
            field, at = fields[name]
            if array.ndim and len(array) != cycles:
                raise SpecError(f"stimulus.{name}", array.shape, f"{cycles} cycles")
            _store_field(words[:, at:], field, np.broadcast_to(array, (cycles, *array.shape[1:])))
        return self._read_outputs(self.run_words(words))

    def run_words(self, words: Words) -> Words:
        """Run from reset on packed inputs ``[cycles, input words]``; return packed outputs ``[cycles, output words]``."""
        words = np.ascontiguousarray(words, np.uint32)
        if words.ndim != 2 or words.shape[1] != self._in_words:
            raise SpecError("words", words.shape, f"[cycles, {self._in_words}]")
        out = np.zeros((len(words), self._out_words), np.uint32)
        self._run(len(words), words.ctypes.data, out.ctypes.data)
        return out

    def _read_outputs(self, words: Words) -> dict[str, Int64]:
        places = ((field, self._out_at[port.name]) for port in self.outputs for field in port.fields)
        return {field.name: _load_field(words[:, at:], field) for field, at in places}

    def _write_wrapper(self, source: Rtlil) -> str:
        drive = [f"    give(model.{_mangle(p.name)}, in + {self._in_at[p.name]});" for p in self.inputs]
        sample = [f"    take(look(model.{_mangle(p.name)}), out + {self._out_at[p.name]});" for p in self.outputs]
        low, high = "    model.step();\n", ""
        if source.clocked:
            low = _LOW
            high = "    if (once) { model.commit(); continue; }\n    model.p_clk.set<bool>(true);\n    model.step();\n"
        return _WRAPPER.format(
            top=_mangle(source.name)[2:], in_words=self._in_words, out_words=self._out_words, drive="\n".join(drive), low=low,
            sample="\n".join(sample), high=high,
        )  # fmt: skip


def _place_words(ports: tuple[Port, ...]) -> tuple[dict[str, int], int]:
    """Return the first word of each port and the words of all."""
    places, at = {}, 0
    for port in ports:
        places[port.name] = at
        at += -(-port.width // WORD)
    return places, at


def _mangle(name: str) -> str:
    """Return a port's name as CXXRTL writes it."""
    return "p_" + "".join(c if c.isalnum() else "__" if c == "_" else f"_{ord(c):x}_" for c in name)


def _build_library(source: Rtlil, wrapper: str) -> Path:
    compiler = find_compiler()
    key = hash_content("cxxrtl", wrapper, *CXX_FLAGS, *list_origins(source))

    def build(folder: Path) -> None:
        write_model(source, folder)
        (folder / "model.cc").write_text(wrapper)
        compile_library([compiler, *CXX_FLAGS, f"-I{find_runtime()}"], "model.cc", folder)

    return cached_folder(key, build) / "model.so"


def list_origins(source: Rtlil, waves: int = 0) -> tuple[str, ...]:
    """Return all that `write_model` writes depends on."""
    return (source.text, *RECIPE, *SPLIT, str(waves), Path(eval_parts.__file__).read_text(), *list_versions())


def write_model(source: Rtlil, folder: Path, waves: int = 0) -> None:
    """Write a component as C++: ``top.cc``.

    Parameters
    ----------
    source : Rtlil
    folder : Path
    waves : int
        Level of debug information (``write_cxxrtl -g``). 0: none, and nets need not keep their names.
    """
    (folder / "top.il").write_text(source.text)
    recipe = RECIPE if waves else (*RECIPE, *SPLIT)
    start = ("read_rtlil top.il", f"hierarchy -check -top {source.name}")
    run_yosys([*start, *recipe, f"write_cxxrtl -g{waves} top.cc"], folder)
    written = folder / "top.cc"
    written.write_text(eval_parts.split_eval(written.read_text(), _mangle(source.name)))


def find_runtime() -> Path:
    """Return the folder of CXXRTL's headers."""
    found = importlib.util.find_spec("pyosys")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "share" / "include" / "backends" / "cxxrtl" / "runtime"


def compile_library(command: list[str], source: str, folder: Path) -> None:
    """Compile ``source`` in ``folder`` into a shared library of its name.

    Raises
    ------
    HwsimError
        The compiler's first error.
    """
    target = Path(source).with_suffix(".so").name
    try:
        done = subprocess.run(
            [*command, source, "-o", target],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=CXX_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HwsimError(f"{command[0]} did not finish in {CXX_SECONDS} s") from None
    if done.returncode:
        lines = done.stderr.splitlines() or ["no message"]
        raise HwsimError(f"{command[0]}: {next((line for line in lines if 'error' in line), lines[0])}")


def _store_field(words: Words, field: Field, values: npt.NDArray[np.generic]) -> None:
    """Put the values of a field ``[cycles]`` or ``[cycles, count]`` into the words of its port."""
    parts = values[:, None] if values.ndim == 1 else values
    if field.width > 64:  # given as words
        parts, width, count = parts.astype(np.int64), WORD, -(-field.width // WORD)
    else:
        width, count = field.width, max(1, field.count)
    if parts.shape[1] != count:
        raise SpecError(f"stimulus.{field.name}", values.shape, f"[cycles, {count}]")
    mask = np.uint64((1 << width) - 1)
    for k in range(count):
        keep = mask if width != WORD or field.width <= 64 else np.uint64((1 << min(WORD, field.width - k * WORD)) - 1)
        raw = parts[:, k].astype(np.int64).view(np.uint64) & keep
        first, shift = divmod(field.offset + k * width, WORD)
        words[:, first] |= (raw << np.uint64(shift)).astype(np.uint32)
        for more in range(1, -(-(shift + width) // WORD)):
            words[:, first + more] |= (raw >> np.uint64(WORD * more - shift)).astype(np.uint32)


def _load_field(words: Words, field: Field) -> Int64:
    """Take the values of a field out of the words of its port."""
    if field.width > 64:
        pieces = range(0, field.width, WORD)
        parts = [_load_bits(words, field.offset + at, min(WORD, field.width - at), False) for at in pieces]
        return np.stack(parts, axis=1)
    if not field.count:
        return _load_bits(words, field.offset, field.width, field.signed)
    places = range(field.offset, field.offset + field.count * field.width, field.width)
    return np.stack([_load_bits(words, at, field.width, field.signed) for at in places], axis=1)


def _load_bits(words: Words, offset: int, width: int, signed: bool) -> Int64:
    first, shift = divmod(offset, WORD)
    raw = words[:, first].astype(np.uint64) >> np.uint64(shift)
    for more in range(1, -(-(shift + width) // WORD)):
        raw |= words[:, first + more].astype(np.uint64) << np.uint64(WORD * more - shift)
    unused = np.uint64(64 - width)
    raw = raw << unused
    return raw.view(np.int64) >> np.int64(unused) if signed else (raw >> unused).view(np.int64)
