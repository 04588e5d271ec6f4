"""The integer model in mode ``float`` equals ONNX Runtime on the same QDQ graph: every element of every layer.

ONNX Runtime's graph optimizer must have fused the whole graph into integer kernels (each test checks the operators that
are left): a convolution that it leaves in float32 accumulates inexactly. What its kernels compute is in
`hwsim.engine.functional_integer`.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwsim.core.layer import Layer
from hwsim.core.network import Network, TensorSpec
from hwsim.core.policy import Policy, parse_policy
from hwsim.core.tensors import ActQuant, Origin, Tensors
from hwsim.engine.functional import calibrate_network, quantize_inputs, run_float, run_integer
from hwsim.engine.functional_integer import IntegerModel
from hwsim.engine.functional_ops import convolve_integer
from hwsim.nets.pretrained import PACKAGES, load_pretrained
from hwsim.nets.registry import find_network
from hwsim.nets.synthetic import synthesize_input, synthesize_tensors
from hwsim.quant.requant import combine_scales
from tests.extras import load_optional
from tests.litert_models import open_lite
from tests.onnx_models import run_onnx, write_float, write_qdq
from tests.reference import reference
from tests.sample_images import load_cifar10, load_imagenet

FLOAT_KERNELS = {"Conv", "Gemm", "MatMul", "Add", "GlobalAveragePool", "AveragePool", "DequantizeLinear"}
"""Operators that a graph fused whole has not."""


def load_mobilenet_v2():
    """Return MobileNetV2 with its ImageNet weights and one image."""
    load_optional("PIL")
    network = find_network("mobilenet_v2")
    return network, load_pretrained(network.name), load_imagenet()[0][3:4]


def load_resnet8():
    """Return ResNet-8 as trained and quantized by MLPerf Tiny, and CIFAR-10 images as reals."""
    network = find_network("resnet8")
    lite = open_lite(reference("mlperf_tiny", "pretrainedResnet_quant.tflite"), network)
    return network, lite.tensors, load_cifar10()[0].astype(np.float32)


def compare_with_onnxruntime(network, tensors, image):
    """Assert equality of every element; return the operators of ONNX Runtime's optimized graph."""
    name = network.inputs[0].name
    expected, operators = run_onnx(write_qdq(network, tensors, len(image)), {f"{name}.real": image})
    found = run_integer(network, tensors, image, "float")
    for layer in network.layers:
        assert found[layer.name].dtype == expected[layer.name].dtype, layer.name
        wrong = int((found[layer.name] != expected[layer.name]).sum())
        assert wrong == 0, f"{layer.name}: {wrong} of {layer.out_elements} elements differ"
    return operators


def test_resnet8_with_trained_int8_weights_equals_onnxruntime():
    network, tensors, images = load_resnet8()
    operators = compare_with_onnxruntime(network, tensors, images[:4])
    assert not FLOAT_KERNELS & set(operators)
    assert (operators.count("QLinearConv"), operators.count("QLinearAdd")) == (10, 3)


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
def test_mobilenet_v2_with_imagenet_weights_equals_onnxruntime(scheme):
    network, tensors, image = load_mobilenet_v2()
    quantized = calibrate_network(network, tensors, Policy(), image, activation_scheme=scheme)
    operators = compare_with_onnxruntime(network, quantized, image)
    assert not FLOAT_KERNELS & set(operators)
    assert operators.count("QLinearConv") + operators.count("QGemm") == 53
    assert operators.count("QLinearAdd") == 10


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "squeezenet1_1", "mobilenet_v3_small", "frostnet_small"])
def test_concatenation_shuffle_gates_and_ceil_pooling_equal_onnxruntime(name):
    """Synthetic weights: what is compared is the arithmetic. A hard sigmoid runs in float32 between integer kernels."""
    network = find_network(name)
    image = synthesize_input(network)[network.inputs[0].name]
    quantized = calibrate_network(network, synthesize_tensors(network), Policy(), image)
    operators = compare_with_onnxruntime(network, quantized, image)
    assert not {"Conv", "Gemm", "Add", "GlobalAveragePool", "Concat"} & set(operators)


@pytest.mark.parametrize("policy", ["w4a4", "w2a8", "w8a5"])
def test_narrow_formats_equal_onnxruntime(policy):
    network = find_network("resnet20_cifar10")
    image = synthesize_input(network)[network.inputs[0].name]
    quantized = calibrate_network(network, synthesize_tensors(network), parse_policy(policy), image)
    compare_with_onnxruntime(network, quantized, image)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1", "resnet20_cifar10"])
def test_float_model_is_within_float32_rounding_of_onnxruntime(name):
    """Both sum in float32 in different orders: relative to a layer's largest value, errors grow by at most a rounding a term."""
    network = find_network(name)
    tensors = synthesize_tensors(network)
    image = synthesize_input(network)[network.inputs[0].name]
    expected, _ = run_onnx(write_float(network, tensors), {network.inputs[0].name: image})
    found, terms = run_float(network, tensors, image), 0
    for layer in network.layers:
        terms += layer.C * layer.R * layer.S + 2
        error = np.abs(found[layer.name] - expected[layer.name]).max()
        assert error <= terms * 2.0**-24 * np.abs(expected[layer.name]).max(), layer.name


def make_operator(op: str, quants: list[ActQuant]) -> onnx.ModelProto:
    """Return a model of one QLinearAdd or QLinearMul of all pairs of codes."""
    constants = []
    names = ["a", "a.scale", "a.zero", "b", "b.scale", "b.zero", "c.scale", "c.zero"]
    for letter, quant in zip("abc", quants, strict=True):
        dtype = np.int8 if quant.signed else np.uint8
        constants.append(numpy_helper.from_array(np.array(quant.scale, np.float32), f"{letter}.scale"))
        constants.append(numpy_helper.from_array(np.array(quant.zero_point, dtype), f"{letter}.zero"))
    element = TensorProto.INT8 if quants[0].signed else TensorProto.UINT8
    shape = [1, 1, 256, 256]
    inputs = [helper.make_tensor_value_info(name, element, shape) for name in "ab"]
    node = helper.make_node(op, names, ["c"], domain="com.microsoft")
    graph = helper.make_graph([node], "pair", inputs, [helper.make_tensor_value_info("c", element, shape)], constants)
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=10)


def draw_pair(seed: int) -> tuple[list[ActQuant], dict[str, np.ndarray], Network, Tensors]:
    """Return formats, all 65,536 pairs of codes, and the network of one operator (its op is set by the test)."""
    rng, signed = np.random.default_rng(seed), bool(seed % 2)
    low = -128 if signed else 0
    quants = [
        ActQuant(scale=float(np.float32(s)), zero_point=int(z), signed=signed)
        for s, z in zip(rng.uniform(0.01, 0.2, 3), rng.integers(low, low + 256, 3), strict=True)
    ]
    codes = np.arange(low, low + 256).astype(np.int8 if signed else np.uint8)
    a, b = np.meshgrid(codes, codes)
    specs = tuple(TensorSpec(name=name, shape=(1, 1, 256, 256)) for name in "ab")
    layer = Layer(name="c", op="add", inputs=("a", "b"), P=256, Q=256, H=256, W=256)
    network = Network(name="pair", inputs=specs, layers=(layer,), outputs=("c",), source="test")
    tensors = Tensors(
        layers={}, activations=dict(zip("abc", quants, strict=True)), origin=Origin(kind="synthetic", description="")
    )
    return quants, {"a": a.reshape(1, 1, 256, 256), "b": b.reshape(1, 1, 256, 256)}, network, tensors


@pytest.mark.parametrize("seed", range(12))
def test_every_pair_of_codes_is_added_as_onnxruntime_adds(seed):
    quants, pairs, network, tensors = draw_pair(seed)
    expected, _ = run_onnx(make_operator("QLinearAdd", quants), pairs)
    assert np.array_equal(run_integer(network, tensors, pairs, "float")["c"], expected["c"])


@pytest.mark.parametrize("seed", range(6))
def test_every_pair_of_codes_is_multiplied_as_onnxruntime_multiplies(seed):
    quants, pairs, network, tensors = draw_pair(seed)
    quants[2] = ActQuant(scale=quants[2].scale * 4, zero_point=quants[2].zero_point, signed=quants[2].signed)
    quants[2] = ActQuant(
        scale=float(np.float32(quants[2].scale)), zero_point=quants[2].zero_point, signed=quants[2].signed
    )
    tensors.activations["c"] = quants[2]
    layer = Layer(name="c", op="mul", inputs=("a", "b"), P=256, Q=256, H=256, W=256)
    network = Network(name="pair", inputs=network.inputs, layers=(layer,), outputs=("c",), source="test")
    expected, _ = run_onnx(make_operator("QLinearMul", quants), pairs)
    assert np.array_equal(run_integer(network, tensors, pairs, "float")["c"], expected["c"])


@pytest.mark.parametrize("seed", range(4))
def test_addition_by_multiplier_differs_from_float_only_within_the_float_error_of_a_tie(seed):
    """The float addition rounds five times in float32, each time by at most 2**-24 of the magnitudes it has summed; the hardware's
    multipliers are off by at most 2**-(shift + 1) a unit. So where the results differ, by one, the exact sum is that near a tie."""
    quants, pairs, network, tensors = draw_pair(seed)
    by_float = run_integer(network, tensors, pairs, "float")["c"].astype(int).ravel()
    by_shift = run_integer(network, tensors, pairs, "mulshift")["c"].astype(int).ravel()
    assert np.abs(by_float - by_shift).max() <= 1
    ratios = [Fraction(float(combine_scales(q.scale, divisor=quants[2].scale))) for q in quants[:2]]
    for index in np.flatnonzero(by_float != by_shift).tolist():
        codes = [int(pairs[name].ravel()[index]) for name in "ab"]
        terms = [r * (c - q.zero_point) for r, c, q in zip(ratios, codes, quants[:2], strict=True)]
        exact = sum(terms)
        magnitude = sum(r * (abs(c) + abs(q.zero_point)) for r, c, q in zip(ratios, codes, quants[:2], strict=True))
        bound = Fraction(5, 1 << 24) * (magnitude + 256) + Fraction(256, 1 << 26)
        assert abs(exact - (Fraction(math.floor(exact)) + Fraction(1, 2))) <= bound


@pytest.mark.parametrize("net", ["resnet8", "mobilenet_v2"])
def test_multiplier_and_shift_differ_from_float_only_at_float_ties_layer_by_layer(net):
    """Each MAC layer gets the same input in both modes: differences are at most one, and only where the float product is a tie."""
    network, tensors, images = load_resnet8() if net == "resnet8" else load_mobilenet_v2()
    if net == "mobilenet_v2":
        tensors = calibrate_network(network, tensors, Policy(), images)
    image = images[:1]
    values = run_integer(network, tensors, image, "float") | quantize_inputs(network, tensors, image)
    by_float, by_shift = (IntegerModel(network, tensors, mode) for mode in ("float", "mulshift"))
    elements = differences = 0
    for layer in network.mac_layers:
        inputs = [values[name] for name in layer.inputs]
        a, b = by_float.execute(layer, inputs).astype(int), by_shift.execute(layer, inputs).astype(int)
        elements += a.size
        where = np.argwhere(a != b)
        if not len(where):
            continue
        differences += len(where)
        held, quant = tensors.layers[layer.name], by_float.quants[layer.inputs[0]]
        weight = held.weight.reshape(layer.G * layer.K, layer.C, layer.R, layer.S)
        acc = convolve_integer(inputs[0].astype(np.int32) - quant.zero_point, weight, layer)
        acc = acc + held.bias.astype(np.int64).reshape(1, -1, 1, 1)
        ratio = combine_scales(np.float32(quant.scale), held.w_scale, divisor=by_float.quants[layer.name].scale)
        ratio = np.broadcast_to(ratio, acc.shape[1:2])
        for n, k, p, q in where.tolist():
            assert abs(a[n, k, p, q] - b[n, k, p, q]) == 1
            product = np.float32(acc[n, k, p, q]) * ratio[k]
            assert float(2 * product).is_integer()
            assert not float(product).is_integer()
    # A float product falls on a tie with a chance of at most 2 * 2**-18 for each element whose product is below 128.
    assert differences <= elements * 2.0**-14


def test_trained_networks_keep_their_accuracy():
    """MobileNetV2 and EfficientNet-Lite0 on twenty ImageNet images: W8A8 loses at most two answers of the float network."""
    images, labels = load_imagenet()
    for name in PACKAGES:
        network = find_network(name)
        tensors, last = load_pretrained(name), network.mac_layers[-1].name
        quantized = calibrate_network(network, tensors, Policy(), images[:8])
        batches = range(0, 20, 5)
        real = [run_float(network, tensors, images[i : i + 5], keep=(last,))[last] for i in batches]
        stored = [run_integer(network, quantized, images[i : i + 5], keep=(last,))[last] for i in batches]
        answers = [np.concatenate(part).reshape(20, -1).argmax(axis=1) for part in (real, stored)]
        right = [int((answer == labels).sum()) for answer in answers]
        assert right[0] >= 16, (name, right)
        assert right[1] >= right[0] - 2, (name, right)
