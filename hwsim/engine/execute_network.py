"""Layers and networks through their Programs: from stored tensors to stored tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import Mapping
from hwsim.core.network import Network
from hwsim.core.program import Program
from hwsim.core.tensors import Tensors
from hwsim.engine.execute import execute_program
from hwsim.engine.execute_parameters import LayerParameters, derive_parameters, is_executable
from hwsim.engine.functional import Inputs, quantize_inputs
from hwsim.engine.functional_integer import IntegerModel, complete_quants
from hwsim.engine.functional_ops import Array
from hwsim.engine.image import build_image, load_tensor
from hwsim.engine.lower import lower_table, prepare_lowering
from hwsim.quant.uniform import choose_dtype

Choose = Callable[[Layer, list[Array]], tuple[Datapath, Mapping]]
"""Gives a layer with its stored operands its datapath and mapping."""


def execute_layer(
    datapath: Datapath,
    arch: Arch,
    mapping: Mapping,
    parameters: LayerParameters,
    weight: npt.NDArray[Any] | None,
    operands: list[npt.NDArray[Any]],
    order: str = "program",
) -> npt.NDArray[np.int64]:
    """Lower a layer, execute its Program on a memory image and return the stored output ``[N, G*K, P, Q]``.

    Parameters
    ----------
    datapath, arch, mapping, parameters, order
        As in `hwsim.engine.execute.execute_program`.
    weight : ndarray or None
        Stored integers ``[G*K, C, R, S]`` of a MAC layer.
    operands : list of ndarray
        Stored integers of the activation operands.
    """
    ready = prepare_lowering(datapath, arch)
    table = lower_table(datapath, mapping, ready)
    image = build_image(datapath, mapping, ready, table, weight, operands)
    program = Program(instructions=table.tobytes())
    after = execute_program(program, datapath, arch, mapping, image, parameters, order)
    shape, bits = datapath.layer.out_shape, datapath.workload.out_bits
    return load_tensor(after, int(ready.out[5]), shape, bits, arch.memory.alignment_bits, parameters.out_signed)


def execute_network(
    network: Network, tensors: Tensors, inputs: Inputs, arch: Arch, choose: Choose, order: str = "program"
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Run a quantized network, every layer that a Program can compute through its Program.

    Each layer has a memory image of its own. What only moves elements (concat, shuffle ...) and what computes in float32 is left to
    the functional model.

    Parameters
    ----------
    network, tensors, inputs
        As in `hwsim.engine.functional.run_integer`, at the network's own batch.
    arch : Arch
        The accelerator.
    choose : callable
        Datapath and mapping of a layer.
    order : str
        ``program`` or ``time``.

    Returns
    -------
    outputs : dict
        Every layer's stored output.
    executed : tuple of str
        The layers that ran as Programs, in order.

    Raises
    ------
    SpecError
        A tensor's format has other bits than the layer's workload.
    """
    model, quants = IntegerModel(network, tensors), complete_quants(network, tensors)
    values: dict[str, Array] = dict(quantize_inputs(network, tensors, inputs))
    executed: list[str] = []
    for layer in network.layers:
        operands = [values[name] for name in layer.inputs]
        if not is_executable(layer, tensors, quants) or any(x.dtype.kind == "f" for x in operands):
            values[layer.name] = model.execute(layer, operands)
            continue
        datapath, mapping = choose(layer, operands)
        load, out = datapath.workload, quants[layer.name]
        wanted = (*(quants[name].bits for name in layer.inputs), out.bits)
        if wanted != (*load.operand_bits, load.out_bits):
            raise SpecError(f"layer {layer.name}", (*load.operand_bits, load.out_bits), f"bits {wanted} of its tensors")
        weight = None
        if layer.kind == "mac":
            weight = np.asarray(tensors.layers[layer.name].weight).reshape(-1, layer.C, layer.R, layer.S)
        parameters = derive_parameters(layer, tensors, quants)
        stored = execute_layer(datapath, arch, mapping, parameters, weight, operands, order)
        values[layer.name] = stored.astype(choose_dtype(out.bits, out.signed))
        executed.append(layer.name)
    return {layer.name: values[layer.name] for layer in network.layers}, tuple(executed)
