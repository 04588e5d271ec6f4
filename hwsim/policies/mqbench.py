"""MQBench's files of clip ranges, one form for each back end.

Source: mqbench/deploy/deploy_linear.py, deploy_nnie.py of github.com/ModelTC/MQBench (commit 00f477d):
``{"tensorrt": {"blob_range": {tensor: range}}}``, ``{"vitis": {tensor: {"scale"}}}``,
``{"ppl": {tensor: {"step", "zero_point", "min", "max", "bit", "type"}}}``,
``{"nnie": {"gfpq_param_dict": {node: [range]}}}``, ``{"activation_encodings": {tensor: [{"bitwidth", "min", "max"}]},
"param_encodings": {}}`` (SNPE), and lines ``tensor: range`` (PPL CUDA). Weights are clipped in the model itself: where a
form does not name them, they have the bits of the back end. Vitis and PPL name weights and activations side by side, each by
its tensor of the graph: a name that an activation has is that activation's, except where PPL gives it a step per channel,
which is written for weights alone.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from typing import Any

from hwsim.core.errors import InputError
from hwsim.core.network import Network
from hwsim.policies.aimet import Encoding, match_encodings
from hwsim.policies.names import NameTable, describe_unknown
from hwsim.policies.schemes import (
    LayerScheme,
    PolicyFile,
    TensorScheme,
    assemble_policy,
    require_layers,
)
from hwsim.policies.targets import TARGETS, Accepted

BACKENDS = ("tensorrt", "vitis", "ppl", "nnie", "ppl-cuda")
"""Keys under which the JSON forms hold their ranges."""
RANGE_LINE = re.compile(r"^(?P<name>\S.*): (?P<range>[-+0-9.einfa]+)$")
"""A line of the PPL CUDA form."""
_PERMUTED = re.compile(r"_permute_\d+$")
"""What NNIE's form has behind the name of an upsampling a second time (deploy_nnie.py)."""


def is_snpe(raw: Mapping[str, Any]) -> bool:
    """Whether encodings are MQBench's for SNPE: no version, no parameters, entries without a scale."""
    held = raw.get("activation_encodings")
    if "version" in raw or raw.get("param_encodings") or not isinstance(held, dict) or not held:
        return False
    return all(
        isinstance(value, list) and value and isinstance(value[0], dict) and "scale" not in value[0]
        for value in held.values()
    )


def read_mqbench(raw: Mapping[str, Any], network: Network, names: NameTable, source: str) -> PolicyFile:
    """Read a JSON form.

    Raises
    ------
    InputError
        Malformed entries, ranges of another model, counts of channels that do not match.
    """
    if is_snpe(raw):
        problems: list[str] = []
        found = {name: _read_snpe(name, entries, problems) for name, entries in raw["activation_encodings"].items()}
        _raise(source, problems)
        return _match("snpe", found, {}, network, names, source)
    backend = next(key for key in BACKENDS if key in raw)
    held = raw[backend]
    inner = {"tensorrt": "blob_range", "nnie": "gfpq_param_dict"}.get(backend)
    if inner is not None:
        held = held.get(inner) if isinstance(held, dict) else None
    if not isinstance(held, dict) or not held:
        raise InputError(source, [f"holds no ranges under {backend}{'.' + inner if inner else ''}"])
    if backend == "nnie":
        return _read_nnie(held, network, names, source)
    problems = []
    read = {name: _read_entry(backend, name, value, problems) for name, value in held.items()}
    _raise(source, problems)
    return _match(backend, read, read if backend in ("ppl", "vitis") else {}, network, names, source)


def read_ppl_cuda(text: str, network: Network, names: NameTable, source: str) -> PolicyFile:
    """Read lines ``tensor: range``."""
    problems: list[str] = []
    found: dict[str, Encoding] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = RANGE_LINE.match(line.rstrip())
        if match:
            if match["name"] in found:
                problems.append(f"line {number} names {match['name']!r} again")
            found[match["name"]] = _read_entry("ppl-cuda", match["name"], _to_float(match["range"]), problems)
        elif line.strip():
            problems.append(f"line {number} is no 'tensor: range'")
    _raise(source, problems)
    return _match("ppl-cuda", found, {}, network, names, source)


def _match(
    backend: str,
    activations: Mapping[str, Encoding],
    weights: Mapping[str, Encoding],
    network: Network,
    names: NameTable,
    source: str,
) -> PolicyFile:
    """Match tensors; a layer whose input has a range has the back end's weights."""
    target = TARGETS[backend]
    layers = require_layers(network)
    by_channel = {name for name, held in weights.items() if held.scheme is not None and held.scheme.per_channel}
    names = names.read_one_section(by_channel & {layer.name for layer in layers})
    parameters = {
        name: weights[name] for layer in layers if (name := names.find_weight(layer.name, weights)) is not None
    }
    note = f"weights of {target.title} have {target.weight.bits[0]} bits, by {target.source}"
    own = bool(parameters)
    if not own:
        inputs = {layer.name: names.find_input(layer.name, activations) for layer in layers}
        ranged = [layer for layer in layers if inputs[layer.name] is not None]
        default = Encoding(scheme=_scheme(target.weight), count=1)
        parameters = {dict(names.layers)[layer.name].weight[0]: default for layer in ranged}
        if not ranged:  # match_encodings says that it is another model's
            parameters = {}
    others = {name: held for name, held in activations.items() if name not in parameters}
    odd = sorted(by_channel & names.activations)
    _raise(source, [f"{name}: a step per channel for an activation, which has one" for name in odd])
    notes = () if own else (note,)
    kind = f"MQBench ranges for {target.title}"
    return match_encodings(network, names, others, parameters, kind, source, notes, any_graph=own)


def _read_nnie(held: Mapping[str, Any], network: Network, names: NameTable, source: str) -> PolicyFile:
    """Read ranges by node, one an input; NNIE's form leaves grouped convolutions out (deploy_nnie.py)."""
    target = TARGETS["nnie"]
    known = {layer.name for layer in require_layers(network)}
    if not known & set(held):
        first = next(iter(held))
        raise InputError(
            source, [f"belongs to another model: none of its {len(held)} nodes ({first!r} ...) is a layer"]
        )
    unknown = [name for name in held if _PERMUTED.sub("", name) not in names.nodes]
    if unknown:
        raise InputError(source, [f"names nodes that {network.name} has not: {describe_unknown(unknown, names.nodes)}"])
    _raise(
        source,
        [
            f"{name}: got {str(value)[:80]!r}, expected a list of finite ranges"
            for name, value in held.items()
            if not isinstance(value, list) or not value or not all(map(_is_range, value))
        ],
    )
    scheme = LayerScheme(weight=_scheme(target.weight), activation=_scheme(target.activation))
    schemes = {name: scheme for name in held if name in known}
    notes = (f"8 bits a tensor, by {target.source}",)
    return assemble_policy(network, schemes, f"MQBench ranges for {target.title}", source, notes)


def _scheme(accepted: Accepted) -> TensorScheme:
    return TensorScheme(
        bits=accepted.bits[0],
        symmetric=accepted.symmetric_only,
        per_channel=accepted.per_channel,
        power_of_two=accepted.power_of_two_only,
    )


def _read_entry(backend: str, name: str, value: Any, problems: list[str]) -> Encoding:
    accepted = TARGETS[backend].activation
    if backend == "ppl":
        return _read_ppl(name, value, problems)
    number = value.get("scale") if backend == "vitis" and isinstance(value, dict) else value
    if not _is_range(number):
        problems.append(f"{name}: got {value!r}, expected a finite {'scale' if backend == 'vitis' else 'range'}")
    elif backend == "vitis" and not _is_power(number):
        problems.append(f"{name}: the scale {number!r} is no power of two, as Vitis needs it")
    return Encoding(scheme=_scheme(accepted), count=1)


def _read_ppl(name: str, value: Any, problems: list[str]) -> Encoding:
    bits = value.get("bit") if isinstance(value, dict) else None
    step = value.get("step") if isinstance(value, dict) else None
    steps = step if isinstance(step, list) else [step]
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 64:
        problems.append(f"{name}: got {bits!r} bits, expected an integer from 1 to 64")
        bits = 8
    if not steps or not all(_is_range(number) for number in steps):
        problems.append(f"{name}: got the step {step!r}, expected finite numbers above zero")
        steps = [1.0]
    powers = all(_is_power(number) for number in steps)
    scheme = TensorScheme(bits=bits, symmetric=False, per_channel=isinstance(step, list), power_of_two=powers)
    return Encoding(scheme=scheme, count=len(steps))


def _read_snpe(name: str, entries: Any, problems: list[str]) -> Encoding:
    bits = entries[0].get("bitwidth") if isinstance(entries[0], dict) else None
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 64 or len(entries) != 1:
        problems.append(f"{name}: got {entries!r}, expected one entry with a bitwidth from 1 to 64")
        bits = 8
    elif "min" in entries[0] or "max" in entries[0]:
        low, high = entries[0].get("min"), entries[0].get("max")
        if not _is_finite(low) or not _is_finite(high) or low > high:
            problems.append(f"{name}: got the range {str((low, high))[:80]}, expected finite numbers, the lower first")
    return Encoding(scheme=TensorScheme(bits=bits, symmetric=False, per_channel=False), count=1)


def _is_range(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_power(value: Any) -> bool:
    return bool(math.frexp(value)[0] == 0.5)


def _to_float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _raise(source: str, problems: list[str]) -> None:
    if problems:
        raise InputError(source, problems)
