"""Codebook weights: an index a weight, a table of centroids a layer, fitted by a Gaussian mixture or by k-means.

Source: DGMS (CVPR 2022; modeling/DGMS/GMM.py of github.com/RunpeiDong/DGMS): a mixture of K components of which one has its mean
at zero, started from k-means, each weight replaced by the mean of its most responsible component. K-means alone is
HAQ's weight-only mode; here it is the best one (`hwsim.quant.kmeans`). DGMS trains the mixture with the network; here it is
fitted to trained weights by expectation maximization, which describes their density: components of equal means and unequal widths
are likely, so the squared error is above that of k-means, far above at two bits. A likelier mixture than the one of this
start (`fit_mixture` by itself finds it) is mostly a worse table, so the table is that of this start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwsim.core.check import require_choice, require_int
from hwsim.core.tensors import Array
from hwsim.quant.kmeans import cluster_values, count_values
from hwsim.quant.mixture import Mixture, fit_mixture, start_mixture
from hwsim.quant.rows import check_weights
from hwsim.quant.uniform import choose_dtype

__all__ = ["CodebookWeights", "Mixture", "fit_mixture", "quantize_codebook", "start_mixture"]
CENTROID_BITS = 32
"""Bits of a stored centroid (float32)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodebookWeights:
    """Weights as indices into a table.

    Parameters
    ----------
    index : ndarray of uint8
        Shape of the float weights.
    centroid : ndarray of float32
        ``[K]``, K at most ``2**bits``.
    bits : int
        Of an index.
    """

    index: npt.NDArray[np.uint8]
    centroid: npt.NDArray[np.float32]
    bits: int

    @property
    def storage_bits(self) -> int:
        """Exact size: an index a weight, the table once."""
        return self.index.size * self.bits + self.centroid.size * CENTROID_BITS

    @property
    def zero_share(self) -> float:
        """Share of the weights that are exactly zero: DGMS counts them as pruned."""
        return float(np.mean(self.centroid[self.index] == 0))

    def dequantize(self) -> npt.NDArray[np.float32]:
        """Return the real weights, float32."""
        return self.centroid[self.index]

    def to_integers(self, bits: int = 8) -> tuple[Array, npt.NDArray[np.float32]]:
        """Return the weights with the table rounded to integers of ``bits`` (2 to 16), and its scale ``[1]``.

        What a look-up datapath of integers computes with; the table's rounding is the only loss.
        """
        require_int("bits", bits, 2, 16)
        levels = (1 << (bits - 1)) - 1
        top = float(np.abs(self.centroid).max())
        scale = np.array([top / levels if top else 1.0], np.float32)
        table = np.clip(np.rint(self.centroid / scale), -levels, levels).astype(choose_dtype(bits, signed=True))
        return table[self.index], scale


def quantize_codebook(weight: Array, bits: int, method: str = "mixture") -> CodebookWeights:
    """Fit a table of ``2**bits`` centroids to a layer's weights and index it.

    Parameters
    ----------
    weight : ndarray
        ``[channels, ...]``, finite floats.
    bits : int
        1 to 8.
    method : str
        ``mixture``: Gaussian mixture, one centre at zero (from two bits on), started from k-means; ``kmeans``: the table of least
        squared error that there is.

    Raises
    ------
    InputError
        A weight is NaN, infinite or beyond float32.
    """
    require_int("bits", bits, 1, 8)
    require_choice("method", method, ("mixture", "kmeans"))
    values = check_weights(weight)
    if method == "kmeans":
        centroid = cluster_values(*count_values(values), 1 << bits).astype(np.float32)
        edges = centroid[1:] / 2 + centroid[:-1] / 2  # the sum of two might be beyond float32
        index = np.searchsorted(edges, values)
    else:
        found = fit_mixture(values, 1 << bits, zero=bits >= 2, start=start_mixture(values, 1 << bits))
        centroid = found.mean.astype(np.float32)
        index = found.assign(values)
    return CodebookWeights(index=index.astype(np.uint8), centroid=centroid, bits=bits)
