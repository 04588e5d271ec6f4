"""A network of all three operators through the Programs of the chunks, bit by bit; what it loses against the float one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwsim.archs.nasa.spec import CHUNKS, DATAFLOWS, PRESETS
from hwsim.archs.overrides import override
from hwsim.core.policy import LayerFormat, Policy
from hwsim.engine.execute_network import execute_network
from hwsim.engine.functional import run_float, run_integer
from hwsim.engine.functional_ops import sum_distances
from hwsim.nets.builder import NetBuilder
from hwsim.nets.synthetic import synthesize_input, synthesize_tensors
from hwsim.nets.zoo.nasa import NASA_FORMATS, lay_block, lay_pair
from hwsim.pipeline.tensors import prepare_tensors
from hwsim.pipeline.workloads import list_workloads
from mappers.search import find_mapping


def normalize_adders(network, tensors, image):
    """Return tensors whose adder layers have results of zero mean and unit variance by channel, as batch normalization gives."""
    held = dict(tensors.layers)
    for layer in network.mac_layers:
        if layer.operator == "add":
            values = run_float(network, replace(tensors, layers=held), image)
            sums = sum_distances(values[layer.inputs[0]], held[layer.name].weight, layer)
            factor = 1 / sums.std(axis=(0, 2, 3))
            held[layer.name] = replace(held[layer.name], factor=factor, bias=-sums.mean(axis=(0, 2, 3)) * factor)
    return replace(tensors, layers=held)


@pytest.fixture(scope="module")
def network():
    net = NetBuilder("mixed", "written here")
    x = net.conv(net.input((3, 12, 12)), "stem", 6, 3, stride=2, padding=1, activation="relu")
    x = lay_block(net, x, "shifts", "shift_k3_e3", 6, 1)
    x = lay_block(net, x, "adds", "add_k5_e1", 6, 1)
    x = lay_block(net, x, "multiplies", "k3_e3", 8, 2)
    x = lay_pair(net, x, "pair", 10, 3, padding=1, activation="relu")
    net.fc(net.flatten(net.global_avgpool(x, "pool")), "fc", 5)
    return net.finish()


@pytest.fixture(scope="module")
def policy(network):
    formats = dict(NASA_FORMATS)
    return Policy(layers=tuple((layer.name, formats[layer.operator]) for layer in network.mac_layers))


@pytest.fixture(scope="module")
def prepared(network, policy):
    image = synthesize_input(network, 5)
    floats = normalize_adders(network, synthesize_tensors(network, 5), image)
    loads = list_workloads(network, policy)
    found = prepare_tensors(network, PRESETS["small"], policy, loads, floats, image)
    return floats, image, loads, found


def test_stored_numbers_are_those_of_the_operators(network, prepared):
    floats, _, loads, found = prepared
    assert "N(0, 1)" in floats.origin.description
    for layer in network.mac_layers:
        held = found.tensors.layers[layer.name]
        if layer.operator == "shift":
            size = np.abs(held.weight[held.weight != 0].astype(np.int64))
            assert (size & (size - 1) == 0).all()
            assert size.max() <= 1 << 14
        if layer.operator == "add":
            read = found.tensors.activations[layer.name + ":in"]
            assert read.bits == 6
            assert held.w_scale == np.float32(read.scale)
            assert np.abs(held.weight).max() <= 31
        assert loads[layer.name].fmt.operator == layer.operator


def test_at_sixteen_bits_integers_are_the_float_network(network):
    """Weights of shift layers are powers of two here already, so that nothing is lost but what sixteen bits round."""
    image, floats = synthesize_input(network, 5), synthesize_tensors(network, 5)
    held = dict(floats.layers)
    for layer in network.mac_layers:
        if layer.operator == "shift":
            weight = held[layer.name].weight
            exponent = np.maximum(np.round(np.log2(np.abs(weight))), np.round(np.log2(np.abs(weight).max())) - 9)
            held[layer.name] = replace(
                held[layer.name], weight=(np.sign(weight) * np.exp2(exponent)).astype(np.float32)
            )
    floats = normalize_adders(network, replace(floats, layers=held), image)
    bits = {"multiply": (16, 16), "shift": (6, 16), "add": (16, 16)}
    layers = tuple(
        (x.name, LayerFormat(w_bits=bits[x.operator][0], a_bits=16, operator=x.operator)) for x in network.mac_layers
    )
    policy = Policy(default=LayerFormat(w_bits=16, a_bits=16), layers=layers)
    found = prepare_tensors(network, PRESETS["small"], policy, list_workloads(network, policy), floats, image)
    real, stored = run_float(network, floats, image), run_integer(network, found.tensors, image)
    for layer in network.mac_layers:
        quant = found.tensors.activations[layer.name]
        got = (stored[layer.name].astype(np.float64) - quant.zero_point) * quant.scale
        noise = np.square(got - real[layer.name]).mean() / np.square(real[layer.name]).mean()
        assert -10 * np.log10(noise) > 45, layer.name


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_every_layer_runs_as_its_program(dataflow, network, prepared):
    _, image, loads, found = prepared
    arch = override(PRESETS["small"], {f"{chunk}_dataflow": dataflow for chunk in CHUNKS.values()})

    def choose(layer, operands):
        part = arch.part_for(loads[layer.name])
        datapath = part.bind(loads[layer.name])
        return datapath, find_mapping(datapath, part)

    wanted = run_integer(network, found.tensors, image)
    outputs, executed = execute_network(network, found.tensors, image, arch, choose)
    assert {layer.name for layer in network.mac_layers} <= set(executed)
    for name, array in wanted.items():
        np.testing.assert_array_equal(outputs[name], array, err_msg=name)
