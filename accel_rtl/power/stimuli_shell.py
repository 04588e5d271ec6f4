"""Stimuli of the store and the vector unit: tiles of one shape side by side, each stream with its own values.

See `accel_rtl.power.stimuli`. Control is alike in all streams, so one descriptor serves them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from accel_rtl.power.activity import Simulation, collect, spread, spread_alike
from accel_rtl.power.mapped import Int64, Uint64
from accel_rtl.power.stimuli import Stimulus, compare, open_loop
from accel_rtl.shell.store import StoreUnit
from accel_rtl.shell.vector import LATENCY_CYCLES, VectorUnit
from accel_rtl.shell.vector_descriptor import (
    ADDITION,
    TILE_LAYOUT,
    header_layout,
    list_windows,
    pack_fields,
    unpack_fields,
)
from hwsim.core.errors import HwsimError

MOST_CYCLES = 100_000
"""A store that takes longer is hung."""
_POOLED_CYCLES = 7
_HALF = 32


def drive_vector(
    spec: VectorUnit, name: str, tile: int, header: Mapping[str, int], beats: Uint64, most: int = 2048, whole: int = 0
) -> Stimulus:  # fmt: skip
    """Return a tile of a vector layer: its first ``most`` steps, of which those count that find the pipeline full.

    Parameters
    ----------
    spec : VectorUnit
        Of beats of 64 bits.
    name : str
    tile : int
        Descriptor.
    header : mapping
        As of `list_vector_header`.
    beats : ndarray uint64 [streams, beats]
        A bank of ``ibuf`` of each stream.
    most : int
    whole : int
        Results of the whole layer.
    """
    machine, layout = spec.machine, header_layout()
    fields = unpack_fields(tile, TILE_LAYOUT)
    steps = [step for window in list_windows(fields) for step in window]
    ends = np.cumsum([len(window) for window in list_windows(fields)]) - 1  # step that ends each window
    adds = header["operation"] == ADDITION
    count, per_beat = min(len(steps), most), machine.beat_bits // machine.a_bits
    delay = LATENCY_CYCLES if adds else _POOLED_CYCLES
    warm, cycles = 1 + delay, count + 5
    read = np.array([[a, b] for a, b, _ in steps[:count]], np.int64) // per_beat
    inside = np.array([valid for _, _, valid in steps[:count]], bool)
    seen = np.zeros((2, cycles, beats.shape[0]), np.uint64)
    for operand in range(2 if adds else 1):
        held = np.zeros(beats.shape[0], np.uint64)
        for cycle in range(cycles):
            step = cycle - 1 - 4  # started in cycle 1, a beat comes four cycles behind its step
            if 0 <= step < count and (adds or inside[step]):
                held = beats[:, read[step, operand]]
            seen[operand, cycle] = held
    start = np.zeros((cycles, 1), np.uint64)
    start[1] = ~np.uint64(0)
    packed = pack_fields({**dict.fromkeys(map(str, layout.members), 0), **header}, layout, f"{name}: header")
    ports = {
        "start": start, "tile": spread_alike(tile, 512 * spec.tile_words), "header": spread_alike(packed, layout.size),
        **{f"v_beat__{k}": spread(seen[k].view(np.int64), machine.beat_bits) for k in range(2)},
    }  # fmt: skip
    lanes = beats.shape[0]
    wanted = np.array([spec.compute(header, tile, [int(beat) for beat in bank]) for bank in beats], np.int64)

    def check(outputs: Mapping[str, Uint64]) -> int:
        compared = 0
        for element, end in enumerate(ends):
            cycle, column = 1 + int(end) + delay, element % machine.columns
            if cycle >= cycles:
                break
            if not outputs[f"o_write_enable__{column}"][cycle].all():
                raise HwsimError(f"{name}: result {element} is not written in cycle {cycle}")
            found = collect(outputs[f"o_write_data__{column}"][cycle], signed=True)[:lanes]
            compared += compare(name, wanted[:, element], found)
        return compared

    counted = cycles - warm
    operations = round(counted * len(ends) / len(steps)) * lanes
    return Stimulus(
        name=name, lanes=lanes, operations=operations, whole=whole, play=open_loop(ports, cycles, warm, check)
    )  # fmt: skip


def drive_store(
    spec: StoreUnit, name: str, instruction: int, extra: int, words: Sequence[int], limits: tuple[int, int, int], banks: Int64,
    whole: int = 0,
) -> Stimulus:  # fmt: skip
    """Return a tile that is stored: from ``start`` to ``done``, pipeline, packing and the write of its beats within.

    Parameters
    ----------
    spec : StoreUnit
    name : str
    instruction, extra : int
        The STORE and its descriptor.
    words : sequence of int
        The layer's parameter words, written before.
    limits : tuple of int
        Zero point, least, largest result.
    banks : ndarray int64 [streams, words, columns]
        Accumulators of each stream's bank of ``obuf``.
    whole : int
        Elements of the whole layer.
    """
    walk = unpack_fields(extra & (1 << spec.walk.layout.size) - 1, spec.walk.layout)
    parameters = spec.parameters.compute(words)
    lanes, elements = banks.shape[0], len(list(spec.walk.compute(walk)))
    wanted = [spec.compute(walk, bank.tolist(), parameters, limits) for bank in banks]

    def play(simulation: Simulation) -> int:
        return _play_store(simulation, spec, name, (instruction, extra, words, limits), banks, wanted)

    return Stimulus(name=name, lanes=lanes, operations=elements * lanes, whole=whole, play=play)


def _play_store(
    simulation: Simulation, spec: StoreUnit, name: str, given: tuple[int, int, Sequence[int], tuple[int, int, int]],
    banks: Int64, wanted: Sequence[Sequence[tuple[int, int]]],
) -> int:  # fmt: skip
    """Write the parameters, start, answer reads and writes until it is done; compare the beats."""
    instruction, extra, words, limits = given
    machine, widths = spec.machine, {port: len(nets) for port, nets in simulation.netlist.inputs.items()}
    bits = {"instruction": instruction, "extra": extra, "axi__awready": 1, "axi__wready": 1}
    bits |= dict(zip(("out_zero", "out_low", "out_high"), limits, strict=True))
    steady = {port: spread_alike(value, widths[port]) for port, value in bits.items()}
    one = spread_alike(1, 1)
    for address, word in enumerate(words):
        write = {"write_valid": one, "write_address": spread_alike(address, widths["write_address"])}
        simulation.step({**steady, **write, "write_data": spread_alike(word, widths["write_data"])}, counted=False)
    simulation.step(steady, counted=False)
    ports, data, strobes = {"start": one}, [], []
    held = {f"d_data__{j}": np.zeros(machine.psum_bits, np.uint64) for j in range(machine.columns)}
    owed = 0  # beats that ended a burst and are not answered yet
    for _ in range(MOST_CYCLES):
        seen = simulation.step({**steady, **held, **ports})
        ports = {}
        if seen["axi__wvalid"][0] & np.uint64(1):
            data.append(seen["axi__wdata"])
            strobes.append(seen["axi__wstrb"])
            owed += int(seen["axi__wlast"][0] & np.uint64(1))
        if owed:
            ports["axi__bvalid"] = one
            owed -= 1
        if seen["d_enable"][0] & np.uint64(1):
            word = int(collect(seen["d_word"])[0])
            for j in range(machine.columns):
                held[f"d_data__{j}"] = spread(banks[:, word, j], machine.psum_bits)
        if seen["done"][0] & np.uint64(1):
            break
    else:
        raise HwsimError(f"{name}: the store unit is not done within {MOST_CYCLES:,} cycles")
    if len(data) != len(wanted[0]):
        raise HwsimError(f"{name}: {len(data)} beats are written, {len(wanted[0])} expected")
    return _compare_beats(name, np.stack(data), np.stack(strobes), wanted)


def _compare_beats(name: str, data: Uint64, strobes: Uint64, wanted: Sequence[Sequence[tuple[int, int]]]) -> int:
    lanes, compared = len(wanted), 0
    for k, words in enumerate((data, strobes)):
        for at in range(0, words.shape[1], _HALF):
            part = words[:, at : at + _HALF]
            mask = (1 << part.shape[1]) - 1
            ours = np.array(
                [[stream[beat][k] >> at & mask for stream in wanted] for beat in range(len(words))], np.int64
            )
            compared += compare(name, ours, collect(part)[:, :lanes])
    return compared


def pack_bank(places: Int64, values: Int64, words: int, columns: int) -> Int64:
    """Return banks ``[streams, words, columns]`` from accumulators ``[streams, elements]`` and their places in a bank."""
    bank = np.zeros((values.shape[0], words * columns), np.int64)
    bank[:, places] = values
    return bank.reshape(-1, words, columns)
