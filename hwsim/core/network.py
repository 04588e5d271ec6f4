"""A network: a directed graph of layers in execution order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from hwsim.core.errors import InputError, SpecError, UnknownName
from hwsim.core.layer import Layer

ELEMENTWISE = ("add", "mul", "activation", "scale", "softmax", "lrn", "identity")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A network input: its name and shape ``[N, C, H, W]`` (a vector has H = W = 1)."""

    name: str
    shape: tuple[int, int, int, int]

    def __post_init__(self) -> None:
        if len(self.shape) != 4 or any(not isinstance(n, int) or not 1 <= n <= 1 << 24 for n in self.shape):
            raise SpecError(f"input {self.name}.shape", self.shape, "four positive integers N, C, H, W")


@dataclass(frozen=True, kw_only=True)
class Network:
    """A graph of layers; residual additions, concatenations, poolings and shuffles keep their place.

    Parameters
    ----------
    name : str
        What reports call it.
    inputs : tuple of TensorSpec
        Network inputs.
    layers : tuple of Layer
        In execution order: a layer stands behind its producers.
    outputs : tuple of str
        Names of the layers whose results leave the network.
    source : str
        Where the shapes come from (paper, repository, file with its hash).
    notes : tuple of str
        What an importer did that a reader should know: operators folded, ignored or unpriced, each with its node.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = _find_problems(self)
        if problems:
            raise InputError(f"network {self.name}", problems)

    @cached_property
    def _by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def consumers(self) -> dict[str, tuple[str, ...]]:
        """Names of the layers that read each tensor, by the tensor's name."""
        found: dict[str, list[str]] = {spec.name: [] for spec in self.inputs}
        found.update({layer.name: [] for layer in self.layers})
        for layer in self.layers:
            for source in layer.inputs:
                found[source].append(layer.name)
        return {name: tuple(users) for name, users in found.items()}

    def layer(self, name: str) -> Layer:
        """Return a layer by name, or raise UnknownName with the nearest ones."""
        if name not in self._by_name:
            raise UnknownName("layer", name, self._by_name)
        return self._by_name[name]

    def shape_of(self, tensor: str) -> tuple[int, int, int, int]:
        """Return the shape of a network input or of a layer's output."""
        for spec in self.inputs:
            if spec.name == tensor:
                return spec.shape
        return self.layer(tensor).out_shape

    @property
    def mac_layers(self) -> tuple[Layer, ...]:
        """Convolutions and gemms, in order: what a quantization policy speaks of."""
        return tuple(layer for layer in self.layers if layer.kind == "mac")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole network."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weights(self) -> int:
        """Weights of the whole network, without biases and normalization."""
        return sum(layer.weights for layer in self.layers)

    def with_batch(self, batch: int) -> Network:
        """Return the network at another batch size."""
        return replace(
            self,
            inputs=tuple(replace(spec, shape=(batch, *spec.shape[1:])) for spec in self.inputs),
            layers=tuple(layer.with_batch(batch) for layer in self.layers),
        )

    def __hash__(self) -> int:
        return hash((self.name, self.inputs, self.layers, self.outputs))


def _find_problems(net: Network) -> list[str]:
    """List what is wrong with the graph: names, order, shapes."""
    problems: list[str] = []
    shapes = {spec.name: spec.shape for spec in net.inputs}
    if not net.inputs:
        problems.append("it has no input")
    for layer in net.layers:
        if layer.name in shapes:
            problems.append(f"the name {layer.name!r} is used twice")
        missing = [name for name in layer.inputs if name not in shapes]
        if missing:
            problems.append(f"layer {layer.name} reads {', '.join(missing)}, which no earlier layer produces")
        else:
            problems.extend(_check_shapes(layer, [shapes[name] for name in layer.inputs]))
        shapes[layer.name] = layer.out_shape
    problems.extend(f"output {name!r} is no layer" for name in net.outputs if name not in shapes)
    if not net.layers:
        problems.append("it has no layers")
    return problems


def _check_shapes(layer: Layer, inputs: list[tuple[int, int, int, int]]) -> list[str]:
    where = f"layer {layer.name} ({layer.op})"
    first = inputs[0]
    if layer.kind == "mac" or layer.op in ("maxpool", "avgpool"):
        if first != layer.in_shape:
            return [f"{where} expects an input of {layer.in_shape}, its producer gives {first}"]
        return []
    if layer.op in ELEMENTWISE:
        bad = [s for s in inputs if any(a not in (1, b) for a, b in zip(s, layer.out_shape, strict=True))]
        return [f"{where} gives {layer.out_shape}, which its input {s} does not fit" for s in bad]
    if layer.op == "concat":
        total = sum(s[1] for s in inputs)
        if total != layer.out_shape[1] or any((s[0], *s[2:]) != (first[0], *first[2:]) for s in inputs):
            return [f"{where} joins {inputs} into {layer.out_shape}"]
        return []
    if layer.op in ("flatten", "reshape", "transpose", "shuffle"):
        size = first[0] * first[1] * first[2] * first[3]
        if size != layer.out_elements:
            return [f"{where} turns {size} elements into {layer.out_elements}"]
    return []
