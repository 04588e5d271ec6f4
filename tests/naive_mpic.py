"""The mixed-precision core, instruction by instruction: registers of 32 bits, loads, dot products, stores; a gatherer beside it.

Weights are read from the stored bits of the tile, columns from bits that the gatherer wrote. Every method that executes an
instruction counts a cycle.
"""

from __future__ import annotations

import numpy as np

from hwsim.core.layer import Layer

MASK = (1 << 32) - 1
DESCRIPTOR_LOADS = 512 // 32
"""A tile's descriptor is 512 bits, a load takes 32."""
PAIR_INSTRUCTIONS = 3
"""Of a set of pixels: wait for the columns, advance the pointer of outputs, branch."""


def pick(word: int, at: int, bits: int, signed: bool) -> int:
    """Return an element of a register."""
    value = word >> at & ((1 << bits) - 1)
    return value - (1 << bits) if signed and value >> (bits - 1) else value


class Core:
    """One tile that is a whole layer of one or several groups."""

    def __init__(self, layer: Layer, x: np.ndarray, stream: int, filter_bits: list[int], a_bits: int, arch) -> None:
        self.layer, self.x, self.stream, self.a_bits, self.arch = layer, x, stream, a_bits, arch
        self.filter_bits = filter_bits
        each = layer.C * layer.R * layer.S
        self.starts = [each * sum(filter_bits[:k]) for k in range(len(filter_bits))]
        self.cycle = 0
        self.gathered = 0  # cycle in which the gatherer is done
        self.obuf: dict[tuple, int] = {}
        self.w_loads = self.o_stores = self.o_loads = self.column_loads = self.instructions = 0

    def step(self, count: int = 1) -> None:
        self.cycle += count
        self.instructions += count

    # instructions

    def load_weights(self, k: int, first: int, index: int) -> int:
        self.step()
        self.w_loads += 1
        return self.stream >> (self.starts[k] + first * self.filter_bits[k] + 32 * index) & MASK

    def load_column(self, column: int, index: int) -> int:
        self.step()
        self.column_loads += 1
        return column >> 32 * index & MASK

    def dot(self, total: int, weights: int, w_at: int, w_bits: int, column: int, a_at: int, lanes: int) -> int:
        """Add the products of ``lanes`` elements from element ``w_at`` and ``a_at`` of their registers on."""
        self.step()
        for lane in range(lanes):
            weight = pick(weights, (w_at + lane) * w_bits, w_bits, True)
            total += weight * pick(column, (a_at + lane) * self.a_bits, self.a_bits, False)
        return total

    # the program

    def run(self) -> dict[tuple, int]:
        lay, arch = self.layer, self.arch
        pixels = [(n, p, q) for n in range(lay.N) for p in range(lay.P) for q in range(lay.Q)]
        sets = [pixels[at : at + arch.pixels] for at in range(0, len(pixels), arch.pixels)]
        self.step(DESCRIPTOR_LOADS)
        size = 1
        while 2 * size * lay.R * lay.S * self.a_bits <= arch.column_bits // (2 * arch.pixels):
            size *= 2
        for first in range(0, lay.C, size):
            channels = range(first, min(first + size, lay.C))
            self.gathered = self.cycle + self.gather_cycles(channels)
            for g in range(lay.G):
                for some in sets:
                    self.wait()
                    self.gathered = self.cycle + self.gather_cycles(
                        channels
                    )  # the next set, while this one is worked on
                    self.work(g, some, channels)
            self.wait()
        for k, bits in enumerate(self.filter_bits):
            if bits == 0:
                for pixel in pixels:
                    self.step()
                    self.o_stores += 1
                    self.obuf[k, pixel] = 0
        return self.obuf

    def wait(self) -> None:
        self.cycle = max(self.cycle, self.gathered)

    def gather_cycles(self, channels: range) -> int:
        """Rows of windows, one a cycle where a row fits a word of the buffer."""
        lay, cycles = self.layer, 0
        for _ in range(self.arch.pixels):
            for _ in channels:
                for _ in range(lay.R):
                    span = ((lay.S - 1) * lay.dilation[1] + 1) * self.a_bits
                    while span > 0:
                        span -= self.arch.shell.ibuf_port_bits
                        cycles += 1
        return cycles

    def gather(self, g: int, pixel: tuple, channels: range) -> int:
        """Return a column as bits: elements c, r, s of a window, zero outside the tensor."""
        lay, (n, p, q) = self.layer, pixel
        column, at = 0, 0
        for c in channels:
            for r in range(lay.R):
                for s in range(lay.S):
                    row = p * lay.stride[0] + r * lay.dilation[0] - lay.padding[0]
                    col = q * lay.stride[1] + s * lay.dilation[1] - lay.padding[1]
                    if 0 <= row < lay.H and 0 <= col < lay.W:
                        column |= int(self.x[n, g * lay.C + c, row, col]) << at
                    at += self.a_bits
        return column

    def work(self, g: int, pixels: list, channels: range) -> None:
        lay = self.layer
        columns = [self.gather(g, pixel, channels) for pixel in pixels]
        self.step(PAIR_INSTRUCTIONS)
        filters = [g * lay.K + k for k in range(lay.K)]
        for bits in sorted({self.filter_bits[k] for k in filters}, reverse=True):
            chosen = [k for k in filters if self.filter_bits[k] == bits]
            if bits == 0:
                continue
            self.step()  # status register
            for at in range(0, len(chosen), self.arch.filters):
                self.run_block(chosen[at : at + self.arch.filters], bits, pixels, columns, channels)

    def run_block(self, block: list, bits: int, pixels: list, columns: list, channels: range) -> None:
        lay = self.layer
        self.step(1 + len(block) + len(pixels))  # loop, pointers
        first = channels.start * lay.R * lay.S
        sums = {}
        for k in block:
            for i, pixel in enumerate(pixels):
                self.step()  # load or clear
                if first:
                    self.o_loads += 1
                sums[k, i] = self.obuf[k, pixel] if first else 0
        length = len(channels) * lay.R * lay.S
        lanes = 32 // max(bits, self.a_bits)
        weights: dict[int, int] = {}
        inputs: dict[int, int] = {}
        for at in range(0, length, lanes):
            for k in block:
                if at % (32 // bits) == 0:
                    weights[k] = self.load_weights(k, first, at // (32 // bits))
            for i, column in enumerate(columns):
                if at % (32 // self.a_bits) == 0:
                    inputs[i] = self.load_column(column, at // (32 // self.a_bits))
            for k in block:
                for i in range(len(pixels)):
                    sums[k, i] = self.dot(
                        sums[k, i], weights[k], at % (32 // bits), bits, inputs[i], at % (32 // self.a_bits), lanes
                    )
        for (k, i), total in sums.items():
            self.step()
            self.o_stores += 1
            self.obuf[k, pixels[i]] = total
