"""JSON round trip of the frozen types, strict: an unknown or ill-typed field is an error with its path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from hwsim.core.errors import InputError

T = TypeVar("T")


def to_json(value: Any, indent: int = 0) -> str:
    """Return ``value`` (a frozen dataclass of this package) as JSON; ``indent`` > 0 spreads it over lines."""
    import msgspec

    data = msgspec.json.encode(value)
    return (msgspec.json.format(data, indent=indent) if indent else data).decode()


def from_json(text: str | bytes, kind: type[T], source: str = "JSON") -> T:
    """Read ``text`` as a value of type ``kind``.

    Raises
    ------
    InputError
        Malformed JSON, a missing field, or a field of the wrong type, with its path.
    """
    import msgspec

    try:
        raw = msgspec.json.decode(text)
        value = msgspec.convert(raw, kind, str_keys=True)
    except msgspec.DecodeError as error:
        raise InputError(source, [str(error)]) from None
    unknown = list(_find_unknown(raw, msgspec.to_builtins(value), "$"))
    if unknown:
        raise InputError(source, [f"unknown field `{path}`" for path in unknown])
    return value


def _find_unknown(raw: Any, known: Any, path: str) -> Iterator[str]:
    """Yield the path of every field that the value did not take over."""
    if isinstance(raw, dict) and isinstance(known, dict):
        for key, inner in raw.items():
            if key not in known:
                yield f"{path}.{key}"
            else:
                yield from _find_unknown(inner, known[key], f"{path}.{key}")
    elif isinstance(raw, list) and isinstance(known, list | tuple):
        for index, (inner, taken) in enumerate(zip(raw, known, strict=False)):
            yield from _find_unknown(inner, taken, f"{path}[{index}]")
