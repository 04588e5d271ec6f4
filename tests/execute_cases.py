"""Layers with random stored tensors, as tests of executed Programs draw them, and what a Program leaves in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from hwsim.core.arch import Arch
from hwsim.core.datapath import Datapath, LayerData, Workload
from hwsim.core.layer import Layer
from hwsim.core.mapping import Mapping
from hwsim.core.network import Network, TensorSpec
from hwsim.core.policy import LayerFormat
from hwsim.core.program import Program
from hwsim.core.tensors import ActQuant, LayerTensors, Origin, Tensors
from hwsim.engine.execute import execute_program
from hwsim.engine.execute_parameters import derive_parameters
from hwsim.engine.functional import run_integer
from hwsim.engine.functional_integer import complete_quants
from hwsim.engine.image import build_image, store_tensor
from hwsim.engine.lower import lower_table, prepare_lowering
from tests.naive_cases import archs, mappings, windowed_layers

ORIGIN = Origin(kind="synthetic", description="drawn by a test")
ACTIVATIONS = (
    ("none", ()),
    ("relu", ()),
    ("relu6", ()),
    ("clip", (("high", 0.7), ("low", -0.4))),
    ("hard_swish", ()),
    ("leaky_relu", (("alpha", 0.25),)),
)


@dataclass(frozen=True, eq=False)
class Case:
    """A layer, its network of one layer, stored inputs, and how it runs."""

    network: Network
    tensors: Tensors
    inputs: dict[str, np.ndarray]
    workload: Workload
    arch: Arch
    mapping: Mapping

    @property
    def layer(self) -> Layer:
        return self.workload.layer


@st.composite
def formats(draw, most_bits=8):
    """Formats of 2 to 8 bits: signed around zero, or unsigned and signed with any zero point."""
    bits, signed = draw(st.integers(2, most_bits)), draw(st.booleans())
    low = -(1 << (bits - 1)) if signed else 0
    zero = draw(st.sampled_from([0, low, low + 1, low + (1 << bits) - 1])) if draw(st.booleans()) else 0
    return ActQuant(scale=draw(st.sampled_from([0.5, 0.031, 0.0077])), zero_point=zero, bits=bits, signed=signed)


@st.composite
def layers(draw):
    """Layers of every operator that a Program computes."""
    ops = ["conv", "conv", "gemm", "maxpool", "avgpool", "add", "mul", "activation", "scale"]
    op = draw(st.sampled_from(ops))
    activation, attrs = draw(st.sampled_from(ACTIVATIONS))
    if op in ("conv", "maxpool", "avgpool"):
        layer = draw(windowed_layers(op, 6, 3))
        if op == "avgpool" and draw(st.booleans()):
            attrs = tuple(sorted((*attrs, ("count_include_pad", 1))))
    elif op == "gemm":
        sizes = {dim: draw(st.integers(1, most)) for dim, most in (("N", 5), ("K", 11), ("C", 20))}
        layer = Layer(name="layer", op="gemm", inputs=("x",), **sizes)
    else:
        n, g = draw(st.integers(1, 3)), draw(st.integers(1, 5))
        p, q = draw(st.sampled_from([(1, 1), (1, 4), (5, 1), (4, 6), (3, 3)]))
        inputs = ("x", "y") if op in ("add", "mul") else ("x",)
        layer = Layer(name="layer", op=op, inputs=inputs, N=n, G=g, P=p, Q=q, H=p, W=q)
        if op == "add" and draw(st.booleans()):
            attrs = tuple(sorted((*attrs, ("negate_second", 1))))
    if op == "activation" and activation == "none":
        activation = "relu"
    return replace(layer, activation=activation, attrs=attrs)


def draw_weights(rng: np.random.Generator, layer: Layer, bits: int, zeros: bool) -> LayerTensors:
    """Stored weights over their whole range, signed, or unsigned with a zero point for each channel."""
    filters = layer.out_shape[1]
    shape = (filters, 1, 1, 1) if layer.op == "scale" else (filters, layer.C, layer.R, layer.S)
    low = 0 if zeros else -(1 << (bits - 1))
    weight = rng.integers(low, low + (1 << bits), shape).astype(np.uint8 if zeros else np.int8)
    return LayerTensors(
        weight=weight,
        bias=rng.integers(-500, 500, filters).astype(np.int32) if rng.random() < 0.7 else None,
        w_scale=rng.uniform(0.01, 0.2, filters if rng.random() < 0.8 else 1).astype(np.float32),
        w_zero=rng.integers(0, 1 << bits, filters).astype(np.int32) if zeros else None,
        w_bits=bits,
    )


@st.composite
def cases(draw):
    """A layer with everything drawn: formats, tensors, accelerator, mapping."""
    layer = draw(layers())
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    quants = {name: draw(formats()) for name in layer.inputs}
    quants["layer"] = draw(st.sampled_from([quants["x"], draw(formats())]))
    w_bits = draw(st.integers(2, 8))
    shapes = [layer.in_shape if layer.kind == "mac" or len(layer.inputs) == 1 else layer.out_shape]
    if len(layer.inputs) == 2:
        shapes.append(tuple(extent if draw(st.booleans()) else 1 for extent in layer.out_shape))
    a_bits = quants["x"].bits
    if layer.kind == "mac" and draw(st.booleans()):
        quants["layer:in"] = draw(formats(a_bits))
        a_bits = quants["layer:in"].bits
    held = {}
    if layer.kind == "mac" or layer.op == "scale":
        held = {"layer": draw_weights(rng, layer, w_bits if layer.kind == "mac" else 8, draw(st.booleans()))}
    inputs = {
        name: rng.integers(quants[name].low, quants[name].high + 1, shape)
        for name, shape in zip(layer.inputs, shapes, strict=True)
    }
    workload = Workload(
        layer=layer, fmt=LayerFormat(w_bits=w_bits, a_bits=a_bits), out_bits=quants["layer"].bits,
        operand_bits=tuple(quants[name].bits for name in layer.inputs), operand_shapes=tuple(shapes),
    )  # fmt: skip
    arch = draw(archs())
    arch = replace(arch, shell=replace(arch.shell, psum_bits=draw(st.sampled_from([32, 33, 48]))))
    return make_case(workload, Tensors(layers=held, activations=quants, origin=ORIGIN), inputs, arch,
                     draw(mappings(layer, workload.out_bits)))  # fmt: skip


@st.composite
def cases_on(draw, archs):
    """A case on an accelerator drawn from ``archs(base)``, which has the shell and the memory of ``base``."""
    case = draw(cases())
    return replace(case, arch=draw(archs(case.arch)))


def make_case(workload, tensors, inputs, arch, mapping) -> Case:
    """Put a network of one layer around a workload."""
    specs = tuple(
        TensorSpec(name=name, shape=shape)
        for name, shape in zip(workload.layer.inputs, workload.operand_shapes, strict=True)
    )
    network = Network(name="one", inputs=specs, layers=(workload.layer,), outputs=(workload.layer.name,), source="")
    return Case(network, tensors, inputs, workload, arch, mapping)


def run_functional(case: Case) -> np.ndarray:
    """Return the network-level functional model's output, at the inputs' own batch."""
    inputs = case.inputs
    if len(inputs) == 2 and len(inputs["y"]) != len(inputs["x"]):
        inputs = inputs | {"y": np.repeat(inputs["y"], len(inputs["x"]), axis=0)}
    return run_integer(case.network, case.tensors, inputs)[case.layer.name]


def lower_case(case: Case, datapath: Datapath):
    """Return the lowering, the table and the parameters of a case."""
    ready = prepare_lowering(datapath, case.arch)
    quants = complete_quants(case.network, case.tensors)
    return ready, lower_table(datapath, case.mapping, ready), derive_parameters(case.layer, case.tensors, quants)


def stored_weight(case: Case) -> np.ndarray | None:
    """Return the stored weights of a MAC layer."""
    return case.tensors.layers[case.layer.name].weight if case.layer.kind == "mac" else None


def execute_case(case: Case, datapath: Datapath, order: str, fill: int = 0):
    """Return memory behind the Program, and what it must be up to the partial sums: that before, and the output."""
    ready, table, parameters = lower_case(case, datapath)
    operands = [case.inputs[name] for name in case.layer.inputs]
    image = build_image(datapath, case.mapping, ready, table, stored_weight(case), operands, fill)
    before = image.copy()
    program = Program(instructions=table.tobytes())
    after = execute_program(program, datapath, case.arch, case.mapping, image, parameters, order)
    np.testing.assert_array_equal(image, before)
    wanted = image.copy()
    store_tensor(wanted, int(ready.out[5]), run_functional(case), case.workload.out_bits, int(ready.scalars[0]))
    end = int(ready.scalars[4])
    return np.unpackbits(after, bitorder="little")[:end], np.unpackbits(wanted, bitorder="little")[:end]


def check_program(case: Case, data: LayerData | None = None) -> None:
    """Run the Program of a case, executed in its own order: it leaves what the functional model stores."""
    after, wanted = execute_case(case, case.arch.bind(case.workload, data), "program", fill=0xA6)
    np.testing.assert_array_equal(after, wanted)
