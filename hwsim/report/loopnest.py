"""A mapping printed as the loop nest that it is."""

from __future__ import annotations

from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, Mapping
from hwsim.report.units import format_bits, format_count

BLOCK = {"M": "NPQ", "K": "K", "C": "C"}
"""Dimensions behind each loop letter, outer to inner."""
NEEDS = {"W": "GKC", "I": "GNPQC", "O": "GNPQK"}
"""Tile indices on which the tile of an operand depends; it is loaded anew when one of them changes."""
BUFFER = {"W": "wbuf", "I": "ibuf", "O": "obuf"}


def list_loops(layer: Layer, mapping: Mapping) -> list[tuple[str, int, int, int]]:
    """Return the loops over tiles, outer to inner: dimension, its size, the tile's size, number of tiles."""
    counts = dict(zip(TILE_DIMS, mapping.tile_counts(layer), strict=True))
    sizes = dict(zip(TILE_DIMS, mapping.tile, strict=True))
    dims = "G" + "".join(BLOCK[letter] for letter in mapping.order)
    return [(dim, getattr(layer, dim), min(sizes[dim], getattr(layer, dim)), counts[dim]) for dim in dims]


def find_depth(loops: list[tuple[str, int, int, int]], operand: str) -> int:
    """Return how many loops stand around the load of an operand: those down to the last that moves its tile."""
    moving = [i for i, (dim, _, _, count) in enumerate(loops) if count > 1 and dim in NEEDS[operand]]
    return moving[-1] + 1 if moving else 0


def spills_psums(loops: list[tuple[str, int, int, int]]) -> bool:
    """Return whether partial sums go to memory and back: a loop that moves the output tile stands inside the one over C."""
    cut = [i for i, (dim, _, _, count) in enumerate(loops) if dim == "C" and count > 1]
    return bool(cut) and find_depth(loops, "O") > cut[0]


def format_loopnest(layer: Layer, mapping: Mapping, peak_buffer_bits: dict[str, int] | None = None) -> str:
    """Return the loop nest of a layer as text: loops over tiles, where each operand is loaded, what stays.

    Parameters
    ----------
    layer : Layer
        The layer.
    mapping : Mapping
        Its tiling and order.
    peak_buffer_bits : dict, optional
        Largest tile held by a bank of each buffer, bits.
    """
    loops = list_loops(layer, mapping)
    shown = [(i, loop) for i, loop in enumerate(loops) if loop[3] > 1]
    operands = ("W", "I") if layer.kind == "mac" else ("I",)
    spills = spills_psums(loops)
    lines = _describe(layer, mapping)
    depth_of = {operand: find_depth(loops, operand) for operand in (*operands, "O")}

    def emit_loads(depth: int, indent: int) -> None:
        for operand in operands:
            if depth_of[operand] == depth:
                lines.append("  " * indent + _load_line(operand, loops, depth, peak_buffer_bits))
        if depth_of["O"] == depth:
            text = (
                "bring partial sums back into obuf (none before the first C tile)" if spills else "take a bank of obuf"
            )
            lines.append("  " * indent + text)

    emit_loads(0, 0)
    for indent, (i, (dim, size, tile, count)) in enumerate(shown):
        ragged = f", last {size - (count - 1) * tile}" if size % tile else ""
        lines.append("  " * indent + f"for {dim.lower()} in 0..{size} step {tile}:  # {count} tiles{ragged}")
        emit_loads(i + 1, indent + 1)
    inside = "  " * len(shown)
    lines.append(inside + "exec " + " ".join(f"{d}{s}" for d, s in _tile_sizes(layer, mapping)))
    # Results leave at the depth at which their tile changes; the loops inside it only add to it.
    depth = depth_of["O"]
    indent = sum(1 for i, _ in shown if i < depth)
    goes = "store to memory: partial sums, or outputs after the last C tile" if spills else "store outputs"
    lines.append("  " * indent + goes)
    return "\n".join(lines)


def _describe(layer: Layer, mapping: Mapping) -> list[str]:
    dims = " ".join(f"{d}{getattr(layer, d)}" for d in (*TILE_DIMS, "R", "S"))
    tiles = 1
    for count in mapping.tile_counts(layer):
        tiles *= count
    if mapping.objective == "given":
        proof = "given, not searched"
    elif mapping.proven:
        proof = f"best {mapping.objective}{mapping.tie} of {format_count(mapping.candidates)} mappings, proven"
    else:
        proof = f"{mapping.objective} {mapping.value:.6g}, no mapping below {mapping.lower_bound:.6g}"
    return [
        f"# {layer.name}: {layer.op} {dims}",
        f"# order G {' '.join(mapping.order)} (M = N P Q), {format_count(tiles)} tiles; {proof}",
    ]


def _load_line(operand: str, loops: list[tuple[str, int, int, int]], depth: int, peaks: dict[str, int] | None) -> str:
    buffer = BUFFER[operand]
    inner = [dim for i, (dim, _, _, count) in enumerate(loops) if i >= depth and count > 1]
    stays = f", stays over {' '.join(d.lower() for d in inner)}" if inner else ""
    held = f", up to {format_bits(peaks[buffer])} a bank" if peaks and peaks.get(buffer) else ""
    what = {"W": "weights", "I": "inputs"}[operand]
    return f"load {what} -> {buffer}{held}{stays}"


def _tile_sizes(layer: Layer, mapping: Mapping) -> list[tuple[str, int]]:
    sizes = [(dim, min(size, getattr(layer, dim))) for dim, size in zip(TILE_DIMS, mapping.tile, strict=True)]
    return [*sizes, ("R", layer.R), ("S", layer.S)]
