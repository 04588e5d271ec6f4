"""Reads a policy of any known form; the form is told by what the file holds."""

from __future__ import annotations

import io
import json
import math
import os
import re
import sys
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwsim.core.errors import InputError
from hwsim.core.network import Network
from hwsim.core.policy import parse_policy
from hwsim.nets.onnx_safety import read_model_bytes
from hwsim.policies.aimet import read_aimet
from hwsim.policies.haq import LOG_LINE, read_haq, read_haq_log
from hwsim.policies.mqbench import BACKENDS, RANGE_LINE, is_snpe, read_mqbench, read_ppl_cuda
from hwsim.policies.names import list_names
from hwsim.policies.native import read_native_csv, read_native_json
from hwsim.policies.onnx_policy import read_onnx_policy
from hwsim.policies.schemes import PolicyFile

if TYPE_CHECKING:
    import numpy as np

KNOWN_FORMS = (
    "hwsim.policy/1 JSON, a CSV with a column layer, a HAQ strategy or its log, AIMET encodings, MQBench clip ranges, "
    "quantized ONNX"
)
FILE_SUFFIXES = (
    ".json",
    ".csv",
    ".encodings",
    ".onnx",
    ".txt",
    ".log",
    ".npy",
    ".pkl",
    ".pickle",
    ".pt",
    ".pth",
    ".ckpt",
)
"""A policy that ends like this is a file, also where it is absent."""
LARGEST_TEXT_BYTES = 1 << 26
LARGEST_STRATEGY = 1 << 20
"""Numbers in the longest array that is a strategy."""
_DAMAGED_HEADER = (
    ValueError,
    TypeError,
    EOFError,
    OSError,
    SyntaxError,
    MemoryError,
    RecursionError,
    tokenize.TokenError,
)
"""What numpy raises for the header of a damaged array."""
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt")
_TEXT_PICKLE = re.compile(rb"\A(\(lp\d|\(dp\d|\(tp?\d|c[a-zA-Z_.]+\n)")


def resolve_policy(text: str, network: Network, model: str | os.PathLike[str] | None = None) -> PolicyFile:
    """Return the policy that a short string (``w4a8,conv1=w8a8``) or the path of a file names; layers are checked.

    Raises
    ------
    SpecError, InputError, UnknownName
        As `hwsim.core.policy.parse_policy` and `read_policy`.
    """
    if names_file(text):
        return read_policy(text, network, model)
    policy = parse_policy(text)
    policy.check(network)
    return PolicyFile(policy=policy, kind="short string", source=text)


def names_file(text: str) -> bool:
    """Whether the text of a policy is the path of a file and no short string."""
    return text.lower().endswith(FILE_SUFFIXES) or ((os.sep in text or "." in text) and os.path.isfile(text))


def read_policy(
    path: str | os.PathLike[str], network: Network, model: str | os.PathLike[str] | None = None
) -> PolicyFile:
    """Read a policy file for a network.

    Parameters
    ----------
    path : path
        In any of the forms of ``KNOWN_FORMS``.
    network : Network
        Whose layers the policy gives formats to.
    model : path, optional
        The ONNX file that the network was read from: encodings name its tensors.

    Raises
    ------
    InputError
        The file is absent, malformed, of another model, or a pickle (reading one can run code).
    UnknownName
        It names a layer that the network has not.
    """
    source, data = Path(path).name, read_model_bytes(path)
    _refuse_pickle(source, data)
    if data[:6] == b"\x93NUMPY":
        return read_haq(_read_npy(data, source), network, f"{source}")
    if source.lower().endswith(".onnx"):
        return read_onnx_policy(path, network)
    try:
        if len(data) > LARGEST_TEXT_BYTES:
            raise InputError(source, [f"holds {len(data):,} bytes, a policy has at most {LARGEST_TEXT_BYTES:,}"])
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(source, [f"is no policy of a known form ({KNOWN_FORMS})"]) from None
    onnx = model if model is not None and str(model).lower().endswith(".onnx") else None
    if LOG_LINE.search(text):
        return read_haq_log(text, network, source)
    if text.lstrip()[:1] in ("{", "["):
        return _read_json(text, network, onnx, source)
    lines = text.strip().splitlines()
    if lines and lines[0].split(",")[0].strip() == "layer":
        return read_native_csv(text, network, source)
    if lines and all(RANGE_LINE.match(line.rstrip()) for line in lines if line.strip()):
        return read_ppl_cuda(text, network, list_names(network, onnx), source)
    raise InputError(source, [f"is no policy of a known form ({KNOWN_FORMS})"])


def _read_json(text: str, network: Network, model: str | os.PathLike[str] | None, source: str) -> PolicyFile:
    try:
        raw = json.loads(text, object_pairs_hook=_check_names)
    except json.JSONDecodeError as error:
        raise InputError(source, [f"is no JSON: {error.msg} in line {error.lineno}"]) from None
    except RecursionError:
        raise InputError(source, ["is no JSON: nested too deeply"]) from None
    except ValueError:  # what json.loads raises beside its own error: a number longer than Python converts
        raise InputError(source, [f"holds an integer of more than {sys.get_int_max_str_digits():,} digits"]) from None
    except _BadName as error:
        raise InputError(source, [str(error)]) from None
    if isinstance(raw, list):
        return read_haq(raw, network, source)
    if "format" in raw or "layers" in raw:
        return read_native_json(raw, network, source)
    if any(key in raw for key in BACKENDS) or is_snpe(raw):
        return read_mqbench(raw, network, list_names(network, model), source)
    if "activation_encodings" in raw or "param_encodings" in raw:
        return read_aimet(raw, network, list_names(network, model), source)
    raise InputError(source, [f"is JSON of no known form ({KNOWN_FORMS})"])


class _BadName(Exception):
    """A name of a JSON object stands twice, or cannot be shown in one line."""


def _check_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    names = [name for name, _ in pairs]
    if len(found) < len(pairs):
        raise _BadName(f"names {next(name for name in names if names.count(name) > 1)!r} twice")
    for text in (*names, *(value for _, value in pairs if isinstance(value, str))):
        if not text.isprintable():
            raise _BadName(f"holds the text {text[:40]!r}, which cannot be printed")
    return found


def _refuse_pickle(source: str, data: bytes) -> None:
    protocol = data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    archive = data[:2] == b"PK" and b"data.pkl" in data[:4096]
    text = bool(_TEXT_PICKLE.match(data)) and data.rstrip().endswith(b".")
    if protocol or archive or text or source.lower().endswith(_PICKLE_SUFFIXES):
        raise InputError(source, ["is a pickle, which can run code while it is read: write the policy as JSON or CSV"])


def _read_npy(data: bytes, source: str) -> Any:
    """Return a strategy that was saved as an array of integers ``[L]`` or ``[L, 2]``."""
    import numpy as np

    stream = io.BytesIO(data)
    try:
        shape, fortran, dtype = _read_npy_header(stream)
    except _DAMAGED_HEADER as error:
        told = " ".join(str(error).split())[:120] or "its header cannot be read"
        raise InputError(source, [f"is no array: {told}"]) from None
    if dtype.hasobject:
        raise InputError(source, ["holds pickled objects, which can run code while they are read"])
    if dtype.kind not in "iu" or len(shape) not in (1, 2) or min(shape) < 0 or math.prod(shape) > LARGEST_STRATEGY:
        told = ", ".join(text if len(text) < 16 else f"{text[:12]}..." for text in map(str, shape[:8]))
        raise InputError(source, [f"is an array [{told}] of {str(dtype)[:40]}, expected integers [L] or [L, 2]"])
    held, needed = len(data) - stream.tell(), math.prod(shape) * dtype.itemsize
    if held < needed:
        raise InputError(
            source, [f"is cut off: an array {list(shape)} of {dtype} has {needed:,} bytes, it has {held:,}"]
        )
    array = np.frombuffer(data, dtype, math.prod(shape), stream.tell())
    return array.reshape(shape, order="F" if fortran else "C").tolist()


def _read_npy_header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the first index runs fastest, and type, of a header that is read without the array."""
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"its version {version[0]}.{version[1]} is for arrays of named fields")
    return readers[version](stream)
