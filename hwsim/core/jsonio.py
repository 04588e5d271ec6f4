"""JSON round trip of the frozen types, strict: an unknown or ill-typed field is an error with its path."""

from __future__ import annotations

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
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise InputError(source, [str(error)]) from None
