"""AIMET encodings, versions 0.4.0, 0.5.0, 0.6.1 and 1.0.0.

Source: Docs/api_docs/quantization_encoding_specification.rst, aimet_torch/experimental/v2/quantsim/export_utils.py and
aimet_onnx/qc_quantize_op.py of github.com/quic/aimet (commit c51b284b). Up to 0.6.1 a mapping of tensor to a list of encodings,
one a channel; in 1.0.0 a list of encodings whose scales and offsets are lists. A file without a version is 0.4. Beside these,
which name tensors of the ONNX export, aimet_torch writes ``*_torch.encodings`` (its quantsim.py,
``_update_encoding_dict_for_output_activations``): activations by module, ``{"conv1": {"input": {"0": {...}}, "output": ...}}``.
Which tensor a module gives cannot be told without that model, so those are refused.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwsim.core.errors import InputError
from hwsim.core.network import Network
from hwsim.policies.names import NameTable, describe_unknown
from hwsim.policies.schemes import (
    LayerScheme,
    PolicyFile,
    TensorScheme,
    assemble_policy,
    require_channels,
    require_layers,
)

OLD_VERSIONS = ("0.4.0", "0.5.0", "0.6.0", "0.6.1")
VERSIONS = (*OLD_VERSIONS, "1.0.0")
_SECTIONS = ("activation_encodings", "param_encodings")
_FLAT_KINDS = ("PER_TENSOR", "PER_CHANNEL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """A tensor's encoding: its scheme (None for floating point) and the number of its channels."""

    scheme: TensorScheme | None
    count: int


def read_aimet(raw: Mapping[str, Any], network: Network, names: NameTable, source: str) -> PolicyFile:
    """Read an encodings file.

    Raises
    ------
    InputError
        Malformed entries (all of them named), an encodings file of another model, counts of channels that do not match.
    """
    version = raw.get("version", "0.4.0")
    if version not in VERSIONS:
        raise InputError(source, [f"has the encodings version {version!r}, expected one of {', '.join(VERSIONS)}"])
    problems: list[str] = []
    activations, parameters = (_read_section(raw, section, version, problems) for section in _SECTIONS)
    if problems:
        raise InputError(source, problems)
    return match_encodings(network, names, activations, parameters, f"AIMET encodings {version}", source)


def match_encodings(
    network: Network,
    names: NameTable,
    activations: Mapping[str, Encoding],
    parameters: Mapping[str, Encoding],
    kind: str,
    source: str,
    notes: tuple[str, ...] = (),
    any_graph: bool = True,
) -> PolicyFile:
    """Give the layers of a network the encodings of its tensors; a name that belongs to none of them is an error.

    With ``any_graph`` activations may be named by an ONNX graph that is not at hand: where all of them are equally wide, every
    input is; else it is an error.
    """
    layers = require_layers(network)
    problems: list[str] = []
    schemes: dict[str, LayerScheme] = {}
    matched, inputs_found = 0, 0
    for layer in layers:
        weight_name = names.find_weight(layer.name, parameters)
        input_name = names.find_input(layer.name, activations)
        weight = None
        if weight_name is not None:
            matched += 1
            require_channels(f"the encoding of {weight_name!r}", parameters[weight_name].count, layer, problems)
            weight = parameters[weight_name].scheme
        inputs_found += input_name is not None
        schemes[layer.name] = LayerScheme(
            weight=weight, activation=None if input_name is None else activations[input_name].scheme
        )
    _require_same_model(network, names, activations, parameters, matched, inputs_found, source)
    unknown = names.list_unknown(parameters, activations, any_graph)
    if unknown:
        raise InputError(
            source, [f"names tensors that {network.name} has not: {describe_unknown(unknown, names.known)}"]
        )
    if problems:
        raise InputError(source, problems)
    if parameters and activations and (not inputs_found or names.follow_a_graph(activations)):
        scheme, note = _assume_inputs(activations, source)
        notes = (*notes, note)
        schemes = {name: LayerScheme(weight=held.weight, activation=scheme) for name, held in schemes.items()}
    return assemble_policy(network, schemes, kind, source, notes)


def _require_same_model(
    network: Network,
    names: NameTable,
    activations: Mapping[str, Encoding],
    parameters: Mapping[str, Encoding],
    matched: int,
    inputs_found: int,
    source: str,
) -> None:
    """Raise InputError where the file speaks of no tensor of the model."""
    if (parameters and not matched) or (not parameters and not inputs_found):
        table = parameters or activations
        wanted = [n for _, held in names.layers for n in (held.weight[:1] if parameters else held.inputs[:1])]
        first = next(iter(table), "nothing")
        raise InputError(
            source,
            [
                f"belongs to another model: none of its {len(table)} {'parameters' if parameters else 'tensors'} "
                f"({first!r} ...) is one of {network.name} ({wanted[0]!r} ...)"
            ],
        )


def _assume_inputs(activations: Mapping[str, Encoding], source: str) -> tuple[TensorScheme | None, str]:
    found = {held.scheme for held in activations.values()}
    widths = {None if scheme is None else scheme.bits for scheme in found}
    if len(widths) > 1:
        raise InputError(
            source,
            [
                f"names its activations as an ONNX graph does ({next(iter(activations))!r} ...) and gives them different widths: "
                "name that graph as the network (an .onnx file)"
            ],
        )
    scheme = next(iter(found))
    return scheme, "the file's activations are named as in an ONNX graph; all are equally wide, so every input is"


def _read_section(raw: Mapping[str, Any], section: str, version: str, problems: list[str]) -> dict[str, Encoding]:
    held = raw.get(section, {} if version in OLD_VERSIONS else [])
    found: dict[str, Encoding] = {}
    if version in OLD_VERSIONS:
        if not isinstance(held, dict):
            problems.append(f"{section} is no mapping of tensor names, as version {version} has it")
            return found
        modules = [name for name, entries in held.items() if _is_module(entries)]
        if modules:
            problems.append(
                f"has {section} by PyTorch module ({modules[0]!r} ...), as aimet_torch writes NAME_torch.encodings: "
                "name NAME.encodings of the same export, which has them by tensor"
            )
            return found
        for name, entries in held.items():
            _take(found, name, _read_old(entries), section, problems)
        return found
    if not isinstance(held, list):
        problems.append(f"{section} is no list of encodings, as version {version} has it")
        return found
    for index, entry in enumerate(held):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            problems.append(f"{section}[{index}] has no name")
        elif name in found:
            problems.append(f"{section} names {name!r} twice")
        else:
            _take(found, name, _read_new(entry), section, problems)
    return found


def _take(found: dict[str, Encoding], name: str, read: Encoding | str, section: str, problems: list[str]) -> None:
    if isinstance(read, str):
        problems.append(f"{section}.{name}: {read}")
    else:
        found[name] = read


def _is_module(entries: Any) -> bool:
    """Whether an entry is a module's, of aimet_torch's own layout."""
    sides = list(entries.items()) if isinstance(entries, dict) else []
    return bool(sides) and all(side in ("input", "output") and isinstance(held, dict) for side, held in sides)


def _read_old(entries: Any) -> Encoding | str:
    """Read the encodings of one tensor, one a channel; return what is wrong with them as a text."""
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        return "is no list of encodings"
    kinds = {str(entry.get("dtype", "int")) for entry in entries}
    widths = {entry.get("bitwidth") for entry in entries if not isinstance(entry.get("bitwidth"), list | dict)}
    if len(kinds) > 1 or len(widths) != 1:
        return "its channels differ in bitwidth or dtype"
    bits = widths.pop()
    if not _is_width(bits):
        return f"has the bitwidth {bits!r}, expected an integer from 1 to 64"
    if kinds == {"float"}:
        return Encoding(scheme=None, count=1)
    if kinds != {"int"}:
        return f"has the dtype {kinds.pop()!r}, expected 'int' or 'float'"
    if not all(_is_offset(entry.get("offset", 0)) for entry in entries):
        return "has an offset that is no finite number"
    scales = [entry.get("scale") for entry in entries]
    if any(scale is not None and not _is_scale(scale) for scale in scales):
        return "has a scale that is not finite and above zero"
    symmetric = entries[0].get("is_symmetric")
    return Encoding(
        scheme=TensorScheme(
            bits=bits,
            symmetric=None if symmetric is None else str(symmetric).lower() == "true",
            per_channel=len(entries) > 1,
            power_of_two=_are_powers(scales),
        ),
        count=len(entries),
    )


def _read_new(entry: Mapping[str, Any]) -> Encoding | str:
    kind, dtype, bits = entry.get("enc_type"), str(entry.get("dtype", "")).upper(), entry.get("bw")
    if not _is_width(bits):
        return f"has the width {bits!r}, expected an integer from 1 to 64"
    if dtype == "FLOAT":
        return Encoding(scheme=None, count=1)
    if dtype != "INT":
        return f"has the dtype {entry.get('dtype')!r}, expected 'INT' or 'FLOAT'"
    if kind not in _FLAT_KINDS:
        return f"has the encoding type {kind!r}; {' and '.join(_FLAT_KINDS)} are read"
    scales, offsets = entry.get("scale"), entry.get("offset")
    if not isinstance(scales, list) or not isinstance(offsets, list) or not scales or len(scales) != len(offsets):
        return "needs a list of scales and a list of as many offsets"
    if not all(_is_scale(scale) for scale in scales):
        return "has a scale that is not finite and above zero"
    if not all(map(_is_offset, offsets)):
        return "has an offset that is no finite number"
    if kind == "PER_TENSOR" and len(scales) > 1:
        return f"is PER_TENSOR and has {len(scales)} scales"
    symmetric = entry.get("is_sym")
    if not isinstance(symmetric, bool):
        return f"has is_sym {symmetric!r}, expected true or false"
    return Encoding(
        scheme=TensorScheme(
            bits=int(bits or 0),
            symmetric=symmetric,
            per_channel=kind == "PER_CHANNEL",
            power_of_two=_are_powers(scales),
        ),
        count=len(scales),
    )


def _is_width(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 64


def _is_scale(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


def _is_offset(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _are_powers(scales: list[Any]) -> bool | None:
    if any(scale is None for scale in scales):
        return None
    return all(math.frexp(scale)[0] == 0.5 for scale in scales)
