"""The SmartDeal machine, obviously right: stepped cycle by cycle, for every slice, line and cell, in plain Python.

Written from the docstring of `hwsim.archs.smartdeal.datapath`, the contract in ``docs/rtl.md`` and the format in
`hwsim.quant.decompose`; knows nothing of the kernels. It also multiplies: what it computes (`Finished.sums`) and when (`busy`,
`fill`, `tail`) come from one machine, which sees weights only through the bits of its slices' streams and activations
only through its line stores. The depths of pipelines are those that the blocks of `accel_rtl.smartdeal` state.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from hwsim.core.layer import Layer
from tests.naive_smartdeal_stages import (
    Bank,
    Decoder,
    Finished,
    Line,
    Loader,
    Pixel,
    Place,
    Reader,
    Row,
    Step,
    write_bits,
)

RUN_STAGES = 6 + 1
"""From the begin of a pass to its first multiplication (t + 6, ``accel_rtl.smartdeal.line``), and behind its last one."""
RESULT_STAGES = 4
"""From the close of a sum to ``obuf``, adder tree and pixels left out (``accel_rtl.smartdeal.results``: 4 + m + levels)."""


class Machine:
    """One layer on the engine.

    Parameters
    ----------
    layer, arch
        The layer and a SmartDeal accelerator.
    stored : ndarray, zero_point : int
        Activations as stored ``[N, G*C, H, W]``.
    weights : ndarray
        Dense 8-bit weights ``[G*K, C, R, S]``; what is rebuilt comes from ``codec`` alone.
    codec : Decomposed or None
    """

    def __init__(self, layer: Layer, arch, stored, zero_point: int, weights, codec) -> None:
        self.layer, self.arch, self.codec, self.dense = layer, arch, codec, weights
        self.decomposed = codec is not None and not codec.plan.is_dense
        self.stored, self.zero = stored, zero_point
        depthwise = layer.op == "conv" and layer.G > 1 and layer.C == 1 and layer.K == 1
        self.spread = depthwise and arch.depthwise == "spread"
        self.columns = layer.N if layer.op == "gemm" else layer.Q
        single = not self.spread and layer.P * self.columns == 1
        self.clusters = min(arch.clusters, arch.macs) if single else 1
        self.lines = arch.lines * self.clusters
        self.by_kernel = layer.R * layer.S > 1 or self.spread
        self.width = layer.S if self.by_kernel else 3
        self.held = arch.lines * (arch.line_rows // ((self.width + 2) // 3))
        self.copies = 1
        if self.spread:
            self.copies = max(1, min(arch.lines // layer.R, len(range(0, self.columns, arch.macs))))
        self.finished = Finished()

    # --- what there is to do -----------------------------------------------------------------------------------------

    def rows_of(self) -> list[Row]:
        """Rows of a filter in storage order; channels count from the filter's group."""
        layer = self.layer
        if self.by_kernel:
            order = product(range(layer.C), range(layer.R))
            return [Row(i, [(c, r, s) for s in range(layer.S)]) for i, (c, r) in enumerate(order)]
        firsts = range(0, layer.C, 3)
        return [Row(i, [(c, 0, 0) if c < layer.C else None for c in range(f, f + 3)]) for i, f in enumerate(firsts)]

    def steps_of_filter(self) -> list[list[list[Row]]]:
        """Rows of a filter cut into steps at the ends of basis slices (or whole channels), steps by what the line stores hold."""
        rows = self.rows_of()
        if self.decomposed:
            unit = self.codec.plan.rows
        elif self.by_kernel:
            unit = max(self.held // self.layer.R, 1) * self.layer.R
        else:
            unit = self.held
        steps = [rows[first : first + unit] for first in range(0, len(rows), unit)]
        return [[step[i : i + self.held] for i in range(0, len(step), self.held)] for step in steps]

    def steps_of_tile(self, lo, hi) -> list[list[list[Row]]]:
        """Steps whose channels a tile holds."""
        found = []
        for step in self.steps_of_filter():
            channels = [place[0] for rows in step for row in rows for place in row.places if place]
            if self.spread or (lo[3] <= min(channels) and max(channels) < hi[3]):
                found.append(step)
        return found

    def loads_whole_rows(self) -> bool:
        """Whether a line takes a row in one cycle."""
        layer = self.layer
        return self.by_kernel and layer.S <= 3 and layer.dilation[1] == 1 and self.reads_pixels_at_once()

    def reads_pixels_at_once(self) -> bool:
        """Whether the activations of neighbouring pixels stand near each other."""
        return self.layer.op != "gemm" and self.layer.stride[1] <= 2

    def cycles_of_a_weight(self) -> int:
        """Cycles in which a line takes a weight's activations: at once, or pixel by pixel as in a full group."""
        return 1 if self.reads_pixels_at_once() else min(self.arch.macs, self.columns)

    def activation(self, place: Place, pixel: Pixel) -> int:
        """Centred activation that a weight meets at a pixel; zero in padding."""
        if place is None:
            return 0
        layer, (n, p, q) = self.layer, pixel
        c, r, s = place
        if layer.op == "gemm":
            return int(self.stored[n, c, 0, 0]) - self.zero
        y = p * layer.stride[0] - layer.padding[0] + r * layer.dilation[0]
        x = q * layer.stride[1] - layer.padding[1] + s * layer.dilation[1]
        if not (0 <= y < layer.H and 0 <= x < layer.W):
            return 0
        return int(self.stored[n, c, y, x]) - self.zero

    def shift(self, row: Row, group: int) -> Row:
        """Return the row with channels of the whole input."""
        base = group * self.layer.C
        return Row(row.index, [place and (place[0] + base, *place[1:]) for place in row.places])

    def stores_of(self, step: Step) -> list[int]:
        """Group of each line store that differs: one for all slices, or one a slice."""
        groups = [f // self.layer.K for f in step.filters]
        return groups if self.spread else groups[:1]

    def blocks_of(self, lo, hi) -> list[list[int]]:
        """Filters of all groups that run together: filter s of a block on slice s."""
        layer, slices = self.layer, self.arch.slices
        if self.spread:
            return [list(range(g, min(g + slices, hi[1]))) for g in range(lo[1], hi[1], slices)]
        starts = [(g, k) for g in range(lo[1], hi[1]) for k in range(lo[2], hi[2], slices)]
        return [[g * layer.K + i for i in range(k, min(k + slices, hi[2]))] for g, k in starts]

    def groups_of(self, lo, hi) -> list[list[Pixel]]:
        """Pixel groups in order."""
        wide = self.arch.macs * self.copies
        if self.layer.op == "gemm":
            return [[(n, 0, 0) for n in range(a, min(a + wide, hi[0]))] for a in range(lo[0], hi[0], wide)]
        return [
            [(n, p, q) for q in range(a, min(a + wide, hi[5]))]
            for n in range(lo[0], hi[0])
            for p in range(lo[4], hi[4])
            for a in range(lo[5], hi[5], wide)
        ]

    def list_steps(self, lo, hi) -> list[Step]:
        """Passes of a tile in order; ``lo``, ``hi`` along N G K C P Q."""
        chosen = [(rows, i == 0) for step in self.steps_of_tile(lo, hi) for i, rows in enumerate(step)]
        groups, found = self.groups_of(lo, hi), []
        for block in self.blocks_of(lo, hi):
            for j, pixels in enumerate(groups):
                for i, (rows, starts) in enumerate(chosen):
                    found.append(Step(block, rows, pixels, starts, i == 0, i == j == 0, i == len(chosen) - 1))
        return found

    # --- the bits ----------------------------------------------------------------------------------------------------

    def write_filter(self, filter_: int, steps: list[list[list[Row]]]) -> str:
        """The bits of a filter in a stream."""
        found = ""
        for step in steps:
            if not self.decomposed:
                for row in (row for rows in step for row in rows):
                    found += "".join(write_bits(self.dense[(filter_, *p)] if p else 0, 8) for p in row.places)
                continue
            slice_index, first = divmod(step[0][0].index, self.codec.plan.rows)
            assert first == 0
            codes = self.codec.codes[filter_, slice_index]
            used = any(codes[row.index % self.codec.plan.rows].any() for rows in step for row in rows)
            found += "01"[used]
            if not used:
                continue
            found += "".join(write_bits(b, 8) for b in self.codec.basis[filter_, slice_index].ravel())
            for rows in step:
                held = [[int(c) for c in codes[row.index % self.codec.plan.rows]] for row in rows]
                found += "".join("01"[any(row)] for row in held)
                found += "".join(write_bits(abs(c), 3) + "01"[c < 0] for row in held if any(row) for c in row)
        return found

    def write_streams(self, lo, hi) -> list[str]:
        """The stream of each slice for a tile, not filled to beats."""
        steps, streams = self.steps_of_tile(lo, hi), [""] * self.arch.slices
        for block in self.blocks_of(lo, hi):
            for s, f in enumerate(block):
                streams[s] += self.write_filter(f, steps)
        return streams

    def write_tile(self, lo, hi) -> str:
        """The bits of a tile in memory."""
        beat = self.arch.memory.bits_per_cycle
        streams = [bits + "0" * (-len(bits) % beat) for bits in self.write_streams(lo, hi)]
        header = "".join(write_bits(len(bits) // beat, 16) for bits in streams)
        return header + "0" * (-len(header) % beat) + "".join(streams)

    # --- the machine -------------------------------------------------------------------------------------------------

    def lines_of(self, bank: Bank) -> list[tuple[int, Line]]:
        """Lines with something to do in a pass, by filter: rows with a coefficient and a nonzero activation."""
        step, found = bank.step, []
        entries, macs = (self.width + 2) // 3, self.arch.macs
        for s, filter_ in enumerate(step.filters):
            jobs: list[list] = [[] for _ in range(self.lines)]
            stored = [0] * self.arch.lines
            for copy, (i, _) in product(range(self.copies), enumerate(step.rows)):
                pixels = step.pixels[copy * macs : (copy + 1) * macs]
                if not pixels:
                    continue
                activations = bank.activations[s if self.spread else 0, copy, i]
                line = (copy * self.layer.R + i) % self.lines
                stored[line % self.arch.lines] += entries
                if (s, i) in bank.weights and any(a for by_pixel in activations for a in by_pixel):
                    jobs[line].append((bank.weights[s, i], activations, pixels))
            assert max(stored) <= self.arch.line_rows, "a line store is full"
            found += [(filter_, Line(self, rows)) for rows in jobs if rows]
        return found

    def prepare(self, step: Step | None) -> tuple[Bank, list]:
        """Start the stage that fills a bank: slices go back to their filter's first bit for each pixel group but the first."""
        if step is None:
            return Bank(step), []  # type: ignore[arg-type]
        for reader in self.readers[: len(step.filters)]:
            if step.starts_block:
                reader.start = reader.at
            elif step.starts_group:
                reader.at = reader.start
        bank = Bank(step)
        return bank, [Loader(self, bank), Decoder(self, bank)]

    def run_tile(self, lo, hi) -> Finished:
        """Run one tile from empty stores."""
        lo, hi = [int(v) for v in lo], [int(v) for v in hi]
        result = self.finished = Finished()
        self.readers = [Reader(self, bits) for bits in self.write_streams(lo, hi)]
        steps = self.list_steps(lo, hi)
        bank, stages = self.prepare(steps[0])
        while not all(stage.done for stage in stages):
            for stage in stages:
                stage.step()
            result.fill += 1
        clock, draining, since = result.fill, 0, 0
        results = self.arch.macs * self.copies
        sums: dict = {}
        for number, step in enumerate(steps):
            lines, left = self.lines_of(bank), RUN_STAGES
            bank, stages = self.prepare(steps[number + 1] if number + 1 < len(steps) else None)
            while True:
                running = [line for _, line in lines if not line.done]
                if not running and left == 0 and all(stage.done for stage in stages):  # noqa: SIM102
                    if not (step.ends_group and since < results):
                        break
                left -= not running and left > 0
                for part in (*running, *stages):
                    part.step()
                draining = max(0, draining - 1)
                since, clock = since + 1, clock + 1
            for filter_, line in lines:
                for pixel, value in line.acc.items():
                    sums[filter_, pixel] = sums.get((filter_, pixel), 0) + value
            if step.ends_group:
                assert draining == 0, "the copies of the accumulators are still being read"
                for slot in product(step.filters, step.pixels):
                    result.sums[slot] = sums.pop(slot, 0)
                draining, since = results, 0
        assert not sums
        assert all(reader.at == len(reader.stream) for reader in self.readers), "streams are read to their end"
        result.busy = clock
        result.tail = self._drain(draining) + RESULT_STAGES
        return result

    def _drain(self, results: int) -> int:
        """Send the results through the adder tree, a register a stage, and count the cycles until the last has left it."""
        leaves, stages = self.lines, 0
        while leaves > 1:
            leaves, stages = (leaves + 1) // 2, stages + 1
        pipe = [False] * stages
        cycles = 0
        while results or any(pipe):
            if stages:
                pipe = [results > 0, *pipe[:-1]]
            results = max(0, results - 1)
            cycles += 1
        return cycles


def convolve(layer: Layer, stored, zero_point: int, weights) -> np.ndarray:
    """Exact sums of products ``[N, G*K, P, Q]``, int64: one numpy slice for each kernel element."""
    x = stored.astype(np.int64) - zero_point
    top, left = layer.padding[:2]
    reach = [(layer.P - 1) * layer.stride[0] + (layer.R - 1) * layer.dilation[0] + 1,
             (layer.Q - 1) * layer.stride[1] + (layer.S - 1) * layer.dilation[1] + 1]  # fmt: skip
    padded = np.zeros((*x.shape[:2], max(reach[0], layer.H + top), max(reach[1], layer.W + left)), np.int64)
    padded[:, :, top : top + layer.H, left : left + layer.W] = x
    out = np.zeros(layer.out_shape, np.int64)
    for g, r, s in product(range(layer.G), range(layer.R), range(layer.S)):
        y0, x0 = r * layer.dilation[0], s * layer.dilation[1]
        part = padded[:, g * layer.C : (g + 1) * layer.C, y0 :: layer.stride[0], x0 :: layer.stride[1]]
        part = part[:, :, : layer.P, : layer.Q]
        kernel = weights[g * layer.K : (g + 1) * layer.K, :, r, s].astype(np.int64)
        out[:, g * layer.K : (g + 1) * layer.K] += np.einsum("ncpq,kc->nkpq", part, kernel)
    return out
