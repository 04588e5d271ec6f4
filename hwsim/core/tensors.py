"""Arrays that belong to a network, kept apart from it: the network is hashable, arrays are not."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where tensors come from; it stands in every report.

    Parameters
    ----------
    kind : str
        ``synthetic``, ``file`` or ``package``.
    description : str
        One line: file name and hash, package and version, or distribution and seed.
    licence : str
        Licence of the data, empty where there is none to state.
    """

    kind: str
    description: str
    licence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActQuant:
    """Quantization of an activation tensor: real = scale * (stored - zero_point)."""

    scale: float
    zero_point: int = 0
    bits: int = 8
    signed: bool = True

    @property
    def low(self) -> int:
        """Smallest stored integer."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Largest stored integer."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1


@dataclass(slots=True, kw_only=True)
class LayerTensors:
    """Weights of one MAC layer (or scale and offset of a ``scale`` layer).

    Parameters
    ----------
    weight : ndarray
        ``[G*K, C, R, S]``; float32, or integers where ``w_scale`` is given (real = w_scale * (stored - w_zero)).
    bias : ndarray or None
        ``[G*K]``; float32 beside a float weight, int32 at scale w_scale * input scale beside an integer one.
    w_scale : ndarray or None
        ``[G*K]`` float32, or ``[1]`` for one scale per tensor.
    w_zero : ndarray or None
        Zero points, same shape as ``w_scale``; None is zero.
    w_bits : int
        Bits of a stored weight.
    factor : ndarray or None
        ``[G*K]`` float32, positive: what the sum of a layer with the operator ``add`` is multiplied by before its bias, a
        normalization that its weights cannot take in (None: one). Its integer weights are at the scale of its input.
    """

    weight: Array
    bias: Array | None = None
    w_scale: Array | None = None
    w_zero: Array | None = None
    w_bits: int = 32
    factor: Array | None = None


@dataclass(slots=True, kw_only=True)
class Tensors:
    """All tensors of a network.

    Parameters
    ----------
    layers : dict
        Layer name to its tensors.
    activations : dict
        Tensor name (network input or layer) to its quantization; empty for a float model.
    origin : Origin
        Where they come from.
    """

    layers: dict[str, LayerTensors]
    activations: dict[str, ActQuant] = field(default_factory=dict)
    origin: Origin
