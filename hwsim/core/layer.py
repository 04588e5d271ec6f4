"""One node of a network: its operator, its loop dimensions and where its inputs come from.

Loop dimensions (the field's letters): ``N`` batch, ``G`` groups, ``K`` output channels per group, ``C`` input
channels per group, ``P`` x ``Q`` output height and width, ``R`` x ``S`` filter height and width; ``H`` x ``W`` is
the input's height and width. Activations are ``[N, channels, height, width]``; a vector has height = width = 1.

A layer that does no multiply-accumulate (pooling, addition, concatenation ...) has ``K = C = 1`` and ``G`` equal to
its output channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from hwsim.core.check import require_choice, require_int
from hwsim.core.errors import SpecError

MAC_OPS = ("conv", "gemm")
"""Operators that multiply by weights; a gemm has P = Q = R = S = 1."""
VECTOR_OPS = ("add", "mul", "maxpool", "avgpool", "activation", "scale", "softmax", "lrn")
"""Operators of the vector unit; ``scale`` is a per-channel affine map (a BatchNormalization that could not be folded)."""
ADDRESS_OPS = ("concat", "flatten", "reshape", "transpose", "shuffle", "slice", "pad", "identity")
"""Operators without arithmetic: address generation, no cycles of their own."""
OPS = (*MAC_OPS, *VECTOR_OPS, *ADDRESS_OPS, "unpriced")
"""Every operator; ``unpriced`` stands for one that cannot be priced, its source name is in the attribute ``source_op``."""
ACTIVATIONS = (
    "none",
    "relu",
    "relu6",
    "leaky_relu",
    "sigmoid",
    "tanh",
    "hard_sigmoid",
    "hard_swish",
    "silu",
    "clip",
    "gelu",
)

Attr = str | int | float | tuple[int, ...]
Kind = Literal["mac", "vector", "address", "unpriced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A node of a network, valid once constructed.

    Parameters
    ----------
    name : str
        Unique in its network; also the name of its output tensor.
    op : str
        One of ``OPS``.
    inputs : tuple of str
        Names of the layers (or network inputs) that produce its activations, in order.
    N, G, K, C, P, Q, R, S, H, W : int
        Loop dimensions, see the module.
    stride, dilation : tuple of int
        Vertical, horizontal.
    padding : tuple of int
        Top, left, bottom, right; a pooling that rounds up has it in bottom and right.
    activation : str
        Fused behind the operator (for op ``activation``: the operator itself).
    attrs : tuple of (str, value)
        What else the operator needs, sorted by name: ``groups`` of a shuffle or ``rotate``, by how many channels it turns them
        (channel c takes those of c + rotate, counted round), ``start``/``stop`` (channels) of a slice,
        ``count_include_pad`` of an average pooling, ``shape`` of a reshape, ``perm`` of a transpose, ``alpha``, ``low``/``high``,
        ``operator`` of a MAC layer that does not multiply (`hwsim.core.policy.OPERATORS`).
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    N: int = 1
    G: int = 1
    K: int = 1
    C: int = 1
    P: int = 1
    Q: int = 1
    R: int = 1
    S: int = 1
    H: int = 1
    W: int = 1
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    activation: str = "none"
    attrs: tuple[tuple[str, Attr], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise SpecError("layer.name", self.name, "a non-empty string")
        where = f"layer {self.name}"
        require_choice(f"{where}.op", self.op, OPS)
        require_choice(f"{where}.activation", self.activation, ACTIVATIONS)
        for dim in "NGKCPQRSHW":
            require_int(f"{where}.{dim}", getattr(self, dim), 1, 1 << 24)
        for field, low in (("stride", 1), ("dilation", 1), ("padding", 0)):
            for value in getattr(self, field):
                require_int(f"{where}.{field}", value, low, 1 << 16)
        if not self.inputs:
            raise SpecError(f"{where}.inputs", self.inputs, "at least one producer")
        if self.kind == "mac" or self.op in ("maxpool", "avgpool"):
            for out, size, window, axis in ((self.P, self.H, self.R, 0), (self.Q, self.W, self.S, 1)):
                padded = size + self.padding[axis] + self.padding[axis + 2]
                fits = (padded - self.dilation[axis] * (window - 1) - 1) // self.stride[axis] + 1
                if fits != out:
                    raise SpecError(f"{where}.{'PQ'[axis]}", out, f"{fits} by its input, window, stride and padding")
        if self.op == "gemm" and (self.P, self.Q, self.R, self.S) != (1, 1, 1, 1):
            raise SpecError(f"{where}.op", self.op, "P = Q = R = S = 1 for a gemm")
        if self.macs >= 1 << 53:
            raise SpecError(f"{where}", self.macs, "fewer than 2**53 multiply-accumulates")

    @property
    def kind(self) -> Kind:
        """Who executes it: the MAC engine, the vector unit, address generation, or nobody."""
        if self.op in MAC_OPS:
            return "mac"
        if self.op in VECTOR_OPS:
            return "vector"
        return "address" if self.op in ADDRESS_OPS else "unpriced"

    @property
    def macs(self) -> int:
        """Multiply-accumulates with weights, padding counted (as everyone counts them)."""
        if self.op not in MAC_OPS:
            return 0
        return self.N * self.G * self.K * self.C * self.P * self.Q * self.R * self.S

    @property
    def weights(self) -> int:
        """Number of weights without bias."""
        return self.G * self.K * self.C * self.R * self.S if self.op in MAC_OPS else 0

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        """Shape of the output, ``[N, G*K, P, Q]``."""
        return (self.N, self.G * self.K, self.P, self.Q)

    @property
    def in_shape(self) -> tuple[int, int, int, int]:
        """Shape of the first input, ``[N, G*C, H, W]``: meaningful for MAC layers, pooling and elementwise operators."""
        return (self.N, self.G * self.C, self.H, self.W)

    @property
    def out_elements(self) -> int:
        """Number of output elements."""
        return self.N * self.G * self.K * self.P * self.Q

    @property
    def is_depthwise(self) -> bool:
        """Whether each input channel has filters of its own."""
        return self.op == "conv" and self.G > 1 and self.C == 1

    def attr(self, name: str, default: Attr | None = None) -> Attr | None:
        """Return an attribute or ``default``."""
        return dict(self.attrs).get(name, default)

    def with_batch(self, batch: int) -> Layer:
        """Return the layer at another batch size."""
        return replace(self, N=batch)

    @property
    def operator(self) -> str:
        """What its weights do to activations, unless a policy says otherwise: ``multiply``, ``shift`` or ``add``."""
        return str(self.attr("operator", "multiply"))

    def shape_key(self) -> Layer:
        """Return the layer without what does not move its cost: two layers with equal keys cost the same."""
        return replace(self, name="_", inputs=tuple("_" for _ in self.inputs), activation="none")
