"""From a tile, as the simulator sees it, to the descriptor that the store unit reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.lib import data

from accel_rtl.instruction_word import WORD_BITS
from accel_rtl.machine import PARAMETER_CHANNELS, PLACES, Machine
from accel_rtl.shell.store_stage import ELEMENT_BITS
from accel_rtl.shell.store_walk import EVENTS, ON, STAY, ZERO, StoreWalk
from accel_rtl.shell.vector_descriptor import pack_fields
from hwsim.core.check import require_choice
from hwsim.core.errors import SpecError
from hwsim.core.mapping import G, Int64, K, N, P, Q
from hwsim.engine.execute_tile import cut_output
from hwsim.engine.image import Slab

if TYPE_CHECKING:
    from hwsim.core.arch import Arch
    from hwsim.core.datapath import Datapath
    from hwsim.core.layer import Layer


def choose_walk(machine: Machine) -> StoreWalk:
    """Return the walker of a store unit."""
    return StoreWalk(
        columns=machine.columns, places=machine.beat_bits // machine.a_bits, slots=machine.beat_bits // 8,
        word_bits=machine.word_bits, channel_bits=machine.channel_bits,
    )  # fmt: skip


def store_layout(machine: Machine) -> data.StructLayout:
    """Return the descriptor of a STORE or SPILL: ``walk`` of a tile, ``words_end`` of a spill (words less one)."""
    layout = data.StructLayout({"walk": choose_walk(machine).layout, "words_end": machine.word_bits})
    if layout.size > WORD_BITS:
        raise SpecError(
            "machine.obuf_words", machine.obuf_words, f"a descriptor of {WORD_BITS} bits, not {layout.size}"
        )
    return layout


def describe_store(datapath: Datapath, arch: Arch, box: tuple[Int64, Int64], place: str, columns: int) -> int:
    """Return the descriptor of a STORE, one word of 512 bits (`store_layout`).

    Parameters
    ----------
    datapath : Datapath
        The layer at its formats.
    arch : Arch
        Says how memory is aligned and what the buffers hold.
    box : (ndarray int64 [6], ndarray int64 [6])
        First index and one past the last along ``TILE_DIMS``.
    place : str
        Where accumulators stand, one of `accel_rtl.machine.PLACES`.
    columns : int
        Of ``obuf``.

    Raises
    ------
    SpecError
        Elements that straddle a beat, a tile that begins or ends inside a byte, more than a buffer holds, more channels than
        there are parameters.
    """
    require_choice("place", place, PLACES)
    layer, bits, where = datapath.layer, datapath.workload.out_bits, f"layer {datapath.layer.name}"
    if bits not in ELEMENT_BITS:
        raise SpecError(f"{where}: out_bits", bits, "1, 2, 4, 8 or 16: no element may straddle a beat")
    if layer.out_shape[1] > PARAMETER_CHANNELS:
        raise SpecError(f"{where}: output channels", layer.out_shape[1], f"at most {PARAMETER_CHANNELS} to be built")
    machine = Machine.from_arch(arch, columns, bits)
    lo, hi = box
    size = [int(extent) for extent in hi - lo]
    if size[G] > 1 and size[K] < layer.K:
        raise SpecError(f"{where}: tile, K", size[K], f"{layer.K}, all filters of the groups of a tile")
    count_words(machine, size, place)
    slab = cut_output(datapath, lo, hi, machine.beat_bits)
    check_edges(layer, box, bits)
    beats = slab.stream_bits // machine.beat_bits
    if beats > machine.stage_beats:
        raise SpecError(f"{where}: beats of a tile", beats, f"at most {machine.stage_beats}, the staging buffer")
    is_row = layer.P == layer.Q == 1
    walk = choose_walk(machine)
    fields = {"planes_end": size[K] - 1, "groups_end": size[G] - 1, "images_end": size[N] - 1, "is_row": int(is_row)}
    fields |= {"channel": int(lo[G]) * layer.K + int(lo[K])}
    fields |= describe_rows(slab) | describe_moves(machine, size, place)
    return pack_fields(fields, walk.layout, f"{where}: tile")


def describe_spill(datapath: Datapath, arch: Arch, box: tuple[Int64, Int64], place: str, columns: int) -> int:
    """Return the descriptor of a SPILL, one word of 512 bits (`store_layout`); parameters as of `describe_store`."""
    require_choice("place", place, PLACES)
    machine = Machine.from_arch(arch, columns, datapath.workload.out_bits)
    lo, hi = box
    words = count_words(machine, [int(extent) for extent in hi - lo], place)
    layout = store_layout(machine)
    return (words - 1) << layout["words_end"].offset


def count_words(machine: Machine, size: list[int], place: str) -> int:
    """Return the words of ``obuf`` that a tile of ``size`` takes, or raise SpecError where it does not fit a bank."""
    columns, pixels = machine.columns, size[N] * size[P] * size[Q]
    words = {
        "filters": size[G] * -(-size[K] // columns) * pixels,
        "pixels": size[G] * -(-pixels // columns) * size[K],
        "linear": -(-size[G] * size[K] * pixels // columns),
    }[place]
    if not 0 < words <= machine.obuf_words:
        raise SpecError("tile: words of obuf", words, f"1 to {machine.obuf_words}")
    return words


def check_edges(layer: Layer, box: tuple[Int64, Int64], bits: int) -> None:
    """Raise SpecError where a tile begins or ends inside a byte that other elements share."""
    lo, hi = box
    if layer.P == layer.Q == 1:
        first, extent = int(lo[G]) * layer.K + int(lo[K]), int((hi[G] - lo[G]) * (hi[K] - lo[K]))
        what, end, whole = "channel", first + extent, layer.G * layer.K
    else:
        what, first, end, whole = "column", int(lo[Q]), int(hi[Q]), layer.Q
    if first * bits % 8 or (end * bits % 8 and end != whole):
        raise SpecError(f"layer {layer.name}: tile, first and last {what}", (first, end - 1), "edges between bytes")


def describe_rows(slab: Slab) -> dict[str, int]:
    """Return where rows of a tile begin in their beats, in elements."""
    bits = slab.bits
    step = slab.slot_bits // bits if slab.shared > 1 else 0
    lead = slab.lead_bits // bits
    return {
        "columns_end": slab.columns - 1, "rows_end": slab.rows - 1, "slot_begin": slab.lead_rows,
        "slot_end": slab.shared - 1, "place_begin": lead + slab.lead_rows * step, "place_lead": lead, "place_step": step,
    }  # fmt: skip


def describe_moves(machine: Machine, size: list[int], place: str) -> dict[str, int]:
    """Return the moves between the places of elements, by event: see `StoreWalk`."""
    columns, plane = machine.columns, size[P] * size[Q]
    pixels, groups, filters = size[N] * plane, size[G], size[K]
    if place == "linear":  # one element behind the other, whatever ends
        moves = dict.fromkeys(EVENTS, (0, ON, 0, 1))
    elif place == "filters":
        blocks = -(-filters // columns)
        home = plane - (groups * blocks - 1) * pixels
        moves = {
            "step": (0, STAY, 1, 1), "plane": (1, ON, 0, pixels), "group": (1, ZERO, pixels, pixels),
            "image": (1, ZERO, home, home),
        }  # fmt: skip
    else:
        block = -(-pixels // columns) * filters
        group = block - filters + 1
        home = -((groups - 1) * block + filters - 1)
        moves = {
            "step": (0, ON, 0, filters), "plane": (1, STAY, 1, 1), "group": (1, STAY, group, group),
            "image": (0, ON, home, home + filters),
        }  # fmt: skip
    fields: dict[str, int] = {}
    for event, (back, turn, plain, wrap) in moves.items():
        fields |= {f"{event}_back": back, f"{event}_turn": turn}
        fields |= {f"{event}_plain": plain % (1 << machine.word_bits), f"{event}_wrap": wrap % (1 << machine.word_bits)}
    return fields
