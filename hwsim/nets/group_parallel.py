"""Group-parallel networks: G narrow copies of a network side by side that exchange their channels now and then.

Source: PalQuant (ECCV 2022); huqinghao/PalQuant, ``quant_resnet.py`` and ``shuffle_utils.py``. Channels become G times as many and
every convolution is grouped by G, but for the first layers, which read the image (3 to 64 G channels in ResNet), and the last ones,
which make the result (512 G to 1000): those are neither grouped nor quantized to the native bits. Group g is a copy of the
network; its channels lie together. Groups exchange

- in a *cyclic shuffle* at the end of every stage but the last: ``x + relu(conv(rotate(x)))``; ``rotate`` gives group g the channels
  of group g + 1, ``conv`` is 1x1 and grouped;
- in a *channel shuffle* (that of ShuffleNet) of the block's own branch where an addition's other operand is a convolution too (the
  downsample blocks of ResNet).

Both are address generation but for the 1x1 convolutions and their additions.

For networks besides ResNet-18 and 34 the rule is this project's: a stage is what has one resolution; its shuffle stands behind the
last of the narrowest results (poolings left out) through which all of the network passes, so that in MobileNetV2 it stands between
blocks and not inside one. Depthwise and grouped convolutions get G times their groups. Concatenations and splits of channels
keep those of a group together. A normalization across channels (``lrn``) also reaches over the border of two groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NoReturn

from hwsim.core.check import require_int
from hwsim.core.errors import SpecError, UnknownName
from hwsim.core.layer import Attr, Layer
from hwsim.core.network import Network
from hwsim.core.policy import MOST_GROUPS

BY_CHANNEL = (
    "add", "mul", "maxpool", "avgpool", "activation", "scale", "lrn", "flatten", "identity", "pad",
)  # fmt: skip
"""Operators that stay what they are on G times as many channels."""


def widen_groups(network: Network, groups: int, shuffle_after: Sequence[str] | None = None) -> Network:
    """Return the group-parallel network.

    Parameters
    ----------
    network : Network
        Any network with layers between its first and last ones; layers keep their names.
    groups : int
        Copies; 1 returns the network itself.
    shuffle_after : sequence of str, optional
        Layers behind which cyclic shuffles stand, instead of those of the rule.

    Returns
    -------
    Network
        Its added layers are named after the one that they stand behind or before: ``layer1.1.add.cyclic.rotate``,
        ``.cyclic.conv``, ``.cyclic.add``, ``layer2.0.add.shuffle``.

    Raises
    ------
    SpecError
        Nothing stands between the first and the last layers, no resolution changes between them (groups would not exchange), or a
        layer cannot be widened.
    UnknownName
        ``shuffle_after`` names a layer that is not there.
    """
    require_int("groups", groups, 1, MOST_GROUPS)
    if groups == 1:
        return network
    widening = _Widening(network, groups)
    places = widening.choose_places() if shuffle_after is None else widening.check_places(shuffle_after)
    return widening.build(places)


def list_kept_layers(network: Network) -> tuple[str, ...]:
    """Return the MAC layers that a group-parallel network leaves ungrouped: the first and the last ones, in order."""
    first, last = _find_ends(network)
    return tuple(layer.name for layer in network.mac_layers if layer.name in first | last)


def _find_ends(network: Network) -> tuple[set[str], set[str]]:
    """Return the MAC layers with no other before them, and those with none behind them."""
    behind: set[str] = set()
    first = set()
    for layer in network.layers:
        if layer.kind == "mac" and not any(name in behind for name in layer.inputs):
            first.add(layer.name)
        if layer.kind == "mac" or any(name in behind for name in layer.inputs):
            behind.add(layer.name)
    before: set[str] = set()
    last = set()
    for layer in reversed(network.layers):
        if layer.kind == "mac" and layer.name not in before:
            last.add(layer.name)
        if layer.kind == "mac" or layer.name in before:
            before.update(layer.inputs)
    return first, last


class _Widening:
    """A network with what the rules need to know of it."""

    def __init__(self, network: Network, groups: int) -> None:
        self.network, self.groups = network, groups
        self.first, self.last = _find_ends(network)
        self.kept = self.first | self.last
        if all(layer.name in self.kept for layer in network.mac_layers):
            raise SpecError("groups", groups, f"1 on {network.name}: no layer stands between its first and its last")
        self.wide = self._find_wide()
        self.depth = self._count_depth()

    def _find_wide(self) -> set[str]:
        """Return the tensors that get G times their channels."""
        wide: set[str] = set()
        for layer in self.network.layers:
            inputs = [name in wide for name in layer.inputs]
            if layer.kind == "mac":
                if layer.name not in self.last:
                    wide.add(layer.name)
                continue
            narrow = [name for name, found in zip(layer.inputs, inputs, strict=True) if not found]
            if any(inputs) and any(self.network.shape_of(name)[1] > 1 for name in narrow):
                self._refuse(layer, f"it joins a widened tensor with {', '.join(narrow)}")
            if any(inputs):
                wide.add(layer.name)
        return wide

    def _count_depth(self) -> dict[str, int]:
        """Return the most MAC layers on a way from an input to each tensor, itself included."""
        depth = {spec.name: 0 for spec in self.network.inputs}
        for layer in self.network.layers:
            depth[layer.name] = max(depth[name] for name in layer.inputs) + (layer.kind == "mac")
        return depth

    def _refuse(self, layer: Layer, why: str) -> NoReturn:
        raise SpecError("groups", self.groups, f"1 on {self.network.name}: layer {layer.name} cannot be widened, {why}")

    def choose_places(self) -> tuple[str, ...]:
        """Return the tensors behind which a cyclic shuffle stands, by the rule of the module."""
        by_size: dict[int, list[Layer]] = {}
        for layer in self._list_candidates():
            by_size.setdefault(layer.P * layer.Q, []).append(layer)
        # of vectors, as those of squeeze and excite, no stage is made
        sizes = {layer.P * layer.Q for layer in self.network.mac_layers if layer.name not in self.kept}
        least = min((size for size in sizes if size > 1), default=1)
        found = []
        for _, stage in sorted((pair for pair in by_size.items() if pair[0] > least), reverse=True):
            narrowest = min(layer.out_shape[1] for layer in stage)
            found.append([layer.name for layer in stage if layer.out_shape[1] == narrowest][-1])
        if not found:
            raise SpecError(
                "groups",
                self.groups,
                f"1 on {self.network.name}: no resolution changes between its grouped layers, so groups would not exchange",
                f"a policy without g{self.groups} runs it as it is; places are named from Python alone, by the argument "
                "shuffle_after of hwsim.nets.group_parallel.widen_groups",
            )
        return tuple(found)

    def _list_candidates(self) -> list[Layer]:
        """Return computed, widened maps through which everything passes, with grouped layers before and behind them."""
        body = {layer.name for layer in self.network.mac_layers if layer.name not in self.kept}
        consumers = self.network.consumers
        order = {layer.name: at for at, layer in enumerate(self.network.layers)}
        reach = {  # where a tensor is used last
            name: max((order[user] for user in users), default=-1) for name, users in consumers.items()
        }
        reach.update({name: len(order) for name in self.network.outputs})
        last_body = max(order[name] for name in body)
        found, seen, open_until = [], False, max(reach[spec.name] for spec in self.network.inputs)
        for at, layer in enumerate(self.network.layers):
            seen = seen or layer.name in body
            through = open_until <= at
            open_until = max(open_until, reach[layer.name])
            computed = layer.kind == "mac" or layer.op in ("add", "mul", "activation", "scale", "concat", "shuffle")
            if through and seen and at < last_body and computed and layer.name in self.wide and layer.P * layer.Q > 1:
                found.append(layer)
        return found

    def check_places(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the named tensors, or raise where one is absent or not widened."""
        known = {layer.name for layer in self.network.layers}
        for name in names:
            if name not in known:
                raise UnknownName("layer in shuffle_after", name, known)
            if name not in self.wide:
                raise SpecError("shuffle_after", name, "a layer whose channels are widened")
        return tuple(names)

    def build(self, places: tuple[str, ...]) -> Network:
        """Return the network with cyclic shuffles behind ``places``."""
        layers: list[Layer] = []
        renamed: dict[str, str] = {}
        shuffled = []
        for layer in self.network.layers:
            now = replace(layer, inputs=tuple(renamed.get(name, name) for name in layer.inputs))
            branch = self._find_branch(layer)
            if branch is not None:
                move = self._move(f"{layer.name}.shuffle", now.inputs[branch], layer, groups=self.groups)
                layers.append(move)
                now = replace(now, inputs=tuple(move.name if i == branch else x for i, x in enumerate(now.inputs)))
                shuffled.append(layer.name)
            layers += self._widen(layer, now)
            if layer.name in places:
                layers += self._make_cyclic(layer)
                renamed[layer.name] = f"{layer.name}.cyclic.add"
        note = (
            f"widened to {self.groups} groups side by side (PalQuant); not grouped: {', '.join(list_kept_layers(self.network))}; "
            f"cyclic shuffles behind {', '.join(places)}"
            + (f"; channel shuffles before {', '.join(shuffled)}" if shuffled else "")
        )
        return replace(
            self.network,
            name=f"{self.network.name}-g{self.groups}",
            layers=tuple(layers),
            outputs=tuple(renamed.get(name, name) for name in self.network.outputs),
            source=f"{self.network.source}; group-parallel as in huqinghao/PalQuant",
            notes=(*self.network.notes, note),
        )

    def _find_branch(self, layer: Layer) -> int | None:
        """Return which operand of an addition is shuffled: the deeper one of two convolutions that nothing else reads."""
        if layer.op != "add" or len(layer.inputs) != 2 or layer.name not in self.wide:
            return None
        known = {one.name for one in self.network.mac_layers if self.network.consumers[one.name] == (layer.name,)}
        if not all(name in known for name in layer.inputs):
            return None
        return 0 if self.depth[layer.inputs[0]] >= self.depth[layer.inputs[1]] else 1

    def _make_cyclic(self, behind: Layer) -> list[Layer]:
        """Return the layers of a cyclic shuffle behind a tensor."""
        channels, name = behind.out_shape[1], f"{behind.name}.cyclic"
        rotate = self._move(f"{name}.rotate", behind.name, behind, rotate=channels)
        conv = replace(
            rotate, name=f"{name}.conv", op="conv", inputs=(rotate.name,), G=self.groups, K=channels, C=channels, activation="relu",
            attrs=(),
        )  # fmt: skip
        add = replace(rotate, name=f"{name}.add", op="add", inputs=(conv.name, behind.name), attrs=())
        return [rotate, conv, add]

    def _move(self, name: str, source: str, like: Layer, **attrs: Attr) -> Layer:
        """Return a shuffle of a widened tensor of the shape of ``like``'s output, before it is widened."""
        return Layer(
            name=name, op="shuffle", inputs=(source,), N=like.N, G=self.groups * like.out_shape[1], P=like.P, Q=like.Q, H=like.P,
            W=like.Q, attrs=tuple(sorted(attrs.items())),
        )  # fmt: skip

    def _widen(self, layer: Layer, now: Layer) -> list[Layer]:
        """Return what a layer becomes; ``now`` is the layer with its new inputs."""
        if layer.kind == "mac":
            return [self._widen_mac(layer, now)]
        if layer.name not in self.wide:
            return [now]
        along = layer.attr("axis", 1) == 1
        if layer.op in BY_CHANNEL or (layer.op == "slice" and not along):
            if layer.attr("channels_before", 0) or layer.attr("channels_after", 0):
                self._refuse(layer, "it pads channels")
            return [replace(now, G=self.groups * layer.G)]
        if layer.op not in ("concat", "slice", "shuffle"):
            self._refuse(layer, f"a {layer.attr('source_op', layer.op)} may mix channels of groups")
        return self._widen_moves(layer, now)

    def _widen_mac(self, layer: Layer, now: Layer) -> Layer:
        if layer.name not in self.kept:
            return replace(now, G=self.groups * layer.G)
        inputs = self.groups if layer.inputs[0] in self.wide else 1
        outputs = self.groups if layer.name in self.wide else 1
        if layer.G > 1 and (inputs, outputs) != (1, 1):
            self._refuse(layer, "a first or last layer that is grouped itself")
        return replace(now, C=inputs * layer.C, K=outputs * layer.K)

    def _widen_moves(self, layer: Layer, now: Layer) -> list[Layer]:
        """Return slices of each group, what is done to them, and their concatenation under the layer's name."""
        made: list[Layer] = []
        pieces: list[str] = []
        for g in range(self.groups):
            for i, (old, new) in enumerate(zip(layer.inputs, now.inputs, strict=True)):
                channels = self.network.shape_of(old)[1]
                start, stop = 0, channels
                if layer.op == "slice":
                    start, stop = _read_span(layer, channels)
                name = f"{layer.name}.g{g}" + (f".{i}" if len(layer.inputs) > 1 else "")
                cut = (("start", g * channels + start), ("stop", g * channels + stop), *_read_step(layer))
                count = len(range(channels)[start : stop : dict(cut).get("step", 1)])
                made.append(replace(now, name=name, op="slice", inputs=(new,), G=count, attrs=tuple(sorted(cut))))
                if layer.op == "shuffle":
                    made.append(replace(now, name=f"{name}.shuffle", inputs=(name,), G=count))
                pieces.append(made[-1].name)
        joined = replace(now, op="concat", inputs=tuple(pieces), G=self.groups * layer.G, attrs=())
        return [*made, joined]


def _read_span(layer: Layer, channels: int) -> tuple[int, int]:
    """Return first and end of a slice of channels, counted from 0."""
    given = slice(*(_read_int(layer, *pair) for pair in (("start", 0), ("stop", channels))))
    start, stop, _ = given.indices(channels)
    return start, stop


def _read_step(layer: Layer) -> Iterable[tuple[str, int]]:
    step = _read_int(layer, "step", 1) if layer.op == "slice" else 1
    return (("step", step),) if step != 1 else ()


def _read_int(layer: Layer, name: str, default: int) -> int:
    value = layer.attr(name, default)
    return value if isinstance(value, int) else default
