"""The forms in which a search gives policies: arrays of bits, and policies that are no more than that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hwsim.core.errors import InputError, SpecError, UnknownName
from hwsim.core.policy import LayerFormat, Policy, parse_policy
from hwsim.search.tables import MOST_BITS, Int8


def read_array(policies: Any, layers: int) -> Int8:
    """Return policies as int8 in one piece, ``[layers, 2]`` or ``[B, layers, 2]``; bits out of range stay out of range.

    Raises
    ------
    SpecError
        Another shape, or no integers.
    """
    array = np.asarray(policies)
    if array.ndim not in (2, 3) or array.shape[-2:] != (layers, 2):
        raise SpecError("policies.shape", array.shape, f"[{layers}, 2] or [B, {layers}, 2]")
    if array.dtype != np.int8:
        if array.dtype.kind not in "iu":
            raise SpecError("policies.dtype", str(array.dtype), "integers: bits of weights and activations")
        array = np.clip(array, 0, 127).astype(np.int8)
    return np.ascontiguousarray(array)


def list_columns(policy: Policy, base: LayerFormat, rows: Mapping[str, int]) -> Int8 | None:
    """Return the columns of a policy, int8 [1, 2 layers], None where it differs from ``base`` in more than bits.

    Parameters
    ----------
    rows : mapping
        Row of every MAC layer.

    Raises
    ------
    UnknownName
        The policy names a layer that the network has not.
    """
    default = policy.default
    others = (base.operator, base.codec, base.scale, base.channel_bits, base.groups)
    columns = [default.w_bits, default.a_bits] * len(rows)
    if (default.operator, default.codec, default.scale, default.channel_bits, default.groups) != others:
        return None
    for name, fmt in policy.layers:
        if (fmt.operator, fmt.codec, fmt.scale, fmt.channel_bits, fmt.groups) != others:
            return None
        row = rows.get(name)
        if row is None:
            raise UnknownName("layer in the policy", name, rows)
        columns[2 * row], columns[2 * row + 1] = fmt.w_bits, fmt.a_bits
    return np.array([columns], np.int8)


def read_base(base: LayerFormat | str) -> LayerFormat:
    """Return the format of what arrays leave open.

    Raises
    ------
    SpecError
        A short string that names layers.
    """
    if isinstance(base, LayerFormat):
        return base
    policy = parse_policy(base)
    if policy.layers:
        raise SpecError("base", base, "one format for all layers, e.g. w8a8")
    return policy.default


def read_bits(name: str, bits: Iterable[int]) -> tuple[int, ...]:
    """Return different precisions in order.

    Raises
    ------
    InputError
        None, or one that is not 1 to 16.
    """
    found = tuple(sorted({int(one) for one in bits}))
    if not found or not 1 <= found[0] <= found[-1] <= MOST_BITS:
        raise InputError(name, [f"got {list(found)}, expected integers from 1 to {MOST_BITS}"])
    return found
