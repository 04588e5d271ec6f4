"""The forms in which a search gives policies: arrays of bits, and policies that are no more than that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

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
    expected = f"[{layers}, 2] or [B, {layers}, 2]"
    try:
        array = np.asarray(policies)
    except ValueError:
        raise SpecError("policies.shape", "rows of different lengths", expected) from None
    if array.ndim not in (2, 3) or array.shape[-2:] != (layers, 2):
        raise SpecError("policies.shape", array.shape, expected)
    if array.dtype != np.int8:
        if array.dtype.kind not in "iu":
            raise SpecError("policies.dtype", str(array.dtype), "integers: bits of weights and activations")
        array = np.clip(array, 0, 127).astype(np.int8)
    return np.ascontiguousarray(array)


def require_range(array: Int8, policies: Any, names: Sequence[str]) -> None:
    """Raise the error of `refuse_range` where bits are not 1 to 16; ``array`` is what `read_array` made of ``policies``."""
    if ((array < 1) | (array > MOST_BITS)).any():
        refuse_range(policies, names)


def refuse_range(policies: Any, names: Sequence[str]) -> NoReturn:
    """Raise the error that names policy, layer and value of the first bits that are not 1 to 16."""
    given = np.asarray(policies).reshape(-1, len(names), 2)
    policy, layer, side = np.argwhere((given < 1) | (given > MOST_BITS))[0]
    where = f"policy {policy}, layer {names[layer]}: {'wa'[side]}_bits"
    raise SpecError(where, given[policy, layer, side].item(), f"1 to {MOST_BITS}") from None


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
        A short string that names layers, or groups.
    """
    policy = Policy(default=base) if isinstance(base, LayerFormat) else parse_policy(base)
    if policy.layers:
        raise SpecError("base", base, "one format for all layers, e.g. w8a8")
    if policy.default.groups > 1:
        hint = "give the widened network instead: hwsim.nets.group_parallel.widen_groups"
        raise SpecError("base.groups", policy.default.groups, "1", hint)
    return policy.default


def read_bits(name: str, bits: Iterable[int]) -> tuple[int, ...]:
    """Return different precisions in order.

    Raises
    ------
    InputError
        None, or one that is not 1 to 16.
    """
    given = list(bits)
    if not given or not all(isinstance(one, int | np.integer) and 1 <= one <= MOST_BITS for one in given):
        raise InputError(name, [f"got {given}, expected integers from 1 to {MOST_BITS}"])
    return tuple(sorted({int(one) for one in given}))
