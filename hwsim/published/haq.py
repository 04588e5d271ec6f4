"""HAQ's cloud accelerator: a closed form of the cycles in its released latency table.

The table (mit-han-lab/haq, MIT:
``lib/simulator/lookup_tables/qmobilenetv2_imagenet100_batch16_latency_table.npy``) holds the cycles
of every layer of MobileNetV2 at every pair of bits, batch 16. The form was found on that table itself and gives
all of its 3,392 entries; it is exact for this table and a hypothesis elsewhere (only 31 different shapes; never exercised: one
column of tiles with several slices, windows with several slices, ragged pixels with several passes, batches other than 16).

It describes T x T bit-serial dot-product units that take slices of 256 bits, one 256-bit word a cycle on each of two streams
(weights, activations), with buffers of D words a row. P rows are output pixels, N columns output channels, in tiles of T; kappa
slices of the reduction; bits are sent plane by plane. One loop order keeps a tile of activations and streams weights past it, the
other the reverse: the cheaper one counts. Neither knows depthwise layers: 16 channels of 9 taps, padded to 16, make one word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwsim.core.layer import Layer

BATCH = 16
"""Images of the table."""
UNIFORM = {
    (8, 8): 39_624_933, (7, 7): 32_886_714, (6, 6): 26_653_434, (5, 5): 20_916_896, (4, 4): 15_716_150, (3, 3): 11_103_578,
    (2, 2): 7_063_425, (1, 1): 3_433_704, (4, 8): 31_232_558, (8, 4): 20_044_617,
}  # fmt: skip
"""Sums over the released table by weight and activation bits."""
TILE = 16
"""Dot-product units along rows and columns (T)."""
SLICE_BITS = 256
"""Bits of a word: the slice of the reduction that a unit takes in a cycle."""
ROW_WORDS = 1024
"""Words of a buffer row (D)."""
MOST_BITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A layer as a matrix product of one image.

    Parameters
    ----------
    rows : int
        P: output pixels; the batch for a fully connected layer.
    columns : int
        N: output channels; of one group of 16 channels for a depthwise layer.
    slices : int
        kappa: words of the reduction, ``ceil(C R S / 256)``.
    repeats : int
        How often the product is done: images of the batch times groups.
    """

    rows: int
    columns: int
    slices: int
    repeats: int


def describe_conv(in_channels: int, out_channels: int, kernel: int, pixels: int, batch: int) -> Product:
    """Return a convolution's product."""
    slices = -(-in_channels * kernel * kernel // SLICE_BITS)
    return Product(rows=pixels, columns=out_channels, slices=slices, repeats=batch)


def describe_depthwise(channels: int, pixels: int, batch: int) -> Product:
    """Return a depthwise convolution's product: groups of 16 channels, one after the other."""
    return Product(rows=pixels, columns=TILE, slices=1, repeats=batch * -(-channels // TILE))


def describe_linear(inputs: int, outputs: int, batch: int) -> Product:
    """Return a fully connected layer's product: images are rows."""
    return Product(rows=batch, columns=outputs, slices=-(-inputs // SLICE_BITS), repeats=1)


def describe(layer: Layer, batch: int = BATCH) -> Product:
    """Return a layer of a network as the closed form takes it; ``batch`` images, whatever the layer says."""
    if layer.is_depthwise:
        return describe_depthwise(layer.G, layer.P * layer.Q, batch)
    if layer.P * layer.Q == 1:
        return describe_linear(layer.C, layer.K, batch)
    return describe_conv(layer.C, layer.K, layer.R, layer.P * layer.Q, batch)


def count_cycles(product: Product, w_bits: int, a_bits: int) -> int:
    """Return the cycles of a layer at its bits, 1 to 8 each."""
    p, n, k, w, a = product.rows, product.columns, product.slices, w_bits, a_bits
    tiles_p, tiles_n = -(-p // TILE), -(-n // TILE)
    compute = k * tiles_n * tiles_p * w * a
    passes_a, passes_w = -(-a * tiles_p * k // ROW_WORDS), -(-w * tiles_n * k // ROW_WORDS)
    keep_a = max(
        _fill(p, a, tiles_n * w, k, w, passes_a),
        compute + passes_a * (w * k * (_stream(n, a) - tiles_n) - (a - 1) * (k * tiles_n * w - 1)),
    )
    keep_w = max(
        _fill(n, w, tiles_p * a, k, a, passes_w),
        compute + passes_w * (a * k * (_stream(p, w) - tiles_p) - (w - 1) * (k * tiles_p * a - 1)),
    )
    if tiles_p == 1:
        other = max(k * n * w + passes_w * (a - 1), compute + a * k * (_stream(p, w) - tiles_p))
        return product.repeats * min(keep_w, other)
    if tiles_n == 1:
        other = max(_load_rows(p, w, a, k, passes_a), compute + w * k * (_stream(n, a) - tiles_n))
        return product.repeats * min(keep_a, other)
    return product.repeats * min(keep_a, keep_w)


def _two_stages(words: int, after: int) -> int:
    """S(R, u): load R words in tiles of T, u compute cycles behind each tile, minus 1."""
    found = words + after - 1
    if words > TILE:
        found = max(found, TILE + -(-words // TILE) * after - 1)
        if words % TILE:
            found = max(found, TILE * (words // TILE) + 2 * after - 1)
    return found


def _stream(words: int, each: int) -> int:
    """Phi(R, u): tiles of T words stream past, each at least u cycles."""
    rest = words % TILE
    return words // TILE * max(TILE, each) + (max(rest, each) if rest else 0)


def _fill(words: int, planes: int, after: int, slices: int, other: int, passes: int) -> int:
    """F: filling the operand that is kept, plane by plane."""
    overlap = (slices - 1) * (other - 1)
    return planes * (slices * _two_stages(words, after) - overlap + (passes - 1) * (slices * (after - 1) - overlap))


def _load_rows(rows: int, w: int, a: int, slices: int, passes: int) -> int:
    """S1: the rows' load where a single column of tiles streams past."""
    if rows % TILE == 0:
        return slices * rows * a + passes * (w - 1)
    full = rows // TILE
    return max(rows * a + w - 1, TILE * full * a + w * (1 + a) - 1, TILE + w * a * (full + 1) - 1)
