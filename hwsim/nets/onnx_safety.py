"""Checks that a model file must pass before any of its numbers is allocated or trusted.

Nothing here reads more than the file's own size, and no tensor is built before its declared shape agrees with the
bytes that are there.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any

from hwsim.core.errors import InputError

LARGEST_FILE_BYTES = 1 << 31
"""2 GiB: protobuf's own limit for a message; the same bound is set to external data."""
LARGEST_DIM = 1 << 24
LARGEST_ELEMENTS = 1 << 40
"""Bound of an activation's or a filled constant's element count: nothing of that size is ever allocated."""
LARGEST_FOLDED = 1 << 28
"""Bound of the elements of a constant that is computed rather than read."""
MOST_PROBLEMS = 12

# ONNX TensorProto.DataType -> (bits per element, the typed field that may hold it, elements per entry of that field)
_TYPES: dict[int, tuple[int, str, int]] = {
    1: (32, "float_data", 1),
    2: (8, "int32_data", 1),
    3: (8, "int32_data", 1),
    4: (16, "int32_data", 1),
    5: (16, "int32_data", 1),
    6: (32, "int32_data", 1),
    7: (64, "int64_data", 1),
    9: (8, "int32_data", 1),
    10: (16, "int32_data", 1),
    11: (64, "double_data", 1),
    12: (32, "uint64_data", 1),
    13: (64, "uint64_data", 1),
    16: (16, "int32_data", 1),
    21: (4, "int32_data", 2),
    22: (4, "int32_data", 2),
    25: (2, "int32_data", 4),
    26: (2, "int32_data", 4),
}
_EXTERNAL = 1


def quote(name: object) -> str:
    """Return a name from a file as it may stand in a one-line message."""
    text = repr(str(name))
    return text if len(text) <= 80 else text[:76] + "...'"


def make_printable(text: str) -> str:
    """Return text without line breaks and other control characters, at most 80 characters long."""
    return "".join(c if c.isprintable() else "?" for c in text[:80])


def raise_problems(source: str, problems: list[str]) -> None:
    """Raise InputError with the problems, if there are any; very long lists are cut, with their number."""
    if problems:
        unique = list(dict.fromkeys(problems))
        shown = unique[:MOST_PROBLEMS]
        if len(unique) > len(shown):
            shown.append(f"and {len(unique) - len(shown)} more problems")
        raise InputError(source, shown)


def read_model_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a model file after looking at its kind and size.

    Raises
    ------
    InputError
        It is absent, unreadable, no regular file, empty or larger than ``LARGEST_FILE_BYTES``.
    """
    file = Path(path)
    try:
        info = file.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(str(path), [f"cannot be read: {reason}"]) from None
    if not stat.S_ISREG(info.st_mode):
        raise InputError(str(path), ["is not a regular file"])
    if info.st_size > LARGEST_FILE_BYTES:
        raise InputError(str(path), [f"holds {info.st_size:,} bytes; the limit is 2 GiB ({LARGEST_FILE_BYTES:,})"])
    if info.st_size == 0:
        raise InputError(str(path), ["is empty"])
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(str(path), [f"cannot be read: {error.strerror}"]) from None


def count_elements(dims: tuple[int, ...]) -> int:
    """Return the product of dimensions (1 for a scalar)."""
    return math.prod(dims)


def decode_tensor(tensor: Any, folder: Path, where: str, problems: list[str]) -> Any:
    """Turn a TensorProto into an array, or add to ``problems`` and return None.

    Types narrower than a byte become int8 or uint8, 16-bit floats become float32. Strings, complex numbers and 8-bit
    floats are problems.
    """
    dims = tuple(int(n) for n in tensor.dims)
    if any(n < 0 for n in dims):
        problems.append(f"{where} has a negative dimension in its shape {list(dims)[:8]}")
        return None
    count = count_elements(dims)
    if tensor.data_type not in _TYPES:
        problems.append(f"{where} has the element type {tensor.data_type}, which is not supported")
        return None
    bits, field, per_entry = _TYPES[tensor.data_type]
    need = -(-count * bits // 8)
    if need > LARGEST_FILE_BYTES:
        problems.append(f"{where} declares the shape {list(dims)[:8]}, more than 2 GiB")
        return None
    if tensor.data_location == _EXTERNAL:
        raw = _read_external(tensor, folder, need, where, problems)
        return None if raw is None else _from_raw(tensor.data_type, raw, dims)
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != need:
            problems.append(
                f"{where} of shape {list(dims)[:8]} needs {need:,} bytes, {len(tensor.raw_data):,} are there"
            )
            return None
        return _from_raw(tensor.data_type, tensor.raw_data, dims)
    have = len(getattr(tensor, field))
    if have != -(-count // per_entry):
        problems.append(f"{where} of shape {list(dims)[:8]} needs {count:,} values, {have:,} are there")
        return None
    return _from_typed(tensor, field, dims)


def _from_raw(data_type: int, raw: bytes, dims: tuple[int, ...]) -> Any:
    import numpy as np

    kinds = {
        1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 12: "<u4", 13: "<u8",
    }  # fmt: skip
    if data_type in kinds:
        array = np.frombuffer(raw, dtype=kinds[data_type]).reshape(dims)
        return array.astype(np.float32) if data_type == 10 else array
    if data_type == 16:
        return _widen_bfloat16(np.frombuffer(raw, dtype="<u2")).reshape(dims)
    return _unpack(data_type, np.frombuffer(raw, dtype="u1"), dims)


def _from_typed(tensor: Any, field: str, dims: tuple[int, ...]) -> Any:
    import numpy as np

    values = getattr(tensor, field)
    kinds = {1: "f4", 2: "u1", 3: "i1", 4: "u2", 5: "i2", 6: "i4", 7: "i8", 9: "?", 11: "f8", 12: "u4", 13: "u8"}
    if tensor.data_type in kinds:
        wide = np.array(values, dtype={"float_data": "f4", "double_data": "f8", "uint64_data": "u8"}.get(field, "i8"))
        return wide.astype(kinds[tensor.data_type]).reshape(dims)
    wide = np.array(values, dtype="i8")
    if tensor.data_type == 10:
        return wide.astype("u2").view("f2").astype(np.float32).reshape(dims)
    if tensor.data_type == 16:
        return _widen_bfloat16(wide.astype("u2")).reshape(dims)
    return _unpack(tensor.data_type, wide.astype("u1"), dims)


def _widen_bfloat16(halves: Any) -> Any:
    import numpy as np

    return (halves.astype(np.uint32) << 16).view(np.float32)


def _unpack(data_type: int, packed: Any, dims: tuple[int, ...]) -> Any:
    """Unpack 4-bit (types 21, 22) or 2-bit (25, 26) integers, the first in the lowest bits (ONNX, onnx.proto)."""
    import numpy as np

    bits = 4 if data_type in (21, 22) else 2
    lanes = [(packed >> shift) & ((1 << bits) - 1) for shift in range(0, 8, bits)]
    flat = np.stack(lanes, axis=-1).reshape(-1)[: count_elements(dims)]
    if data_type in (22, 26):  # signed
        flat = flat.astype(np.int8)
        return np.where(flat >= 1 << (bits - 1), flat - (1 << bits), flat).astype(np.int8).reshape(dims)
    return flat.astype(np.uint8).reshape(dims)


STORED_BITS = {2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 12: 32, 13: 64, 21: 4, 22: 4, 25: 2, 26: 2}
"""Bits of the integer element types; the narrow ones are kept in bytes, so the array's dtype does not tell."""


def _read_external(tensor: Any, folder: Path, need: int, where: str, problems: list[str]) -> bytes | None:
    """Read a tensor's bytes from a file in the model's folder; anything outside of it is refused."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if any(isinstance(part, bytes) for pair in entries.items() for part in pair):
        problems.append(f"{where} has external data whose path is not text")
        return None
    location = entries.get("location", "")
    if not location or "\0" in location or os.path.isabs(location) or ".." in Path(location.replace("\\", "/")).parts:
        problems.append(f"{where} lies in {quote(location)}, which is not a plain path inside the model's folder")
        return None
    root = Path(os.path.realpath(folder))
    target = Path(os.path.realpath(folder / location))
    if not target.is_relative_to(root):
        problems.append(f"{where} lies in {quote(location)}, which leads outside of the model's folder")
        return None
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", str(need)))
        info = target.stat()
    except ValueError:
        problems.append(f"{where} has an offset or length in its external data that is no number")
        return None
    except OSError as error:
        problems.append(f"{where} lies in {quote(location)}, which cannot be read: {error.strerror}")
        return None
    if not stat.S_ISREG(info.st_mode) or info.st_size > LARGEST_FILE_BYTES:
        problems.append(f"{where} lies in {quote(location)}, which is no regular file of at most 2 GiB")
        return None
    if length != need or offset < 0 or offset + need > info.st_size:
        problems.append(
            f"{where} needs {need:,} bytes of {quote(location)}: {length:,} are declared at {offset:,}, it holds {info.st_size:,}"
        )
        return None
    try:
        with target.open("rb") as stream:
            stream.seek(offset)
            return stream.read(need)
    except OSError as error:
        problems.append(f"{where} lies in {quote(location)}, which cannot be read: {error.strerror}")
        return None
