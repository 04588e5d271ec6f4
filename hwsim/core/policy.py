"""A policy: which number format each layer runs at."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hwsim.core.check import require_choice, require_int
from hwsim.core.errors import SpecError, UnknownName
from hwsim.core.network import Network

OPERATORS = ("multiply", "shift", "add")
CODECS = ("native", "dense", "decomposed")
"""Weight storage; ``native`` is what the architecture stores by itself (decomposed on ``smartdeal``, dense elsewhere)."""

_SHORT = re.compile(r"(?:w(?P<w>\d+))?(?:a(?P<a>\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFormat:
    """Number formats of one layer.

    Parameters
    ----------
    w_bits, a_bits : int
        Bits of a weight and of an input activation, 1 to 16.
    operator : str
        ``multiply``, ``shift`` or ``add``.
    codec : str
        How weights are stored, one of ``CODECS``.
    """

    w_bits: int = 8
    a_bits: int = 8
    operator: str = "multiply"
    codec: str = "native"

    def __post_init__(self) -> None:
        require_int("policy.w_bits", self.w_bits, 1, 16)
        require_int("policy.a_bits", self.a_bits, 1, 16)
        require_choice("policy.operator", self.operator, OPERATORS)
        require_choice("policy.codec", self.codec, CODECS)

    @property
    def short(self) -> str:
        """The short string, e.g. ``w4a8``."""
        return f"w{self.w_bits}a{self.a_bits}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A format for every MAC layer: a default and exceptions by layer name."""

    default: LayerFormat = LayerFormat()
    layers: tuple[tuple[str, LayerFormat], ...] = ()

    def __post_init__(self) -> None:
        names = [name for name, _ in self.layers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SpecError("policy.layers", twice, "each layer named once")

    def of(self, layer: str) -> LayerFormat:
        """Return the format of a layer."""
        return dict(self.layers).get(layer, self.default)

    def check(self, network: Network) -> None:
        """Raise UnknownName when the policy names a layer that the network has not."""
        known = {layer.name for layer in network.mac_layers}
        for name, _ in self.layers:
            if name not in known:
                raise UnknownName("layer in the policy", name, known)

    @property
    def short(self) -> str:
        """The short string of a uniform policy, else a summary."""
        return self.default.short + (f" with {len(self.layers)} exceptions" if self.layers else "")


def parse_policy(text: str) -> Policy:
    """Read a short string: ``w4a8``, or ``w4a8,conv1=w8a8,fc=w8a8`` with exceptions by layer name.

    Raises
    ------
    SpecError
        The text is not of that form.
    """
    default, exceptions = LayerFormat(), []
    for part in (piece.strip() for piece in text.split(",")):
        name, sep, short = part.rpartition("=")
        match = _SHORT.fullmatch(short)
        if not match or not short:
            raise SpecError("policy", part, "a string like w4a8 or layer=w4a8")
        base = LayerFormat(w_bits=int(match["w"] or 8), a_bits=int(match["a"] or 8))
        if sep:
            exceptions.append((name, base))
        else:
            default = base
    return Policy(default=default, layers=tuple(exceptions))
