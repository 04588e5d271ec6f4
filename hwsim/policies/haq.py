"""HAQ's strategies: one entry a quantizable layer (convolution or linear) in the order of the model.

Source: finetune.py, rl_quantize.py and lib/env/linear_quantize_env.py of github.com/mit-han-lab/haq (commit 8228d12). Linear
quantization has ``[weight bits, activation bits]``, the first activation -1 because the input image is 8 bits wide;
K-means quantization has weight bits alone: indices into a table of centroids (the codec ``codebook``), activations stay float.
"""

from __future__ import annotations

import json
import re
from typing import Any

from hwsim.core.errors import InputError
from hwsim.core.network import Network
from hwsim.core.storage import CODE_BITS
from hwsim.policies.schemes import LayerScheme, PolicyFile, TensorScheme, assemble_policy, require_layers

IMAGE_BITS = 8
"""Bits of the first activation, which HAQ writes as -1 ("input image is already 8 bit", _keep_first_last_layer)."""
LOG_LINE = re.compile(r"best[ _]policy: *(\[.*\])")
"""The line that rl_quantize.py writes to its log and prints."""


def read_haq(data: Any, network: Network, source: str) -> PolicyFile:
    """Read a strategy: a list of ``[w, a]`` or of ``w``.

    Raises
    ------
    InputError
        Another number of entries than the network has convolutions and gemms, or a value that is no bit width.
    """
    layers = require_layers(network)
    if not isinstance(data, list) or not data:
        raise InputError(source, ["is no list of bit widths, one entry a layer"])
    if len(data) != len(layers):
        raise InputError(
            source,
            [
                f"has {len(data)} entries, {network.name} has {len(layers)} convolutions and gemms: another model's strategy"
            ],
        )
    problems: list[str] = []
    paired = isinstance(data[0], list)
    schemes = {
        layer.name: _read_entry(index, entry, paired, layer.name, problems)
        for index, (layer, entry) in enumerate(zip(layers, data, strict=True))
    }
    if problems:
        raise InputError(source, problems)
    notes = (f"matched in order of {network.name}'s convolutions and gemms: the file names no layer",)
    kind = "HAQ strategy" if paired else "HAQ K-means strategy (weights alone)"
    return assemble_policy(network, schemes, kind, source, notes, codec="native" if paired else "codebook")


def read_haq_log(text: str, network: Network, source: str) -> PolicyFile:
    """Read the last best policy of a log of rl_quantize.py."""
    found = LOG_LINE.findall(text)
    try:
        data = json.loads(found[-1])
    except (ValueError, IndexError, RecursionError):
        raise InputError(source, ["holds no best policy that is a list of bit widths"]) from None
    return read_haq(data, network, source)


def _read_entry(index: int, entry: Any, paired: bool, layer: str, problems: list[str]) -> LayerScheme:
    values = entry if isinstance(entry, list) else [entry]
    if isinstance(entry, list) != paired or len(values) != (2 if paired else 1):
        problems.append(f"entry {index} (layer {layer}) is {entry!r}, expected {'[w, a]' if paired else 'one number'}")
        return LayerScheme()
    found: list[TensorScheme] = []
    for place, value in enumerate(values):
        if value == -1 and place == 1 and index == 0:
            value = IMAGE_BITS
        most = 16 if paired else CODE_BITS["codebook"][1]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            problems.append(
                f"entry {index} (layer {layer}) has {value!r} bits of {'wa'[place]}, expected an integer from 1 to {most}"
            )
            return LayerScheme()
        found.append(TensorScheme(bits=value, symmetric=True if paired and place == 0 else None))
    return LayerScheme(weight=found[0], activation=found[1] if paired else None)
