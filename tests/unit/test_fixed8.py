"""8-bit fixed point: what the machine refuses, what it saves, and networks quantized to fractional lengths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwsim.archs.registry import decode_arch, encode_arch, find_arch
from hwsim.core.errors import SpecError
from hwsim.core.mapping import TILE_DIMS, Mapping, list_boxes
from hwsim.core.policy import LayerFormat, Policy, parse_policy
from hwsim.core.program import SHIFT_STORE_PIPELINE_CYCLES, STORE_PIPELINE_CYCLES
from hwsim.core.tensors import ActQuant, LayerTensors, Origin, Tensors
from hwsim.engine.functional import measure_deviations, measure_ranges, run_float, run_integer
from hwsim.engine.functional_integer import complete_quants
from hwsim.nets.builder import NetBuilder
from hwsim.pipeline.fidelity import measure_fidelity
from hwsim.pipeline.layer import run_layer
from hwsim.pipeline.simulate import simulate
from hwsim.pipeline.tensors import prepare_tensors
from hwsim.pipeline.workloads import list_workloads
from hwsim.quant.calibrate import LARGEST_BIAS, quantize_network
from hwsim.quant.fixed_network import choose_fixed_quant, fold_average, quantize_fixed_weights
from tests.naive_cases import conv, workload_of
from tests.reference import reference
from tests.sample_images import load_cifar10

LAYER = conv(name="layer", size=(9, 9), window=(3, 3), padding=(1, 1, 1, 1), K=20, C=5)


def build_network(window=7):
    """A residual block, and an average over ``window`` squared elements in front of a classifier."""
    net = NetBuilder("block", "test")
    x = net.conv(net.input((3, 2 * window, 2 * window)), "stem", 8, 3, padding=1, stride=2, activation="relu")
    a = net.conv(x, "a", 8, 3, padding=1, activation="relu")
    b = net.conv(a, "b", 8, 3, padding=1)
    x = net.add((b, x), "sum", activation="relu")
    net.fc(net.flatten(net.avgpool(x, "pool", window, stride=window)), "fc", 10)
    return net.finish()


def draw(network, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    layers = {}
    for layer in network.mac_layers:
        shape = (layer.G * layer.K, layer.C, layer.R, layer.S)
        weight = rng.standard_normal(shape) * spread * np.sqrt(2 / np.prod(shape[1:]))
        bias = rng.standard_normal(shape[0]).astype(np.float32) / 4
        layers[layer.name] = LayerTensors(weight=weight.astype(np.float32), bias=bias)
    image = rng.standard_normal((4, *network.inputs[0].shape[1:])).astype(np.float32)
    return Tensors(layers=layers, origin=Origin(kind="synthetic", description="test")), image


def quantize(network, tensors, image, policy="f8"):
    ranges, deviations = (measure(network, tensors, image) for measure in (measure_ranges, measure_deviations))
    return quantize_network(network, tensors, parse_policy(policy), ranges, deviations=deviations)


def is_power(value) -> bool:
    return bool(np.all(np.frexp(np.asarray(value, np.float32))[0] == 0.5))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"w_bits": 4}, "w_bits: got 4, expected 8 bits on fixed8 (--arch systolic runs others)"),
        ({"a_bits": 16}, "a_bits: got 16, expected 8 bits on fixed8 (--arch systolic runs others)"),
        ({"scale": "multiplier"}, "scale: got 'multiplier', expected shift on fixed8"),
        ({"codec": "codebook"}, "codec: got 'codebook', expected dense on fixed8"),
    ],
)
def test_formats_that_it_has_not_are_told(fields, said):
    with pytest.raises(SpecError) as caught:
        find_arch("fixed8").bind(replace(workload_of(LAYER), fmt=LayerFormat(**fields)))
    assert f"policy for layer layer: {said}" in str(caught.value)


def test_the_array_is_that_of_systolic_and_a_store_is_three_cycles_shorter():
    arch, other = find_arch("fixed8:small"), find_arch("systolic:small")
    assert decode_arch(encode_arch(arch)) == arch
    mapping = Mapping(tile=tuple(getattr(LAYER, dim) for dim in TILE_DIMS), order="MKC")
    ours, theirs = (x.bind(workload_of(LAYER)) for x in (arch, other))
    for field in ("busy", "fill", "tail"):
        times = [getattr(x.exec_times(list_boxes(LAYER, mapping.tile)), field) for x in (ours, theirs)]
        np.testing.assert_array_equal(*times)
    cycles = [run_layer(x, y, mapping)[0].cycles for x, y in ((ours, arch), (theirs, other))]
    assert cycles[1] - cycles[0] == STORE_PIPELINE_CYCLES - SHIFT_STORE_PIPELINE_CYCLES == 3
    with pytest.raises(SpecError, match=r"systolic\.rows"):
        replace(arch, rows=0)


def test_requantization_takes_less_energy_and_area_and_no_more_cycles():
    ours, theirs = simulate("resnet8", "fixed8"), simulate("resnet8", "systolic", policy="f8")
    assert ours.cycles <= theirs.cycles
    parts = []
    for report in (ours, theirs):
        energy = sum(layer.energy_by_component()["requant"] for layer in report.layers if layer.stats.cycles)
        area = sum(item.area_um2 for item in report.area if "requant" in item.name)
        parts.append((energy, area))
    assert parts[0][0] < parts[1][0] / 10
    assert parts[0][1] < parts[1][1] / 10


@pytest.mark.parametrize("window", [1, 2, 3, 5, 7, 8])
def test_every_ratio_of_a_network_is_a_power_of_two_and_shifts_give_the_multiplier_s_bits(window):
    network = build_network(window)
    tensors, image = draw(network, window)
    found = quantize(network, tensors, image)
    quants = complete_quants(network, found)
    for name in ("stem", "a", "b", "fc"):
        layer, held = network.layer(name), found.layers[name]
        assert held.w_scale.shape == (1,)
        assert is_power(np.float32(quants[layer.inputs[0]].scale) * held.w_scale / np.float32(quants[name].scale))
    exact = run_integer(network, found, image, requant="shift")
    for name, stored in run_integer(network, found, image).items():
        np.testing.assert_array_equal(stored, exact[name])
    real = run_float(network, tensors, image, keep=("fc",))["fc"]
    error = exact["fc"] * quants["fc"].scale - real
    assert np.std(error) < 0.08 * np.std(real)


def test_an_average_is_folded_into_the_weights_that_read_it():
    """49 elements: a shift by 6; the unit is 64/49 of a power of two, the weights are stored times that."""
    network = build_network(7)
    source = ActQuant(scale=2.0**-5, signed=False)
    folded = fold_average(network, network.layer("pool"), source)
    assert folded.scale == pytest.approx(2.0**-5 * 64 / 49, rel=1e-6)
    weight = np.random.default_rng(1).normal(size=(10, 8))
    found = quantize_fixed_weights(weight, 8, folded.scale)
    assert is_power(np.float32(folded.scale) * found.scale)
    step = float(found.scale[0])
    inside = np.abs(weight / step) < 127
    assert np.abs(found.stored * step - weight)[inside].max() <= 0.51 * step
    even = fold_average(build_network(8), build_network(8).layer("pool"), source)
    assert even == source


def test_an_average_that_an_addition_reads_keeps_its_format():
    net = NetBuilder("n", "t")
    x = net.input((4, 3, 3))
    net.add((net.avgpool(x, "a", 3, stride=3), net.maxpool(x, "m", 3, stride=3)), "sum")
    source = ActQuant(scale=0.25)
    assert fold_average(net.finish(), net.finish().layer("a"), source) == source


@pytest.mark.parametrize(("padding", "include", "folds"), [(0, False, True), (1, False, False), (1, True, True)])
def test_only_an_average_of_equal_windows_is_folded(padding, include, folds):
    """Windows at the border have fewer elements where padding does not count: no one divisor is theirs."""
    net = NetBuilder("n", "t")
    x = net.avgpool(net.input((4, 6, 6)), "a", 3, stride=3, padding=padding, count_include_pad=include)
    net.conv(x, "reader", 2, 1)
    network, source = net.finish(), ActQuant(scale=0.25)
    found = fold_average(network, network.layer("a"), source)
    assert found.scale == pytest.approx(0.25 * (16 / 9 if folds else 1), rel=1e-6)


def test_an_average_that_no_shift_requantizes_keeps_its_format():
    network = build_network(7)
    for policy, folds in (("f8", True), ("w8a8", False)):
        quants = quantize(network, *draw(network), policy).activations
        assert (quants["pool"].scale != quants["sum"].scale) == folds


@pytest.mark.parametrize(
    ("deviation", "low", "bits", "fraction"),
    [
        (1.0, -3.0, 8, 5),
        (1.0, 0.0, 8, 6),
        (1000.0, -1.0, 8, -5),
        (0.001, 0.0, 8, 16),
        (1.0, -3.0, 4, 1),
        (0.0, 0.0, 8, 8),
    ],
)
def test_fractional_lengths_follow_the_rule(deviation, low, bits, fraction):
    """floor(log2(40 / deviation)) signed, of 70 unsigned; moved with the word, not held between 0 and 8."""
    quant = choose_fixed_quant(low, deviation, bits)
    assert (quant.scale, quant.signed, quant.zero_point) == (2.0**-fraction, low < 0, 0)


def test_a_large_bias_shortens_the_fraction_of_the_weights():
    weight, read = np.full((2, 3), 1e-6), 2.0**-8
    weight[0] = -1e-6
    bias = 3.0
    found = quantize_fixed_weights(weight, 8, read, bias / (read * LARGEST_BIAS))
    assert bias / (float(found.scale[0]) * read) <= LARGEST_BIAS
    assert float(quantize_fixed_weights(weight, 8, read).scale[0]) < float(found.scale[0])


def test_native_means_shift_here_and_a_multiplier_on_systolic():
    network = build_network(3)
    tensors, image = draw(network)
    named = {network.inputs[0].name: image}
    for arch, policy, powers in (("fixed8", "w8a8", True), ("systolic", "f8", True), ("systolic", "w8a8", False)):
        formats = parse_policy(policy)
        loads = list_workloads(network, formats)
        found = prepare_tensors(network, find_arch(arch), formats, loads, tensors, named).tensors
        assert (
            all(is_power(quant.scale) for name, quant in found.activations.items() if name not in ("pool", "flatten"))
            == powers
        )


def test_a_trained_network_keeps_its_answers():
    """ResNet-8 of MLPerf Tiny on 20 images of CIFAR-10: 17 dB at the logits, as many right answers as in float."""
    from hwsim.nets.load import load_network

    loaded = load_network(str(reference("mlperf_tiny", "pretrainedResnet.tflite")))
    images, labels = load_cifar10()
    found = measure_fidelity(
        loaded.network, find_arch("fixed8"), Policy(), loaded.tensors, images.astype(np.float32), labels
    )
    assert found.agreement == 1
    assert found.accuracy == 0.95
    assert found.output_sqnr_db == pytest.approx(17.2, abs=0.3)
