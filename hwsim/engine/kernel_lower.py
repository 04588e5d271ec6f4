"""Kernel that writes the instruction table of one layer. See `hwsim.engine.lower` for the meaning of the arrays."""

from __future__ import annotations

import numpy as np

from hwsim.core.jit import kernel


@kernel
def span(first: int, count: int, bits: int, align: int) -> int:
    """Return bits moved for ``count`` elements from element ``first`` of a row: whole alignment units."""
    low = first * bits // align * align
    high = -(-((first + count) * bits) // align) * align
    return high - low


@kernel
def rows_per_unit(width: int, bits: int, align: int) -> int:
    """Return how many rows of a plane share one alignment unit: as many whole rows (in bytes) as fit, at least one."""
    slot = -(-width * bits // 8) * 8
    return align // slot if align % 8 == 0 and 2 * slot <= align else 1


@kernel
def describe(
    table: np.ndarray,
    i: int,
    shape: np.ndarray,
    bits: int,
    base: int,
    align: int,
    n0: int,
    n1: int,
    ch0: int,
    ch1: int,
    r0: int,
    r1: int,
    c0: int,
    c1: int,
) -> None:
    """Write address, runs and moved bits of the box [n0:n1, ch0:ch1, r0:r1, c0:c1] of a stored tensor.

    A tensor of one row and column is stored as one row of its channels. Rows that share an alignment unit move together.
    A box of padding alone moves nothing.
    """
    channels, height, width = shape[1], shape[2], shape[3]
    empty = r1 <= r0 or c1 <= c0
    if height == 1 and width == 1:
        c0, c1, width = ch0, ch1, channels
        ch0, ch1, channels = 0, 1, 1
    pitch = -(-width * bits // align) * align
    run = span(c0, c1 - c0, bits, align)
    offset = c0 * bits // align * align
    shared = rows_per_unit(width, bits, align)
    if shared > 1 and not empty:
        r0, r1, height = r0 // shared, -(-r1 // shared), -(-height // shared)
        run, offset = pitch, 0
    rows, planes, images = r1 - r0, ch1 - ch0, n1 - n0
    moved = run * rows * planes * images
    if empty:
        run, rows, planes, images, moved = 0, 0, 0, 0, 0
    table[i]["address"] = base + ((n0 * channels + ch0) * height + r0) * pitch + offset
    table[i]["bits"] = moved
    stride0, stride1, stride2 = pitch, pitch * height, pitch * height * channels
    if run == pitch:
        run, rows = run * rows, 1
        if r1 - r0 == height:
            run, planes = run * planes, 1
            if ch1 - ch0 == channels:
                run, images = run * images, 1
    table[i]["run_bits"] = run
    table[i]["count0"] = rows
    table[i]["stride0"] = stride0
    table[i]["count1"] = planes
    table[i]["stride1"] = stride1
    table[i]["count2"] = images
    table[i]["stride2"] = stride2


@kernel
def clear(table: np.ndarray, i: int, queue: int, op: int, bank: int, wait: int, signal: int) -> None:
    """Write the head of instruction ``i`` and clear the rest."""
    table[i]["queue"] = queue
    table[i]["op"] = op
    table[i]["bank"] = bank
    table[i]["wait"] = wait
    table[i]["signal"] = signal
    table[i]["tile"] = -1
    table[i]["cycles"] = 0
    table[i]["fill"] = 0
    table[i]["tail"] = 0
    table[i]["bits"] = 0
    table[i]["address"] = 0
    table[i]["run_bits"] = 0
    table[i]["count0"] = 1
    table[i]["stride0"] = 0
    table[i]["count1"] = 1
    table[i]["stride1"] = 0
    table[i]["count2"] = 1
    table[i]["stride2"] = 0


@kernel
def set_run(table: np.ndarray, i: int, address: int, bits: int) -> None:
    """Make instruction ``i`` one contiguous run."""
    table[i]["address"] = address
    table[i]["bits"] = bits
    table[i]["run_bits"] = bits


@kernel
def lower(
    dims: np.ndarray,
    window: np.ndarray,
    tile: np.ndarray,
    order: np.ndarray,
    operands: np.ndarray,
    out: np.ndarray,
    w_bits: np.ndarray,
    w_address: np.ndarray,
    busy: np.ndarray,
    fill: np.ndarray,
    tail: np.ndarray,
    slots: np.ndarray,
    scalars: np.ndarray,
    table: np.ndarray,
) -> int:
    """Write the instructions of a layer and return how many.

    Parameters
    ----------
    dims : int64 [6]
        N G K C P Q.
    window : int64 [10]
        R, S, stride y x, padding top left, dilation y x, 1 for a windowed operator (else elementwise), 1 for a MAC layer.
    tile : int64 [6]
        Tile sizes.
    order : int64 [3]
        Loops outer to inner: 0 = M, 1 = K, 2 = C.
    operands : int64 [operands, 6]
        N, channels, H, W, bits, base address (bits) of each activation operand.
    out : int64 [6]
        The same of the output.
    w_bits, w_address : int64 [weight tiles]
        Moved bits and address of each weight tile, row-major over G K C.
    busy, fill, tail : int64 [tiles]
        Exec times, row-major over N G K C P Q.
    slots : int64 [tiles]
        Accumulators of ``obuf`` that a tile takes, in the same order.
    scalars : int64 [7]
        align_bits, psum_bits, store_lanes, 1 for a second load queue, base of the partial sums, cycles of the store unit's
        pipeline for a store and for a spill.
    table : INSTRUCTION records, filled
        At least tiles * (5 + operands).
    """
    align, psum_bits, store_lanes, second, psum_base = scalars[0], scalars[1], scalars[2], scalars[3], scalars[4]
    store_pipeline, spill_pipeline = scalars[5], scalars[6]
    n_n = -(-dims[0] // tile[0])
    n_g = -(-dims[1] // tile[1])
    n_k = -(-dims[2] // tile[2])
    n_c = -(-dims[3] // tile[3])
    n_p = -(-dims[4] // tile[4])
    n_q = -(-dims[5] // tile[5])
    n_m = n_n * n_p * n_q
    l0 = n_m if order[0] == 0 else (n_k if order[0] == 1 else n_c)
    l1 = n_m if order[1] == 0 else (n_k if order[1] == 1 else n_c)
    l2 = n_m if order[2] == 0 else (n_k if order[2] == 1 else n_c)
    inner = 1
    spills = 0
    for level in range(2, -1, -1):
        if order[level] == 2:
            spills = 1 if n_c > 1 and inner > 1 else 0
            break
        inner *= l2 if level == 2 else (l1 if level == 1 else l0)
    total = n_g * l0 * l1 * l2
    index = np.zeros(3, np.int64)
    nxt = np.zeros(3, np.int64)
    count = 0
    last_w, last_i, last_o = -1, -1, -1
    bank_w, bank_i, bank_o = 1, 1, 1
    max_psum = 0
    for at in range(slots.shape[0]):
        max_psum = max(max_psum, -(-slots[at] * psum_bits // align) * align)
    for step in range(total):
        rest = step
        index[order[2]] = rest % l2
        rest //= l2
        index[order[1]] = rest % l1
        rest //= l1
        index[order[0]] = rest % l0
        g = rest // l0
        m, k, c = index[0], index[1], index[2]
        w_id = (g * n_k + k) * n_c + c
        i_id = (g * n_m + m) * n_c + c
        o_id = (g * n_m + m) * n_k + k
        next_w, next_i, next_o = -1, -1, -1
        if step + 1 < total:
            rest = step + 1
            nxt[order[2]] = rest % l2
            rest //= l2
            nxt[order[1]] = rest % l1
            rest //= l1
            nxt[order[0]] = rest % l0
            next_g = rest // l0
            next_w = (next_g * n_k + nxt[1]) * n_c + nxt[2]
            next_i = (next_g * n_m + nxt[0]) * n_c + nxt[2]
            next_o = (next_g * n_m + nxt[0]) * n_k + nxt[1]
        n = m // (n_p * n_q)
        p = m // n_q % n_p
        q = m % n_q
        n0, n1 = n * tile[0], min((n + 1) * tile[0], dims[0])
        g0, g1 = g * tile[1], min((g + 1) * tile[1], dims[1])
        k0, k1 = k * tile[2], min((k + 1) * tile[2], dims[2])
        c0, c1 = c * tile[3], min((c + 1) * tile[3], dims[3])
        p0, p1 = p * tile[4], min((p + 1) * tile[4], dims[4])
        q0, q1 = q * tile[5], min((q + 1) * tile[5], dims[5])
        wait, signal = 0, 0
        if window[9] == 1 and w_id != last_w:
            bank_w = 1 - bank_w
            clear(table, count, 3 if second == 1 else 0, 0, bank_w, 2, 1)
            set_run(table, count, w_address[w_id], w_bits[w_id])
            count += 1
            wait |= 1
        if window[9] == 1 and next_w != w_id:
            signal |= 2
        if i_id != last_i:
            bank_i = 1 - bank_i
            for o in range(operands.shape[0]):
                clear(table, count, 0, 1, bank_i, 8 if o == 0 else 0, 4 if o == operands.shape[0] - 1 else 0)
                height, width = operands[o, 2], operands[o, 3]
                if window[8] == 1:
                    r0 = min(max(p0 * window[2] - window[4], 0), height)
                    r1 = min(max((p1 - 1) * window[2] - window[4] + window[6] * (window[0] - 1) + 1, r0), height)
                    s0 = min(max(q0 * window[3] - window[5], 0), width)
                    s1 = min(max((q1 - 1) * window[3] - window[5] + window[7] * (window[1] - 1) + 1, s0), width)
                else:
                    r0, r1 = (p0, p1) if height > 1 else (0, 1)
                    s0, s1 = (q0, q1) if width > 1 else (0, 1)
                ch0 = g0 * dims[3] + c0
                ch1 = ch0 + (g1 - g0) * (c1 - c0)
                if operands[o, 1] == 1:
                    ch0, ch1 = 0, 1
                b0, b1 = (n0, n1) if operands[o, 0] > 1 else (0, 1)
                describe(
                    table, count, operands[o], operands[o, 4], operands[o, 5], align, b0, b1, ch0, ch1, r0, r1, s0, s1
                )
                count += 1
            wait |= 4
        if next_i != i_id:
            signal |= 8
        elements = (n1 - n0) * (g1 - g0) * (k1 - k0) * (p1 - p0) * (q1 - q0)
        t = ((((n * n_g + g) * n_k + k) * n_c + c) * n_p + p) * n_q + q
        psum_moved = -(-slots[t] * psum_bits // align) * align
        if o_id != last_o:
            bank_o = 1 - bank_o
            if spills == 1:
                clear(table, count, 0, 2, bank_o, 32 if c == 0 else 32 | 128, 16)
                if c > 0:
                    set_run(table, count, psum_base + o_id * max_psum, psum_moved)
                count += 1
                wait |= 16
            else:
                wait |= 32
        ends = next_o != o_id
        if ends:
            signal |= 64
        clear(table, count, 1, 3, bank_w | bank_i << 1 | bank_o << 2, wait, signal)
        table[count]["tile"] = t
        table[count]["cycles"] = busy[t]
        table[count]["fill"] = fill[t]
        table[count]["tail"] = tail[t]
        count += 1
        if ends and c == n_c - 1:
            clear(table, count, 2, 4, bank_o, 64, 32)
            ch0 = g0 * dims[2] + k0
            describe(table, count, out, out[4], out[5], align, n0, n1, ch0, ch0 + (g1 - g0) * (k1 - k0), p0, p1, q0, q1)
            table[count]["cycles"] = -(-elements // store_lanes) + store_pipeline
            count += 1
        elif ends:
            clear(table, count, 2, 5, bank_o, 64, 32 | 128)
            set_run(table, count, psum_base + o_id * max_psum, psum_moved)
            table[count]["cycles"] = spill_pipeline
            count += 1
        last_w, last_i, last_o = w_id, i_id, o_id
    return count
