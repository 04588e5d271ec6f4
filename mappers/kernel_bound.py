"""Kernel of the mapper: traffic and an admissible lower bound of the cycles of many candidate mappings at once."""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel
from hwsim.engine.kernel_lower import rows_per_unit, span


@kernel
def input_span(
    lo: int, hi: int, stride: int, pad: int, dilation: int, window: int, size: int, windowed: int
) -> tuple[int, int]:
    """Return first and one past last stored row (or column) that outputs ``lo:hi`` read."""
    if windowed == 0:
        return (lo, hi) if size > 1 else (0, 1)
    first = min(max(lo * stride - pad, 0), size)
    last = min(max((hi - 1) * stride - pad + dilation * (window - 1) + 1, first), size)
    return first, last


@kernel
def sum_rows(
    tile: int,
    extent: int,
    stride: int,
    pad: int,
    dilation: int,
    window: int,
    size: int,
    windowed: int,
    shared: int,
) -> tuple[int, int, int]:
    """Return sum, first and largest number of moved units of ``shared`` rows over the tiles of P."""
    total, first, largest = 0, 0, 0
    lo = 0
    while lo < extent:
        a, b = input_span(lo, min(lo + tile, extent), stride, pad, dilation, window, size, windowed)
        if b > a:
            a, b = a // shared, -(-b // shared)
        total += b - a
        if lo == 0:
            first = b - a
        largest = max(largest, b - a)
        lo += tile
    return total, first, largest


@kernel
def sum_columns(
    tile: int,
    extent: int,
    stride: int,
    pad: int,
    dilation: int,
    window: int,
    size: int,
    windowed: int,
    bits: int,
    align: int,
    shared: int,
) -> tuple[int, int, int]:
    """Return sum, first and largest moved bits of a row segment over the tiles of Q."""
    total, first, largest = 0, 0, 0
    lo = 0
    while lo < extent:
        a, b = input_span(lo, min(lo + tile, extent), stride, pad, dilation, window, size, windowed)
        moved = span(a, b - a, bits, align) if b > a else 0
        if moved > 0 and shared > 1:
            moved = align
        total += moved
        if lo == 0:
            first = moved
        largest = max(largest, moved)
        lo += tile
    return total, first, largest


@kernel
def sum_vector(tile_outer: int, outer: int, tile_inner: int, inner: int, bits: int, align: int) -> tuple[int, int, int]:
    """Return sum, first and largest moved bits of channel segments of a tensor stored as one row.

    Channels are outer * inner (groups times channels of a group); either the inner tile is whole or the outer tile is 1.
    """
    total, first, largest = 0, 0, 0
    g = 0
    while g < outer:
        g1 = min(g + tile_outer, outer)
        c = 0
        while c < inner:
            c1 = min(c + tile_inner, inner)
            lo = g * inner + c
            moved = span(lo, (g1 - g) * (c1 - c), bits, align)
            total += moved
            if g == 0 and c == 0:
                first = moved
            largest = max(largest, moved)
            c += tile_inner
        g += tile_outer
    return total, first, largest


@kernel
def measure_operand(
    t: np.ndarray, dims: np.ndarray, window: np.ndarray, operand: np.ndarray, align: int
) -> tuple[int, int, int]:
    """Return total, first and largest moved bits over the tiles of an input operand, each tile once."""
    shared = rows_per_unit(operand[3], operand[4], align)
    rows, row0, row_max = sum_rows(
        t[4], dims[4], window[2], window[4], window[6], window[0], operand[2], window[8], shared
    )
    images = dims[0] if operand[0] > 1 else -(-dims[0] // t[0])
    image0 = t[0] if operand[0] > 1 else 1
    if operand[2] == 1 and operand[3] == 1:
        outer, inner = (dims[1], dims[3]) if operand[1] > 1 else (1, 1)
        v, v0, v_max = sum_vector(min(t[1], outer), outer, min(t[3], inner), inner, operand[4], align)
        cols, col0, col_max = sum_columns(
            t[5], dims[5], window[3], window[5], window[7], window[1], operand[3], window[8], 1, 1, 1
        )
        steps = rows * cols  # pixel tiles that see the one element, not padding alone
        if operand[1] == 1:
            steps *= -(-dims[1] // t[1]) * -(-dims[3] // t[3])
        return v * images * steps, v0 * image0 * row0 * col0, v_max * image0 * row_max * col_max
    cols, col0, col_max = sum_columns(
        t[5], dims[5], window[3], window[5], window[7], window[1], operand[3], window[8], operand[4], align, shared
    )
    if operand[1] == 1:
        channels = -(-dims[1] // t[1]) * -(-dims[3] // t[3])
        return rows * cols * images * channels, row0 * col0 * image0, row_max * col_max * image0
    area = t[1] * t[3]
    return rows * cols * images * dims[1] * dims[3], row0 * col0 * image0 * area, row_max * col_max * image0 * area


@kernel
def measure_output(t: np.ndarray, dims: np.ndarray, out: np.ndarray, align: int) -> tuple[int, int, int]:
    """Return total, last and largest moved bits over the tiles of the output."""
    whole = dims[1] * dims[2]
    if out[2] == 1 and out[3] == 1:
        v, _, v_max = sum_vector(t[1], dims[1], t[2], dims[2], out[4], align)
        g0, k0 = (dims[1] - 1) // t[1] * t[1], (dims[2] - 1) // t[2] * t[2]
        n0 = (dims[0] - 1) // t[0] * t[0]
        last = span(g0 * dims[2] + k0, (dims[1] - g0) * (dims[2] - k0), out[4], align)
        return v * dims[0], last * (dims[0] - n0), v_max * t[0]
    shared = rows_per_unit(out[3], out[4], align)
    cols, _, col_max = sum_columns(t[5], dims[5], 1, 0, 1, 1, out[3], 1, out[4], align, shared)
    rows, _, row_max = sum_rows(t[4], dims[4], 1, 0, 1, 1, out[2], 1, shared)
    q0, p0 = (dims[5] - 1) // t[5] * t[5], (dims[4] - 1) // t[4] * t[4]
    last = align if shared > 1 else span(q0, dims[5] - q0, out[4], align)
    last *= -(-dims[4] // shared) - p0 // shared
    for d in (0, 1, 2):
        last *= dims[d] - (dims[d] - 1) // t[d] * t[d]
    return cols * rows * whole * dims[0], last, col_max * row_max * t[0] * t[1] * t[2]


@kernel
def check_tiles(
    tiles: np.ndarray,
    w_largest: np.ndarray,
    psum_largest: np.ndarray,
    dims: np.ndarray,
    window: np.ndarray,
    operands: np.ndarray,
    out: np.ndarray,
    banks: np.ndarray,
    align: int,
    fits: np.ndarray,
) -> None:
    """Say which tilings fit the buffers.

    Parameters
    ----------
    tiles : int64 [candidates, 6]
    w_largest, psum_largest : int64 [candidates]
        Bits of the largest weight tile and of the accumulators of the largest output tile, alignment included.
    banks : int64 [4]
        Bits of a bank of wbuf, ibuf, obuf, and of the staging buffer.
    fits : int64 [candidates, 5], filled
        Demand on the four in bits, and 1 where all of them fit.
    """
    for i in range(tiles.shape[0]):
        t = tiles[i]
        demand = 0
        for o in range(operands.shape[0]):
            _, _, largest = measure_operand(t, dims, window, operands[o], align)
            demand += largest
        _, _, staged = measure_output(t, dims, out, align)
        fits[i, 0], fits[i, 1], fits[i, 2], fits[i, 3] = w_largest[i], demand, psum_largest[i], staged
        fits[i, 4] = 1
        for b in range(4):
            if fits[i, b] > banks[b]:
                fits[i, 4] = 0


@kernel
def count_loads(order: np.ndarray, counts: np.ndarray, relevant: np.ndarray) -> tuple[int, int]:
    """Return how often tiles are loaded and how often each is loaded anew, for a tensor that depends on ``relevant`` loops."""
    innermost = -1
    for level in range(3):
        if relevant[order[level]] == 1 and counts[order[level]] > 1:
            innermost = level
    loads, again = 1, 1
    for level in range(innermost + 1):
        loads *= counts[order[level]]
        if relevant[order[level]] == 0:
            again *= counts[order[level]]
    return loads, again


@kernel
def bound_cycles(
    tiles: np.ndarray,
    orders: np.ndarray,
    w_sum: np.ndarray,
    w_first: np.ndarray,
    exec_busy: np.ndarray,
    exec_first: np.ndarray,
    exec_last: np.ndarray,
    requant: np.ndarray,
    psum_sum: np.ndarray,
    dims: np.ndarray,
    window: np.ndarray,
    operands: np.ndarray,
    out: np.ndarray,
    scalars: np.ndarray,
    traffic: np.ndarray,
    cycles: np.ndarray,
) -> None:
    """Fill the traffic and a lower bound of the cycles of every tiling in every order.

    The bound is the largest of: first loads, then all exec work, then the last store; all of a load queue's work, then the
    last tile and its store; the first tile, then all stores, requantization and transfer one after the other; all beats through
    each port (with a DRAM model, whose port serves loads and stores at once: all bits at the memory's peak). Each is a chain of
    things that the shell cannot overlap, so no Program of this mapping ends earlier.

    Parameters
    ----------
    tiles : int64 [candidates, 6]
    orders : int64 [orders, 3]
        0 = M, 1 = K, 2 = C, outer to inner.
    w_sum, w_first : int64 [candidates]
        Moved bits of all weight tiles, each once, and of the first one.
    exec_busy, exec_first, exec_last : int64 [candidates]
        Cycles of all tiles, of the first, of the last; the tail of the last of them included.
    requant : int64 [candidates]
        Cycles of requantization, each output tile's rounded up for itself.
    psum_sum : int64 [candidates]
        Moved bits of the partial sums of all output tiles, each once.
    scalars : int64 [12]
        align, store_lanes, port bits, latency, issue, 1 for a port per operand, 1 where stores are posted, bits a cycle of the
        whole memory (0 where only ports limit it: loads and stores share the port then, and only then), latency of a write,
        pipeline of a store, of a spill, port bits as far as the memory can fill them.
    traffic : int64 [candidates, orders, 5], filled
        Bits of weights read, inputs read, outputs written, partial sums written, partial sums read.
    cycles : int64 [candidates, orders], filled
    """
    align, lanes, width, latency, issue, split = scalars[0], scalars[1], scalars[2], scalars[3], scalars[4], scalars[5]
    posted, whole, behind, port = scalars[6], scalars[7], scalars[8], scalars[11]
    store_cost, spill_cost = issue + scalars[9] + behind, issue + scalars[10] + behind
    uses = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]], np.int64)
    counts = np.zeros(3, np.int64)
    for i in range(tiles.shape[0]):
        t = tiles[i]
        groups = -(-dims[1] // t[1])
        counts[0] = -(-dims[0] // t[0]) * -(-dims[4] // t[4]) * -(-dims[5] // t[5])
        counts[1] = -(-dims[2] // t[2])
        counts[2] = -(-dims[3] // t[3])
        steps = groups * counts[0] * counts[1] * counts[2]
        n_out = groups * counts[0] * counts[1]
        i_once, i_first = 0, 0
        for o in range(operands.shape[0]):
            total, first, _ = measure_operand(t, dims, window, operands[o], align)
            i_once += total
            i_first += first
        out_bits, out_last, _ = measure_output(t, dims, out, align)
        last_elements = 1
        for d in (0, 1, 2, 4, 5):
            last_elements *= dims[d] - (dims[d] - 1) // t[d] * t[d]
        last_store = store_cost + -(-last_elements // lanes) + -(-out_last // port)
        w_beats = -(-w_first[i] // port)
        i_beats = -(-i_first // port)
        loads_first = operands.shape[0]
        start_i = loads_first * (issue + latency) + i_beats
        start_w = issue + latency + w_beats if window[9] == 1 else 0
        start = start_i + start_w if split == 0 else max(start_i, start_w)
        for s in range(orders.shape[0]):
            order = orders[s]
            w_loads, w_again = count_loads(order, counts, uses[0])
            i_loads, i_again = count_loads(order, counts, uses[1])
            o_visits, o_again = count_loads(order, counts, uses[2])
            spills = o_again > 1
            traffic[i, s, 0] = w_sum[i] * w_again
            traffic[i, s, 1] = i_once * i_again
            traffic[i, s, 2] = out_bits
            traffic[i, s, 3] = psum_sum[i] * (o_again - 1)
            traffic[i, s, 4] = psum_sum[i] * (o_again - 1)
            chain_exec = start + exec_busy[i] + steps * issue + last_store
            n_i = groups * i_loads * operands.shape[0]
            n_w = groups * w_loads if window[9] == 1 else 0
            n_o = groups * o_visits
            n_p = n_o if spills else 0
            re_reads = n_o - n_o // o_again if spills else 0
            time_i = n_i * (issue + latency) + traffic[i, s, 1] // port
            time_i += n_p * issue + re_reads * latency + traffic[i, s, 4] // port
            time_w = n_w * (issue + latency) + traffic[i, s, 0] // port
            queue_end = issue + exec_last[i] + last_store
            chain_load = (time_i + time_w if split == 0 else max(time_i, time_w)) + queue_end
            written = traffic[i, s, 2] + traffic[i, s, 3]
            stores = n_out * store_cost + (n_o - n_out) * spill_cost + requant[i] + max(written // width, n_o)
            if posted == 1:
                stores = max(stores, written // port)
            chain_store = start + issue + exec_first[i] + stores
            beats_o = (written + traffic[i, s, 4]) // port
            if whole > 0:
                moved = 0
                for slot in range(5):
                    moved += traffic[i, s, slot]
                beats = moved // whole
            elif split == 0:
                beats = beats_o + (traffic[i, s, 0] + traffic[i, s, 1]) // port
            else:
                beats = max(beats_o, traffic[i, s, 0] // port, traffic[i, s, 1] // port)
            cycles[i, s] = max(chain_exec, chain_load, chain_store, beats + issue)
