"""Reads PyTorch's ``.pth`` files without PyTorch and without unpickling anything but tensors.

A pickle may call any function it names. Here a name is looked up in a short list of stand-ins, the opcodes are limited to
those that ``torch.save`` writes for a dictionary of tensors, and everything else is an error that names what was refused.
Both layouts are read: the zip archive (torch 1.6 and later) and the older stream of pickles.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hwsim.core.errors import InputError
from hwsim.nets.onnx_safety import count_elements, quote, read_model_bytes

Array = npt.NDArray[np.generic]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of the older layout (torch/serialization.py, MAGIC_NUMBER)."""
LEGACY_PROTOCOL = 1001
# storage class or dtype -> numpy dtype of an element; bfloat16 is widened to float32 afterwards
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_OPCODES = (
    pickle.PROTO, pickle.STOP, pickle.FRAME, pickle.MARK, pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_TUPLE, pickle.TUPLE,
    pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1,
    pickle.BININT2, pickle.LONG1, pickle.BINFLOAT, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINPUT, pickle.LONG_BINPUT,
    pickle.BINGET, pickle.LONG_BINGET, pickle.MEMOIZE, pickle.SETITEM, pickle.SETITEMS, pickle.APPEND, pickle.APPENDS,
    pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD, pickle.BINPERSID,
)  # fmt: skip
_DAMAGE = (
    pickle.UnpicklingError, EOFError, KeyError, IndexError, ValueError, TypeError, AttributeError, OverflowError, struct.error,
    zipfile.BadZipFile, NotImplementedError, RuntimeError,
)  # fmt: skip
"""What the pickle and zip readers raise on a damaged file."""
_NESTED = ("state_dict", "model_state_dict", "model")
"""Keys under which a checkpoint keeps its parameters beside other things."""


class _Refused(Exception):
    """A global or a piece that this reader does not accept."""


class _ParameterDict(dict[Any, Any]):
    """Stands for OrderedDict; what a pickle would set on it (``_metadata``) is dropped."""

    def __setstate__(self, state: object) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Storage:
    dtype: str
    key: str
    elements: int
    offset: int = 0
    wide: bool = False


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _StorageKind:
    dtype: str
    wide: bool = False


class _Stub:
    """A callable without attributes that a pickle could change."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setattr__(self, name: str, value: object) -> None:
        raise _Refused(f"a change of {quote(name)}")


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    """Stand in for torch._utils._rebuild_tensor_v2: keep the geometry, checked against the storage later."""
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or len(size) != len(stride) or len(size) > 8:
        raise _Refused("a tensor without storage, or whose size and stride differ in length")
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in numbers):
        raise _Refused("a tensor with a negative or odd geometry")
    return _Tensor(storage, offset, tuple(size), tuple(stride))


def _make_dict(*items: Any) -> _ParameterDict:
    return _ParameterDict(*items)


def _find_stub(module: str, name: str) -> Any:
    """Return the stand-in for a global, or refuse it."""
    if (module, name) == ("collections", "OrderedDict"):
        return _Stub(_make_dict)
    if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
        return _Stub(_rebuild_tensor)
    if module == "torch._utils" and name == "_rebuild_parameter":
        return _Stub(lambda data, *_: data)
    if module in ("torch", "torch.storage") and name in _STORAGES:
        return _StorageKind(_STORAGES[name], name == "BFloat16Storage")
    raise _Refused(f"the global {quote(f'{module}.{name}')}")


class _Reader(pickle._Unpickler):  # type: ignore[name-defined, misc]
    """The interpreter of the standard library written in Python (its memo is a dictionary, so no opcode allocates ahead)."""

    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPCODES}  # type: ignore[attr-defined]  # noqa: RUF012

    def find_class(self, module: str, name: str) -> Any:
        return _find_stub(module, name)

    def persistent_load(self, pid: Any) -> _Storage:
        if (
            not isinstance(pid, tuple)
            or len(pid) not in (5, 6)
            or pid[0] != "storage"
            or not isinstance(pid[1], _StorageKind)
        ):
            raise _Refused("a persistent object that is no storage")
        _, kind, key, _, elements = pid[:5]
        view = pid[5] if len(pid) == 6 else None
        if not isinstance(key, str | int) or not isinstance(elements, int) or elements < 0:
            raise _Refused("a storage with an odd key or size")
        offset = 0
        if view is not None:
            offset, elements = int(view[1]), int(view[2])
            if offset < 0 or elements < 0:
                raise _Refused("a storage with a negative view")
        return _Storage(kind.dtype, str(key), elements, offset, kind.wide)


def read_pth(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Return the tensors of a ``.pth`` file by name, in the file's order.

    A checkpoint that keeps its parameters under ``state_dict`` (or ``model``) is unwrapped, and the prefix ``module.``
    that data-parallel training puts before every name is removed. Values that are no tensors are left out.

    Raises
    ------
    InputError
        The file is absent, too large, damaged, or holds anything but tensors, numbers and text; a refused global is named.
    """
    source = Path(path).name
    data = read_model_bytes(path)
    try:
        found, storages = _read_zip(data) if data[:4] == b"PK\x03\x04" else _read_legacy(data)
        tensors = {name: _build_array(name, tensor, storages) for name, tensor in _pick_tensors(found)}
    except _Refused as refused:
        raise InputError(source, [f"holds {refused}, which is not read; save the state_dict alone"]) from None
    except _DAMAGE as error:
        raise InputError(source, [f"is not a PyTorch file, or it is damaged ({type(error).__name__})"]) from None
    if not tensors:
        raise InputError(source, ["holds no tensors by name"])
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): array for name, array in tensors.items()}
    return tensors


def _pick_tensors(found: Any) -> Iterator[tuple[str, _Tensor]]:
    for key in _NESTED:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    if not isinstance(found, dict):
        raise _Refused(f"a {type(found).__name__} instead of a dictionary of tensors")
    for name, value in found.items():
        if isinstance(name, str) and isinstance(value, _Tensor):
            yield name, value


def _read_zip(data: bytes) -> tuple[Any, dict[str, Any]]:
    archive = zipfile.ZipFile(io.BytesIO(data))
    names = {name.partition("/")[2]: name for name in archive.namelist()}
    if "data.pkl" not in names:
        raise _Refused("no data.pkl")

    def read(short: str) -> bytes:
        info = archive.getinfo(names[short])
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data):
            raise _Refused(f"the compressed member {quote(short)}")
        return archive.read(info)

    if "byteorder" in names and read("byteorder").strip() != b"little":
        raise _Refused("big-endian storages")
    found = _Reader(io.BytesIO(read("data.pkl"))).load()
    storages = {short.removeprefix("data/"): memoryview(read(short)) for short in names if short.startswith("data/")}
    return found, storages


def _read_legacy(data: bytes) -> tuple[Any, dict[str, Any]]:
    stream = io.BytesIO(data)
    if _Reader(stream).load() != LEGACY_MAGIC or _Reader(stream).load() != LEGACY_PROTOCOL:
        raise _Refused("another magic number")
    system = _Reader(stream).load()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _Refused("big-endian storages")
    found = _Reader(stream).load()
    keys = _Reader(stream).load()
    sizes = _find_item_sizes(found)
    storages: dict[str, Any] = {}
    for key in keys:
        (elements,) = struct.unpack("<q", stream.read(8))
        item = sizes.get(str(key), 1)
        if elements < 0 or elements * item > len(data) - stream.tell():
            raise _Refused(f"a storage {quote(key)} that ends behind the file")
        storages[str(key)] = memoryview(data)[stream.tell() : stream.tell() + elements * item]
        stream.seek(elements * item, os.SEEK_CUR)
    return found, storages


def _find_item_sizes(found: Any) -> dict[str, int]:
    """Return the bytes of an element of each storage, which the older layout says only beside the tensors."""
    sizes: dict[str, int] = {}
    todo, seen = [found], set()
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, _Tensor):
            sizes[value.storage.key] = np.dtype(value.storage.dtype).itemsize
        elif isinstance(value, dict):
            todo.extend(value.values())
        elif isinstance(value, list | tuple):
            todo.extend(value)
    return sizes


def _build_array(name: str, tensor: _Tensor, storages: dict[str, Any]) -> Array:
    """Copy a tensor out of its storage after checking that it lies inside."""
    storage = tensor.storage
    if storage.key not in storages:
        raise _Refused(f"the tensor {quote(name)} without its storage")
    raw = storages[storage.key]
    item = np.dtype(storage.dtype).itemsize
    count = count_elements(tensor.size)
    last = (
        storage.offset + tensor.offset + sum((n - 1) * step for n, step in zip(tensor.size, tensor.stride, strict=True))
    )
    if count and (last >= len(raw) // item or count > len(raw) // item):
        raise _Refused(f"the tensor {quote(name)} that reaches beyond its storage")
    if count == 0:
        return np.zeros(tensor.size, dtype=np.float32)
    flat: Any = np.frombuffer(raw, dtype=storage.dtype, count=len(raw) // item)[storage.offset + tensor.offset :]
    view = np.lib.stride_tricks.as_strided(flat, tensor.size, tuple(step * item for step in tensor.stride))
    array = np.array(view, order="C")
    if storage.wide:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32) if storage.dtype == "<f2" else array
