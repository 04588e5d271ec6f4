"""Kernel of BitFusion's exhaustive search; see `hwsim.published.bitfusion` for the equations."""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel

B, OW, OH, IC, OC = range(5)
WEIGHTS, INPUTS, OUTPUTS = range(3)


@kernel
def needs(loop: int, tensor: int) -> bool:
    """Return whether a tensor's footprint grows with a loop."""
    if tensor == WEIGHTS:
        return loop in (IC, OC)
    if tensor == INPUTS:
        return loop != OC
    return loop != IC


@kernel
def promote(order: np.ndarray, counts: np.ndarray, tensor: int, room: int, first: int) -> tuple[int, int]:
    """Return bits moved over all loops, and the largest footprint that still fits: innermost loop first."""
    bits, held, grows = first, first, True
    for level in range(4, -1, -1):
        loop = order[level]
        if not grows:
            bits *= counts[loop]
        elif needs(loop, tensor):
            bits *= counts[loop]
            if bits > room:
                grows = False
            else:
                held = bits
    return bits, held


@kernel
def evaluate(
    layer: np.ndarray,
    machine: np.ndarray,
    prices: np.ndarray,
    tile: np.ndarray,
    counts: np.ndarray,
    order: np.ndarray,
    out: np.ndarray,
) -> float:
    """Fill the counts of one tiling in one order; return its energy in nJ, negative if it does not fit.

    Parameters
    ----------
    layer : int64 [9]
        K, output width, stride, input channels, output channels, batch, input bits, weight bits, 1 for im2col.
    machine : int64 [8]
        Rows N, columns M, bytes of weight, input and output buffer, port bits, products a unit and cycle, output bits.
    prices : float64 [8]
        nJ: core a cycle; reads and writes a bit of weight, input, output buffer; DRAM a bit.
    tile, counts, order : int64 [5]
        Tile sizes and counts along B OW OH IC OC; loops, outermost first.
    out : int64 [5], filled
        Cycles, stalls, DRAM reads, DRAM writes, what of the reads is weights.
    """
    k, stride, im2col = layer[0], layer[2], layer[8] == 1
    a_bits, w_bits = layer[6], layer[7]
    rows, cols, port, fused, o_bits = machine[0], machine[1], machine[5], machine[6], machine[7]
    b, ow, oh, ic, oc = tile[B], tile[OW], tile[OH], tile[IC], tile[OC]
    lanes = rows * fused
    deep = -(-k * k * ic // lanes) * lanes
    w_tile = deep * oc * w_bits
    if im2col:
        a_tile = ow * oh * k * k * ic * b * a_bits
    else:
        a_tile = (k + (ow - 1) * stride) * (k + (oh - 1) * stride) * ic * b * a_bits
    padded = -(-oc // cols) * cols
    o_tile = ow * oh * padded * b * o_bits
    w_room, a_room, o_room = machine[2] * 4, machine[3] * 4, machine[4] * 4
    if w_tile > w_room or a_tile > a_room or o_tile > o_room:
        return -1.0
    w_moved, w_held = promote(order, counts, WEIGHTS, w_room, w_tile)
    a_moved, a_held = promote(order, counts, INPUTS, a_room, a_tile)
    o_moved, o_held = promote(order, counts, OUTPUTS, o_room, o_tile)
    dram_read, dram_write = w_moved + a_moved + o_moved, o_moved
    tiles = counts[B] * counts[OW] * counts[OH] * counts[IC] * counts[OC]
    pixels, filter_size = b * ow * oh, k * k * ic
    if im2col:
        compute = pixels * -(-oc // cols) * -(-filter_size // lanes)
        reduction = deep
    else:
        compute = pixels * -(-oc // cols) * k * k * -(-ic // lanes)
        reduction = -(-ic // lanes) * lanes * k * k
    compute *= tiles
    begin, finish = w_held + a_held + o_held, o_held
    latency = -(-begin // port) - (-finish // port)
    middle = dram_read + dram_write - begin - finish
    stalls = max(0, -(-middle // port) - compute) + latency
    out[0], out[1], out[2], out[3], out[4] = compute + stalls, stalls, dram_read, dram_write, w_moved
    input_stays = reduction * pixels * (a_bits + padded * (w_bits + o_bits))
    output_stays = padded * pixels * (o_bits + reduction * (a_bits + w_bits))
    weight_stays = reduction * padded * (w_bits + pixels * (a_bits + o_bits))
    best = min(input_stays, output_stays, weight_stays)
    macs = filter_size * pixels * oc * tiles
    if input_stays == best:
        a_read, w_read, o_used = filter_size * pixels * tiles * a_bits, macs * w_bits, macs * o_bits
    elif output_stays == best:
        a_read, w_read, o_used = macs * a_bits, macs * w_bits, oc * pixels * tiles * o_bits
    else:
        a_read, w_read, o_used = macs * a_bits, filter_size * oc * tiles * w_bits, macs * o_bits
    energy = compute * prices[0] + w_read * prices[1] + w_moved * prices[2] + a_read * prices[3] + a_moved * prices[4]
    energy += (o_used + o_moved) * prices[5] + (o_used + o_moved) * prices[6]
    return energy + (dram_read + dram_write) * prices[7]


@kernel
def search(
    layer: np.ndarray, machine: np.ndarray, prices: np.ndarray, orders: np.ndarray, best: np.ndarray, energy: np.ndarray
) -> int:
    """Fill cycles, stalls, DRAM reads, writes, weights read of the fastest tiling (least energy among equals) and its energy in nJ.

    Tiles are powers of two, output columns and rows alike, output channels in units of M. ``orders`` is int64 [orders, 5]. Returns
    the number of tilings and orders tried; 0 where nothing fits.
    """
    tile, counts, found = np.empty(5, np.int64), np.empty(5, np.int64), np.empty(5, np.int64)
    unit = 1 if layer[8] == 1 else machine[1]
    tried = 0
    b = 1
    while True:
        tile[B] = min(b, layer[5])
        o = 1
        while True:
            tile[OW] = tile[OH] = min(o, layer[1])
            ic = 1
            while True:
                tile[IC] = min(ic, layer[3])
                oc = unit
                while True:
                    tile[OC] = min(oc, layer[4])
                    counts[B], counts[IC], counts[OC] = (
                        -(-layer[5] // tile[B]),
                        -(-layer[3] // tile[IC]),
                        -(-layer[4] // tile[OC]),
                    )
                    counts[OW] = counts[OH] = -(-layer[1] // tile[OW])
                    for i in range(orders.shape[0]):
                        price = evaluate(layer, machine, prices, tile, counts, orders[i], found)
                        if price < 0:
                            break
                        if tried == 0 or found[0] < best[0] or (found[0] == best[0] and price < energy[0]):
                            best[:] = found
                            energy[0] = price
                        tried += 1
                    if oc >= layer[4]:
                        break
                    oc *= 2
                if ic >= layer[3]:
                    break
                ic *= 2
            if o >= layer[1]:
                break
            o *= 2
        if b >= layer[5]:
            break
        b *= 2
    return tried
