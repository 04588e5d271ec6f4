"""A policy: which number format each layer runs at."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from hwsim.core.check import require_choice, require_int
from hwsim.core.errors import SpecError, UnknownName
from hwsim.core.network import Network

OPERATORS = ("native", "multiply", "shift", "add")
"""What a weight does to an activation: w x; x shifted by a signed power of two; -|x - w|. ``native`` is the layer's own (its
attribute ``operator``), which is to multiply unless the network says otherwise."""
CODECS = ("native", "dense", "decomposed", "power-of-two", "codebook", "bit-planes")
"""Weight storage; ``native`` is what the architecture stores by itself (decomposed on ``smartdeal``, dense elsewhere)."""
SCALES = ("native", "multiplier", "shift")
"""How results are requantized: by multiplier and shift, by a shift alone; ``native`` is the architecture's own."""
MOST_GROUPS = 64

_SHORT = re.compile(
    r"(?:f(?P<f>\d+)|(?:w(?P<w>\d+))?(?:a(?P<a>\d+))?(?:g(?P<g>\d+))?)(?:-(?P<operator>multiply|shift|add))?"
    r"(?:-(?P<codec>dense|decomposed|power-of-two|codebook|bit-planes))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFormat:
    """Number formats of one layer.

    Parameters
    ----------
    w_bits, a_bits : int
        Bits of a weight and of an input activation, 1 to 16.
    operator : str
        One of ``OPERATORS``.
    codec : str
        How weights are stored, one of ``CODECS``.
    scale : str
        How results are requantized, one of ``SCALES``.
    channel_bits : tuple of (int, int)
        Output channels of different precision: (bits, how many filters), the widest first, 0 bits for pruned ones; the filters are
        stored in this order and the next layer reads them so. ``w_bits`` is the widest. Empty where all have ``w_bits``.
    groups : int
        Parallel groups that the layer is widened to before it runs (PalQuant); 1 leaves the network as it is.
    """

    w_bits: int = 8
    a_bits: int = 8
    operator: str = "native"
    codec: str = "native"
    scale: str = "native"
    channel_bits: tuple[tuple[int, int], ...] = ()
    groups: int = 1

    def __post_init__(self) -> None:
        require_int("policy.w_bits", self.w_bits, 1, 16)
        require_int("policy.a_bits", self.a_bits, 1, 16)
        require_choice("policy.operator", self.operator, OPERATORS)
        require_choice("policy.codec", self.codec, CODECS)
        require_choice("policy.scale", self.scale, SCALES)
        require_int("policy.groups", self.groups, 1, MOST_GROUPS)
        if self.channel_bits:
            self._check_channels()

    def _check_channels(self) -> None:
        """Raise SpecError unless the channels' bits fall from ``w_bits`` on, each with a count."""
        pairs = self.channel_bits
        if not isinstance(pairs, tuple) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
            raise SpecError("policy.channel_bits", pairs, "pairs (bits, filters)")
        for bits, count in pairs:
            require_int("policy.channel_bits", bits, 0, 16)
            require_int("policy.channel_bits, filters", count, 1)
        widths = [bits for bits, _ in pairs]
        if widths != sorted(set(widths), reverse=True) or widths[0] != self.w_bits:
            raise SpecError("policy.channel_bits", pairs, f"bits that fall, the first of them w_bits ({self.w_bits})")

    @property
    def short(self) -> str:
        """The short string, e.g. ``w4a8``, ``w2a2g2``, ``f8``, ``w6a6-add``, ``w4a8-codebook``."""
        fixed = self.scale == "shift" and self.w_bits == self.a_bits
        bits = f"f{self.w_bits}" if fixed else f"w{self.w_bits}a{self.a_bits}"
        groups = f"g{self.groups}" if self.groups > 1 else ""
        return bits + groups + "".join(f"-{word}" for word in (self.operator, self.codec) if word != "native")


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


def name_operators(network: Network, policy: Policy) -> Network:
    """Return the network whose MAC layers have the operators that a policy names for them as their own.

    Pricing reads operators from the policy; running a network needs them in it.
    """
    policy.check(network)
    layers = []
    for layer in network.layers:
        named = policy.of(layer.name).operator if layer.kind == "mac" else "native"
        if named not in ("native", layer.operator):
            kept = tuple(pair for pair in layer.attrs if pair[0] != "operator")
            own = (("operator", named),) if named != "multiply" else ()
            layer = replace(layer, attrs=tuple(sorted((*kept, *own))))
        layers.append(layer)
    return replace(network, layers=tuple(layers))


def parse_policy(text: str) -> Policy:
    """Read a short string: ``w4a8``, or ``w4a8,conv1=w8a8,fc=w8a8`` with exceptions by layer name.

    ``g2`` behind the bits is two parallel groups, ``f8`` eight-bit fixed point (requantized by shifts alone), ``-shift`` and
    ``-add`` behind either the operator, ``-codebook`` and the like behind that the codec. What a layer's string leaves open is
    the default's, wherever that stands: ``w4a4,conv1=w8`` reads 4 bits at conv1. What the default leaves open is `LayerFormat`'s.

    Raises
    ------
    SpecError
        The text is not of that form, or has several defaults.
    """
    parts = []
    for part in (piece.strip() for piece in text.split(",")):
        name, sep, short = part.rpartition("=")
        match = _SHORT.fullmatch(short)
        if not match or not short:
            raise SpecError("policy", part, "a string like w4a8, w2a2g2, f8, w6a6-add, w4a8-codebook or layer=w4a8")
        parts.append((name, bool(sep), match))
    defaults = [match for _, named, match in parts if not named]
    if len(defaults) > 1:
        raise SpecError("policy", ",".join(match[0] for match in defaults), "one default, others as layer=w4a8")
    default = _read_short(defaults[0], LayerFormat()) if defaults else LayerFormat()
    layers = ((name, _read_short(match, default)) for name, named, match in parts if named)
    return Policy(default=default, layers=tuple(layers))


def _read_short(match: re.Match[str], base: LayerFormat) -> LayerFormat:
    """Return a format; what the string leaves open is ``base``'s."""
    fixed = match["f"]
    return replace(
        base,
        w_bits=int(fixed or match["w"] or base.w_bits),
        a_bits=int(fixed or match["a"] or base.a_bits),
        operator=match["operator"] or base.operator,
        codec=match["codec"] or base.codec,
        scale="shift" if fixed else base.scale,
        groups=int(match["g"] or base.groups),
    )
