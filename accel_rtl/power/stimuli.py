"""Stimuli of a block's netlist, with what must come out: values of real layers, or drawn ones.

Every stimulus is 64 streams or fewer, side by side. Its first cycles fill the pipeline and do not count. What comes out is held to
the block's own `compute`, bit by bit, in every cycle that gives a result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from accel_rtl.blocks.mac import Mac
from accel_rtl.blocks.requantize import Requantize
from accel_rtl.blocks.systolic_array import SystolicArray
from accel_rtl.power.activity import LANES, Simulation, arrange, collect, join, spread, spread_alike
from accel_rtl.power.mapped import Int64, Uint64
from hwsim.core.errors import HwsimError

LEAST_LENGTH = 8
"""Elements of a stream at least: fewer streams where there are not enough."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stimulus:
    """A run of a block.

    Parameters
    ----------
    name : str
    lanes : int
        Streams.
    operations : int
        What the counted cycles of all streams do: elements, products, sums.
    whole : int
        Operations of a whole layer that these stand for.
    play : callable
        Runs a simulation that was just reset and returns the number of results that it compared; HwsimError where one differs.
    """

    name: str
    lanes: int
    operations: int
    whole: int
    play: Callable[[Simulation], int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Elements:
    """Elements for a requantizer, in the order in which they come.

    Parameters
    ----------
    acc, bias, multiplier, shift : ndarray int64 [E]
    limits : tuple of int
        Zero point, least, largest result.
    """

    acc: Int64
    bias: Int64
    multiplier: Int64
    shift: Int64
    limits: tuple[int, int, int]


def cut_streams(count: int, most: int | None = None) -> tuple[int, int]:
    """Return streams and the elements of each; ``most`` bounds the latter."""
    lanes = min(LANES, max(1, count // LEAST_LENGTH))
    length = count // lanes
    return lanes, length if most is None else min(length, most)


def drive_requantize(spec: Requantize, name: str, given: Elements, most: int | None = None) -> Stimulus:
    """Return an element a cycle for one lane; each stream is a run of neighbours, the elements before it fill the pipeline."""
    count = given.acc.size
    lanes, length = cut_streams(count, most)
    warm = spec.latency_cycles + 1
    picks = (np.arange(-warm, length)[:, None] + np.arange(lanes) * (count // lanes)) % count
    layout, fields = spec.element_layout, []
    for field in layout.members:
        width = layout[field].width
        values = picks if field == "tag" else getattr(given, field)[picks]
        fields.append(spread(values, width))
    limit_bits = spec.out_bits + 1
    ports = {
        "i_valid": spread_alike(1, 1), "i": join(fields),
        "limits": join([spread_alike(limit, limit_bits) for limit in given.limits]),
    }  # fmt: skip
    zero, low, high = given.limits
    wanted = spec.compute(
        given.acc[picks], given.shift[picks], given.multiplier[picks], given.bias[picks], zero_point=zero, low=low, high=high
    )  # fmt: skip

    def check(outputs: Mapping[str, Uint64]) -> int:
        found = collect(outputs["o"][:, :limit_bits], signed=True)[spec.latency_cycles :, :lanes]
        return compare(name, wanted[: len(found)], found)

    return Stimulus(
        name=name, lanes=lanes, operations=length * lanes, whole=count, play=open_loop(ports, warm + length, warm, check)
    )  # fmt: skip


def drive_mac(spec: Mac, name: str, x: Int64, y: Int64, whole: int = 0) -> Stimulus:
    """Return sums one behind the other for a cell that keeps them: ``x`` and ``y`` ``[sums, streams, depth]``, two sums at least.

    The first sum fills the pipeline.
    """
    sums, lanes, depth = x.shape
    flow = [np.ascontiguousarray(v.transpose(0, 2, 1)).reshape(sums * depth, lanes) for v in (x, y)]
    begins = np.arange(sums * depth) % depth
    ports = {
        "x": spread(flow[0], spec.x_bits), "y": spread(flow[1], spec.y_bits), "valid": spread_alike(1, 1),
        "clear": _mark(begins == 0), "last": _mark(begins == depth - 1),
    }  # fmt: skip
    wanted = spec.compute(x, y)  # [sums, lanes]

    def check(outputs: Mapping[str, Uint64]) -> int:
        # the product is registered: a sum stands a cycle behind its last operands
        at = np.arange(1, sums) * depth
        found = collect(outputs["total"][at], signed=True)[:, :lanes]
        if not outputs["finish"][at].all():
            raise HwsimError(f"{name}: the cell does not say that a sum is done")
        return compare(name, wanted[: sums - 1], found)

    return Stimulus(
        name=name, lanes=lanes, operations=(sums - 1) * depth * lanes, whole=whole,
        play=open_loop(ports, sums * depth, depth, check),
    )  # fmt: skip


def drive_array(spec: SystolicArray, name: str, x: Int64, y: Int64, whole: int = 0) -> Stimulus:
    """Return folds of an array whose sums stay: ``x [folds, streams, rows, depth]``, ``y [folds, streams, cols, depth]``.

    Folds follow one another without a gap where they are as deep as the array has rows. The first one fills the array, all cells
    are at work in the counted cycles.
    """
    folds, lanes, rows, depth = x.shape
    pitch = max(depth, rows)
    total = folds * pitch
    ports: dict[str, Uint64] = {}
    step = np.arange(pitch) < depth
    flags = {"valid": step, "clear": np.arange(pitch) == 0, "last": np.arange(pitch) == depth - 1}
    for side, values, count, bits in (("x", x, rows, spec.x_bits), ("y", y, spec.cols, spec.y_bits)):
        flow = np.zeros((count, folds, pitch, lanes), np.int64)
        flow[:, :, :depth] = values.transpose(2, 0, 3, 1)
        for i in range(count):
            ports[f"{side}__{i}"] = spread(np.roll(flow[i].reshape(total, lanes), i, axis=0), bits)
    for flag, mask in flags.items():
        line = np.tile(mask, folds)
        for i in range(rows):
            ports[f"{flag}__{i}"] = _mark(np.roll(line, i) & (np.arange(total) >= i))
    wanted = np.stack([[spec.compute(x[f, s], y[f, s].T) for s in range(lanes)] for f in range(folds)])

    def check(outputs: Mapping[str, Uint64]) -> int:
        seen = 0
        for j in range(spec.cols):
            for fold in range(folds):
                first = fold * pitch + depth - 1 + spec.latency_cycles + j
                if first + rows > total:
                    continue
                found = collect(outputs[f"result__{j}"][first : first + rows], signed=True)[:, :lanes]
                seen += compare(name, wanted[fold, :, :, j].T, found)
        return seen

    warm = max(pitch, rows + spec.cols)
    operations = round((total - warm) * rows * spec.cols * depth / pitch) * lanes
    return Stimulus(
        name=name, lanes=lanes, operations=operations, whole=whole, play=open_loop(ports, total, warm, check)
    )  # fmt: skip


def open_loop(
    ports: Mapping[str, Uint64], cycles: int, warm: int, check: Callable[[Mapping[str, Uint64]], int]
) -> Callable[[Simulation], int]:  # fmt: skip
    """Return what plays inputs that wait for no output: words ``[T, bits]`` or ``[bits]`` by port, other ports 0.

    The first ``warm`` cycles do not count. ``check`` receives the outputs ``[T, bits]``.
    """

    def play(simulation: Simulation) -> int:
        rows = arrange(simulation.netlist, ports, cycles)
        seen = [simulation.run(rows[:warm], counted=False), simulation.run(rows[warm:])]
        return check(simulation.split(np.concatenate(seen)))

    return play


def compare(name: str, wanted: Int64, found: Int64) -> int:
    """Return how many results are equal: all of them, or HwsimError says that the netlist does not compute what it should."""
    wrong = np.argwhere(wanted != found)
    if len(wrong):
        at = tuple(wrong[0])
        raise HwsimError(
            f"{name}: the netlist gives {int(found[at])}, the block's definition {int(wanted[at])} ({len(wrong)} differ)"
        )
    return int(wanted.size)


def _mark(mask: object) -> Uint64:
    """Return a flag by cycle, alike in all streams, as words ``[T, 1]``."""
    return np.where(np.asarray(mask, bool)[:, None], ~np.uint64(0), np.uint64(0))
