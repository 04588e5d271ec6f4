"""A trained network, every layer through the Program of the real mapper, on two accelerators."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from hwsim.archs.registry import find_arch
from hwsim.core.errors import HwsimError, SpecError
from hwsim.core.policy import parse_policy
from hwsim.engine.execute_network import execute_network
from hwsim.engine.execute_parameters import derive_parameters, is_executable
from hwsim.engine.functional import calibrate_network, run_integer
from hwsim.engine.functional_integer import complete_quants
from hwsim.nets.builder import NetBuilder
from hwsim.nets.imported import quantized_policy
from hwsim.nets.synthetic import synthesize_input, synthesize_tensors
from hwsim.nets.tflite_import import import_tflite
from hwsim.pipeline.tensors import prepare_tensors, stream_data
from hwsim.pipeline.workloads import list_workloads
from mappers.search import find_mapping
from tests.extras import load_optional
from tests.reference import reference


@cache
def load(name):
    imported = import_tflite(reference("mlperf_tiny", f"{name}.tflite"))
    return imported.network, imported.tensors


def draw_input(network):
    return np.random.default_rng(7).integers(-128, 128, network.inputs[0].shape)


def run_both(network, tensors, inputs, arch, choose, order):
    """Return the layers that ran as Programs; every output must be that of the functional model."""
    wanted = run_integer(network, tensors, inputs)
    found, executed = execute_network(network, tensors, inputs, arch, choose, order)
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert found[name].dtype == array.dtype
    return executed


def make_choice(arch, loads, data=None):
    mapped = {}

    def choose(layer, operands):
        if layer.name not in mapped:
            datapath = arch.bind(loads[layer.name], (data or {}).get(layer.name))
            mapped[layer.name] = datapath, find_mapping(datapath, arch)
        return mapped[layer.name]

    return choose


@pytest.mark.parametrize("name", ["pretrainedResnet_quant", "kws_ref_model"])
def test_trained_networks_on_systolic(name):
    load_optional("ai_edge_litert")
    network, tensors = load(name)
    assert any(quant.zero_point for quant in tensors.activations.values())
    arch = find_arch("systolic", "small")
    choose = make_choice(arch, list_workloads(network, quantized_policy(network, tensors)))
    for order in ("program", "time"):
        executed = run_both(network, tensors, draw_input(network), arch, choose, order)
        assert set(executed) == {layer.name for layer in network.layers if layer.op != "softmax"}


def test_resnet8_on_decomposed_weights():
    load_optional("ai_edge_litert")
    network, tensors = load("pretrainedResnet_quant")
    arch, policy = find_arch("smartdeal", "small"), quantized_policy(network, tensors)
    loads = list_workloads(network, policy)
    image = {network.inputs[0].name: draw_input(network)}
    prepared = prepare_tensors(network, arch, policy, loads, tensors, image)
    data = {}
    stream_data(network, prepared, image, lambda name, found: data.update({name: found}))
    choose = make_choice(arch, loads, data)
    for order in ("program", "time"):
        executed = run_both(network, prepared.tensors, image, arch, choose, order)
        assert set(executed) == {layer.name for layer in network.layers if layer.op != "softmax"}
    assert sum(not held.codec.plan.is_dense for held in prepared.stored.values()) >= 8


def build_small():
    """Return a network of every operator: squeeze and excite, residual, concat, shuffle, tables, two images."""
    b = NetBuilder("small", "drawn by a test")
    x = b.conv(b.input((2, 3, 12, 10)), "stem", 8, 3, stride=2, padding=1, activation="hard_swish")
    y = b.depthwise(x, "depthwise", 3, padding=1, activation="relu6")
    y = b.mul((y, b.activate(b.conv(b.global_avgpool(y, "squeeze"), "excite", 8, 1), "gate", "hard_sigmoid")), "se")
    y = b.add((b.conv(y, "narrow", 8, 1), x), "residual", activation="relu")
    y = b.shuffle(b.concat((y, x), "join"), "shuffle", 2)
    y = b.avgpool(b.maxpool(y, "max", 2, stride=2), "mean", 3, stride=2, padding=1)
    y = b.scale(b.conv(y, "grouped", 12, 3, padding=2, dilation=2, groups=4), "scale", activation="sigmoid")
    y = b.lrn(y, "lrn", size=3, alpha=1e-3, beta=0.75, bias=1.0)
    b.softmax(b.fc(b.flatten(y), "fc", 10), "softmax")
    return b.finish()


@pytest.mark.parametrize(("policy", "options"), [
    ("w8a8", {}),
    ("w4a4,stem=w8a8,narrow=w2a3,fc=w3a6", {"unsigned_relu": True}),
    ("w3a5,depthwise=w8a7", {"activation_scheme": "asymmetric", "per_channel": False}),
])  # fmt: skip
def test_every_operator_at_mixed_widths(policy, options):
    network, policy = build_small(), parse_policy(policy)
    image = synthesize_input(network, 3)
    tensors = calibrate_network(network, synthesize_tensors(network, 3), policy, image, **options)
    arch = find_arch("systolic", "small")
    choose = make_choice(arch, list_workloads(network, policy))
    for order in ("program", "time"):
        executed = run_both(network, tensors, image, arch, choose, order)
        left = {layer.name for layer in network.layers} - set(executed)
        assert left == {"shuffle", "join", "flatten", "lrn", "softmax"}


def test_what_computes_in_float_has_no_parameters():
    network = build_small()
    tensors = calibrate_network(
        network, synthesize_tensors(network, 3), parse_policy("w8a8"), synthesize_input(network)
    )
    quants = complete_quants(network, tensors)
    assert not is_executable(network.layer("lrn"), tensors, quants)
    with pytest.raises(HwsimError, match="layer lrn: no Program computes lrn on these tensors in integers"):
        derive_parameters(network.layer("lrn"), tensors, quants)


def test_a_workload_of_other_widths_than_its_tensors_is_refused():
    network, image = build_small(), synthesize_input(build_small())
    tensors = calibrate_network(network, synthesize_tensors(network, 3), parse_policy("w8a8"), image)
    arch = find_arch("systolic", "small")
    choose = make_choice(arch, list_workloads(network, parse_policy("w8a4")))
    with pytest.raises(SpecError, match=r"layer stem: got \(4, 4\), expected bits \(8, 8\) of its tensors"):
        execute_network(network, tensors, image, arch, choose)
