"""MLPerf Tiny's int8 files read and run through LiteRT's interpreter: an oracle that shares no code with the project's importer.

The zoo's networks list their layers in the order of the files' operators, one layer an operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwsim.core.network import Network
from hwsim.core.tensors import ActQuant, LayerTensors, Origin, Tensors
from tests.extras import load_optional


@dataclass(frozen=True)
class LiteModel:
    """An interpreter with the network's tensors taken out of it."""

    interpreter: Any
    network: Network
    tensors: Tensors
    outputs: dict[str, int]

    def run(self, stored: np.ndarray) -> dict[str, np.ndarray]:
        """Run one input ``[1, C, H, W]`` int8; return every layer's stored output ``[1, K, P, Q]``."""
        details = self.interpreter.get_input_details()[0]
        self.interpreter.set_tensor(details["index"], stored.transpose(0, 2, 3, 1).reshape(details["shape"]))
        self.interpreter.invoke()
        found = {}
        for layer in self.network.layers:
            raw = self.interpreter.get_tensor(self.outputs[layer.name])
            n, channels, height, width = layer.out_shape
            found[layer.name] = raw.reshape(n, height, width, channels).transpose(0, 3, 1, 2)
        return found


def open_lite(path: Path, network: Network) -> LiteModel:
    """Open a quantized file with the reference kernels, every tensor kept readable."""
    litert = load_optional("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(
        str(path),
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    details = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    operators = interpreter._get_ops_details()
    assert len(operators) == len(network.layers)
    activations = {network.inputs[0].name: _read_quant(interpreter.get_input_details()[0])}
    layers: dict[str, LayerTensors] = {}
    outputs: dict[str, int] = {}
    for layer, operator in zip(network.layers, operators, strict=True):
        outputs[layer.name] = int(operator["outputs"][0])
        activations[layer.name] = _read_quant(details[outputs[layer.name]])
        if layer.kind != "mac":
            continue
        weight, bias = (int(index) for index in operator["inputs"][1:])
        stored = interpreter.get_tensor(weight)
        if operator["op_name"] == "FULLY_CONNECTED":
            stored = stored.reshape(*stored.shape, 1, 1)
        else:
            axes = (3, 0, 1, 2) if operator["op_name"] == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2)
            stored = stored.transpose(axes)
        layers[layer.name] = LayerTensors(
            weight=np.ascontiguousarray(stored),
            bias=interpreter.get_tensor(bias),
            w_scale=np.asarray(details[weight]["quantization_parameters"]["scales"], np.float32),
            w_bits=8,
        )
    origin = Origin(kind="file", description=path.name, licence="Apache-2.0")
    tensors = Tensors(layers=layers, activations=activations, origin=origin)
    return LiteModel(interpreter, network, tensors, outputs)


def _read_quant(tensor: dict[str, Any]) -> ActQuant:
    scale, zero = tensor["quantization"]
    return ActQuant(scale=float(np.float32(scale)), zero_point=int(zero), bits=8, signed=True)
