"""The native policy files: JSON (``hwsim.policy/1``) and CSV.

JSON: ``{"format": "hwsim.policy/1", "network": ..., "default": FORMAT, "layers": {name: FORMAT}}``, FORMAT an object with
the fields of `hwsim.core.policy.LayerFormat` (``w_bits``, ``a_bits``, ``operator``, ``codec``) and, where they are known,
``weight`` and ``activation`` with the fields of `hwsim.policies.schemes.TensorScheme`, null for a tensor that is not quantized;
where the bits stand in both places they agree. CSV: a line a layer, a column a field of
LayerFormat; the line ``*`` is the default. Fields that are left out keep their defaults; unknown ones are errors.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping
from typing import Any

from hwsim.core.errors import HwsimError, InputError
from hwsim.core.network import Network
from hwsim.core.policy import LayerFormat, Policy
from hwsim.policies.schemes import LayerScheme, PolicyFile, TensorScheme, read_scheme_bits

FORMAT = "hwsim.policy/1"
DEFAULT_ROW = "*"
"""Name of the line of a CSV that holds the default."""
_FIELDS = tuple(field.name for field in dataclasses.fields(LayerFormat))
_BITS = {"weight": "w_bits", "activation": "a_bits"}
"""Field of LayerFormat that has the bits of a tensor."""
_TENSORS = tuple(_BITS)
_TOP = ("format", "network", "default", "layers", "source")


def read_native_json(raw: Mapping[str, Any], network: Network, source: str) -> PolicyFile:
    """Read the JSON form.

    Raises
    ------
    InputError
        Every unknown or ill-typed field, with its path.
    UnknownName
        A layer that the network has not, with the nearest names.
    """
    problems = [f"unknown field `$.{key}`" for key in raw if key not in _TOP]
    if raw.get("format") != FORMAT:
        problems.append(f"has the format {raw.get('format')!r}, expected {FORMAT!r}")
    layers = raw.get("layers", {})
    if not isinstance(layers, dict):
        problems.append("$.layers is no object")
        layers = {}
    default, scheme = _read_format("$.default", raw.get("default", {}), LayerFormat(), problems)
    schemes: dict[str, LayerScheme] = {}
    formats: dict[str, LayerFormat] = {}
    for name, entry in layers.items():
        formats[name], held = _read_format(f"$.layers.{name}", entry, default, problems)
        if held is not None:
            schemes[name] = held
    if problems:
        raise InputError(source, problems)
    policy = Policy(default=default, layers=tuple(formats.items()))
    policy.check(network)
    if scheme is not None:
        schemes = {layer.name: scheme for layer in network.mac_layers if layer.name not in formats} | schemes
    written = raw.get("network")
    notes: tuple[str, ...] = ()
    if isinstance(written, str) and written and written != network.name:
        notes = (f"was written for {written}, its layers are read as those of {network.name}",)
    return PolicyFile(policy=policy, kind=FORMAT, source=source, schemes=tuple(schemes.items()), notes=notes)


def format_native_json(found: PolicyFile, network: Network) -> str:
    """Return the JSON form, every MAC layer named."""
    layers: dict[str, dict[str, Any]] = {}
    schemes = dict(found.schemes)
    for layer in network.mac_layers:
        layers[layer.name] = dataclasses.asdict(found.policy.of(layer.name))
        held = schemes.get(layer.name)
        for what in _TENSORS:
            tensor = getattr(held, what) if held is not None else None
            if tensor is not None:
                layers[layer.name][what] = {k: v for k, v in dataclasses.asdict(tensor).items() if v is not None}
            elif held is not None:
                layers[layer.name][what] = None
    data = {
        "format": FORMAT,
        "network": network.name,
        "source": f"{found.kind}: {found.source}",
        "default": dataclasses.asdict(found.policy.default),
        "layers": layers,
    }
    return json.dumps(data, indent=2) + "\n"


def read_native_csv(text: str, network: Network, source: str) -> PolicyFile:
    """Read the CSV form; a value that is no plain word or number is JSON.

    Raises
    ------
    InputError
        Unknown or repeated columns, nothing but names, lines of another length, values of another type, a layer named twice.
    UnknownName
        A layer that the network has not, with the nearest names.
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(text)) if row and any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(source, [f"is no CSV: {error}"]) from None
    header = [cell.strip() for cell in rows[0]] if rows else []
    if not header or header[0] != "layer" or any(name not in _FIELDS for name in header[1:]):
        raise InputError(
            source,
            [f"has the columns {', '.join(map(repr, header[:8]))}, expected layer and any of {', '.join(_FIELDS)}"],
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    problems = [f"has the column {name} twice" for name in twice]
    if len(header) == 1:
        problems.append(f"has the column layer alone, expected any of {', '.join(_FIELDS)} beside it")
    elif len(rows) == 1:
        problems.append("has no line below its columns")
    entries: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            problems.append(f"line {number} has {len(row)} columns, expected {len(header)}")
            continue
        name = row[0].strip()
        if name in entries:
            problems.append(f"line {number} names {name!r} again")
        entries[name] = {key: _read_cell(cell) for key, cell in zip(header[1:], row[1:], strict=True) if cell.strip()}
    default, _ = _read_format(f"line {DEFAULT_ROW}", entries.pop(DEFAULT_ROW, {}), LayerFormat(), problems)
    formats = {name: _read_format(f"layer {name!r}", entry, default, problems)[0] for name, entry in entries.items()}
    if problems:
        raise InputError(source, problems)
    policy = Policy(default=default, layers=tuple(formats.items()))
    policy.check(network)
    return PolicyFile(policy=policy, kind="policy CSV", source=source)


def format_native_csv(found: PolicyFile, network: Network) -> str:
    """Return the CSV form: the default, then every MAC layer. Schemes beyond LayerFormat are left out."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["layer", *_FIELDS])
    rows = [(DEFAULT_ROW, found.policy.default)]
    rows += [(layer.name, found.policy.of(layer.name)) for layer in network.mac_layers]
    for name, fmt in rows:
        writer.writerow([name, *(_write_cell(getattr(fmt, field)) for field in _FIELDS)])
    return out.getvalue()


def _read_format(
    where: str, entry: Any, base: LayerFormat, problems: list[str]
) -> tuple[LayerFormat, LayerScheme | None]:
    if not isinstance(entry, dict):
        problems.append(f"{where} is no object")
        return base, None
    problems.extend(f"unknown field `{where}.{key}`" for key in entry if key not in (*_FIELDS, *_TENSORS))
    values = {key: _freeze(value) for key, value in entry.items() if key in _FIELDS}
    tensors = {what: _read_tensor(f"{where}.{what}", entry[what], problems) for what in _TENSORS if what in entry}
    fmt = base
    for what, field in _BITS.items():
        if what not in entry or (tensors[what] is None and entry[what] is not None):
            continue
        tensor = tensors[what]
        bits = read_scheme_bits(tensor)
        if values.setdefault(field, bits) != bits:
            said = "null (not quantized)" if tensor is None else f"{tensor.bits} bits"
            problems.append(f"{where}: {field} is {values[field]!r} and {what} is {said}, which contradict each other")
    try:
        fmt = dataclasses.replace(base, **values)
    except HwsimError as error:
        problems.append(f"{where}: {error}")
    except TypeError as error:
        problems.append(f"{where}: {error}")
    if not tensors:
        return fmt, None
    open_ones = {what: TensorScheme(bits=getattr(fmt, field)) for what, field in _BITS.items() if what not in tensors}
    return fmt, LayerScheme(**tensors, **open_ones)


def _read_tensor(where: str, entry: Any, problems: list[str]) -> TensorScheme | None:
    if entry is None:
        return None
    names = tuple(field.name for field in dataclasses.fields(TensorScheme))
    if not isinstance(entry, dict) or "bits" not in entry:
        problems.append(f"{where} is no object with bits")
        return None
    problems.extend(f"unknown field `{where}.{key}`" for key in entry if key not in names)
    wrong = [key for key in names[1:] if not isinstance(entry.get(key), bool | None)]
    problems.extend(f"{where}.{key} is {entry[key]!r}, expected true or false" for key in wrong)
    try:
        return TensorScheme(**{key: entry[key] for key in names if key in entry})
    except HwsimError as error:
        problems.append(f"{where}: {error}")
        return None


def _freeze(value: Any) -> Any:
    return tuple(_freeze(item) for item in value) if isinstance(value, list) else value


def _read_cell(cell: str) -> Any:
    text = cell.strip()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _write_cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
