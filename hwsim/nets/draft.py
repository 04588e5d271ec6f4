"""Layers while an importer still works on them: mutable, with their arrays beside them.

An importer appends ``Draft``s to a ``Sketch``, ``draft_passes`` folds and fuses them, ``finish_sketch`` makes the
frozen ``Network`` and its ``Tensors``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hwsim.core.layer import MAC_OPS, Attr, Layer
from hwsim.core.network import Network, TensorSpec
from hwsim.core.tensors import ActQuant, LayerTensors, Origin, Tensors
from hwsim.nets.imported import Imported, find_activation

Shape4 = tuple[int, int, int, int]
BIAS_SCALE_TOLERANCE = 1e-4
"""Relative difference up to which a stored bias scale counts as w_scale * input scale (both are float32 products)."""
_NAME_LENGTH = 200
_SHOWN = 8


def fold_shape(shape: tuple[int, ...]) -> Shape4:
    """Return a shape of any rank as ``[N, C, H, W]``.

    A vector ``[N, C]`` gets H = W = 1, ``[N, C, L]`` becomes ``[N, C, 1, L]``, rank 1 gets N = 1, and the dimensions
    behind the third of rank 5 and more are multiplied into W.
    """
    n, rest = (shape[0], shape[1:]) if len(shape) > 1 else (1, shape)
    if len(rest) == 0:
        return (n, 1, 1, 1)
    if len(rest) == 1:
        return (n, rest[0], 1, 1)
    if len(rest) == 2:
        return (n, rest[0], 1, rest[1])
    width = 1
    for size in rest[2:]:
        width *= size
    return (n, rest[0], rest[1], width)


@dataclass(slots=True, kw_only=True)
class StoredWeight:
    """Integers of a quantized constant: real = scale * (stored - zero); scale and zero are 1-D along ``axis``."""

    stored: Any
    scale: Any
    zero: Any
    axis: int
    bits: int


@dataclass(slots=True, kw_only=True)
class Draft:
    """A layer in the making; ``out`` is its output shape, ``shape`` the true one of the source format.

    ``weight`` is ``[G*K, C, R, S]`` (for a scale ``[channels]``), ``bias`` ``[G*K]``, both float64 or None; an integer
    weight is in ``stored`` instead. ``filled`` marks a weight that the file gives as one repeated number.
    """

    name: str
    op: str
    inputs: list[str]
    out: Shape4
    shape: tuple[int, ...]
    dims: dict[str, Any] = field(default_factory=dict)
    activation: str = "none"
    attrs: dict[str, Attr] = field(default_factory=dict)
    weight: Any = None
    bias: Any = None
    stored: StoredWeight | None = None
    stored_bias: tuple[Any, Any] | None = None
    filled: bool = False
    quant: ActQuant | None = None
    perm: tuple[int, ...] = ()
    parameter: str = ""
    origin: str = ""

    @property
    def is_mac(self) -> bool:
        """Whether it multiplies by weights."""
        return self.op in MAC_OPS


@dataclass(slots=True, kw_only=True)
class Sketch:
    """Everything an importer has gathered: inputs, drafts in order, quantization of inputs, notes."""

    source: str
    inputs: dict[str, Shape4] = field(default_factory=dict)
    input_quants: dict[str, ActQuant] = field(default_factory=dict)
    drafts: dict[str, Draft] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def note(self, what: str, node: str) -> None:
        """Add a node to the note that says ``what`` was done."""
        self.notes.setdefault(what, []).append(node)

    def free_name(self, wanted: str) -> str:
        """Return a printable name that no input and no draft has."""
        base = "".join(c if c.isprintable() else "?" for c in wanted)[:_NAME_LENGTH] or "layer"
        name, number = base, 1
        while name in self.drafts or name in self.inputs:
            name, number = f"{base}.{number}", number + 1
        return name

    def add(self, draft: Draft) -> Draft:
        """Append a draft under a free name and return it."""
        draft.name = self.free_name(draft.name)
        self.drafts[draft.name] = draft
        return draft

    def shape4(self, tensor: str) -> Shape4:
        """Return the folded shape of an input or draft."""
        return self.inputs[tensor] if tensor in self.inputs else self.drafts[tensor].out

    def quant_of(self, tensor: str) -> ActQuant | None:
        """Return the quantization recorded for an input or draft."""
        return self.drafts[tensor].quant if tensor in self.drafts else self.input_quants.get(tensor)

    def set_quant(self, tensor: str, quant: ActQuant) -> None:
        """Record the quantization of an input or draft."""
        if tensor in self.drafts:
            self.drafts[tensor].quant = quant
        else:
            self.input_quants[tensor] = quant

    def users(self) -> dict[str, list[Draft]]:
        """Return the drafts that read each tensor, one entry per reading."""
        found: dict[str, list[Draft]] = {name: [] for name in (*self.inputs, *self.drafts)}
        for draft in self.drafts.values():
            for name in draft.inputs:
                found[name].append(draft)
        return found

    def replace_tensor(self, old: str, new: str) -> None:
        """Let every reader of ``old`` (and the outputs) read ``new``."""
        for draft in self.drafts.values():
            draft.inputs = [new if name == old else name for name in draft.inputs]
        self.outputs = [new if name == old else name for name in self.outputs]


def finish_sketch(sketch: Sketch, name: str, described: str, origin: Origin) -> Imported:
    """Freeze a sketch.

    Raises
    ------
    InputError, SpecError
        The graph breaks a rule of ``Network`` or ``Layer``.
    """
    layers = tuple(_freeze_layer(draft, sketch) for draft in sketch.drafts.values())
    tensors = _freeze_tensors(sketch, layers, origin)
    notes = tuple(_write_note(what, nodes) for what, nodes in sketch.notes.items())
    network = Network(
        name=name,
        inputs=tuple(TensorSpec(name=key, shape=shape) for key, shape in sketch.inputs.items()),
        layers=layers,
        outputs=tuple(sketch.outputs),
        source=described,
        notes=notes,
    )
    if tensors is not None:
        _freeze_biases(sketch, network, tensors)
        notes = tuple(_write_note(what, nodes) for what, nodes in sketch.notes.items())
        network = Network(
            name=name, inputs=network.inputs, layers=layers, outputs=network.outputs, source=described, notes=notes
        )
    parameters = {draft.name: draft.parameter for draft in sketch.drafts.values() if draft.is_mac and draft.parameter}
    return Imported(network=network, tensors=tensors, notes=notes, parameters=parameters)


def _write_note(what: str, nodes: list[str]) -> str:
    shown = nodes if "unpriced" in what else nodes[:_SHOWN]
    more = f" and {len(nodes) - len(shown)} more" if len(nodes) > len(shown) else ""
    return f"{what}: {', '.join(shown)}{more}"


def _freeze_layer(draft: Draft, sketch: Sketch) -> Layer:
    n, channels, height, width = draft.out
    dims: dict[str, Any] = {"N": n, "P": height, "Q": width}
    if not draft.is_mac:
        first = sketch.shape4(draft.inputs[0])
        dims |= {"G": channels, "H": first[2], "W": first[3]}
    return Layer(
        name=draft.name,
        op=draft.op,
        inputs=tuple(draft.inputs),
        activation=draft.activation,
        attrs=tuple(sorted(draft.attrs.items())),
        **(dims | draft.dims),
    )


def _freeze_tensors(sketch: Sketch, layers: tuple[Layer, ...], origin: Origin) -> Tensors | None:
    """Collect weights; None when a MAC layer's weights are one repeated number: those are no network's."""
    macs = [draft for draft in sketch.drafts.values() if draft.is_mac]
    filled = [draft.name for draft in macs if draft.filled]
    if filled:
        sketch.note(
            "weights are one repeated number, so the file counts as a topology without weights", f"{len(filled)} layers"
        )
        return None
    held: dict[str, LayerTensors] = {}
    for draft in sketch.drafts.values():
        if draft.stored is not None:
            weight = draft.stored
            held[draft.name] = LayerTensors(
                weight=weight.stored,
                w_scale=weight.scale.astype(np.float32),
                w_zero=None if not weight.zero.any() else weight.zero.astype(np.int32),
                w_bits=weight.bits,
            )
        elif draft.weight is not None:
            bias = None if draft.bias is None else draft.bias.astype(np.float32)
            held[draft.name] = LayerTensors(weight=draft.weight.astype(np.float32), bias=bias)
    activations = dict(sketch.input_quants)
    activations.update({draft.name: draft.quant for draft in sketch.drafts.values() if draft.quant is not None})
    return Tensors(layers=held, activations=activations, origin=origin)


def _freeze_biases(sketch: Sketch, network: Network, tensors: Tensors) -> None:
    """Give integer weights their int32 bias at scale w_scale * input scale."""
    for draft in sketch.drafts.values():
        if draft.stored is None or (draft.bias is None and draft.stored_bias is None):
            continue
        held = tensors.layers[draft.name]
        act = find_activation(network, tensors.activations, draft.inputs[0])
        real = draft.bias if draft.stored_bias is None else draft.stored_bias[0] * draft.stored_bias[1]
        if act is None:
            held.bias = np.asarray(real, dtype=np.float32)
            sketch.note("bias kept in float32, because the layer's input is not quantized", draft.name)
            continue
        scale = np.asarray(draft.stored.scale, dtype=np.float64) * act.scale
        if draft.stored_bias is not None and np.allclose(
            draft.stored_bias[1], scale, rtol=BIAS_SCALE_TOLERANCE, atol=0
        ):
            held.bias = draft.stored_bias[0].astype(np.int32)
            continue
        rounded = np.rint(np.asarray(real, dtype=np.float64) / scale)
        if np.abs(rounded).max(initial=0) > np.iinfo(np.int32).max:
            sketch.note("bias saturated at 32 bits", draft.name)
        held.bias = np.clip(rounded, np.iinfo(np.int32).min, np.iinfo(np.int32).max).astype(np.int32)
        sketch.note("bias rounded to int32 at w_scale * input scale", draft.name)
