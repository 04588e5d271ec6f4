"""Every weight format on a trained network: output SQNR by layer, and the integer model's answers on labelled images.

ResNet-8 of MLPerf Tiny (float), on the first eight CIFAR-10 images of foolbox.
"""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.core.errors import HwsimError, UnknownName
from hwsim.core.policy import Policy
from hwsim.engine.fidelity import (
    measure_layer_sqnr_db,
    measure_network_sqnr_db,
    replace_integers,
    replace_real,
)
from hwsim.engine.functional import calibrate_network, run_float, run_integer
from hwsim.nets.load import load_network
from hwsim.quant.bit_planes import quantize_planes
from hwsim.quant.codebook import quantize_codebook
from hwsim.quant.fixed_point import quantize_fixed
from hwsim.quant.groups import quantize_groups
from hwsim.quant.mixed_channels import choose_channel_bits, quantize_channels
from hwsim.quant.power_of_two import quantize_shift
from hwsim.quant.rows import measure_sqnr_db
from tests.reference import reference
from tests.sample_images import load_cifar10

# name -> (quantizer, its integers and their bits, mean output SQNR of the layers in dB, right answers among eight)
FORMATS = {
    "shift 5": (lambda w: quantize_shift(w, 5, per_channel=True), lambda q: (*q.to_integers(), 16), 13.8, 0),
    "kmeans 4": (lambda w: quantize_codebook(w, 4, "kmeans"), lambda q: (*q.to_integers(), 8), 19.3, 7),
    "mixture 4": (lambda w: quantize_codebook(w, 4), lambda q: (*q.to_integers(), 8), 16.0, 3),
    "fixed 8": (lambda w: quantize_fixed(w, method="search"), lambda q: (*q.to_integers(), 8), 37.2, 7),
    "planes 8": (lambda w: quantize_planes(w, 8), lambda q: (*q.read(8), 8), 43.1, 7),
    "planes 5 of 8": (lambda w: Kept(quantize_planes(w, 8), 5), lambda q: (*q.planes.read(5, True), 6), 20.3, 7),
    "channels 4": (
        lambda w: quantize_channels(w, choose_channel_bits(w, 4.0)),
        lambda q: (*q.to_integers(), 8),
        18.1,
        3,
    ),
    "groups 4": (lambda w: quantize_groups(w, 4, 2), lambda q: (*q.to_integers(), 4), 14.5, 1),
}
"""Figures measured on the network; without training it does not bear four bits of weights."""


class Kept:
    """The first planes of nested weights."""

    def __init__(self, planes, bits):
        self.planes, self.bits = planes, bits

    def dequantize(self):
        return self.planes.dequantize(self.bits, centred=True)


@pytest.fixture(scope="module")
def resnet():
    loaded = load_network(str(reference("mlperf_tiny", "pretrainedResnet.tflite")))
    images, labels = load_cifar10()
    x = images[:8].astype(np.float32)
    quantized = calibrate_network(loaded.network, loaded.tensors, Policy(), x, clipping="mse")
    return loaded.network, loaded.tensors, quantized, x, labels[:8]


@pytest.mark.parametrize("name", FORMATS)
def test_formats_on_a_trained_network(resnet, name):
    """Layer by layer in float, then through the integer model, which stays near the float run of the same weights."""
    network, tensors, quantized, x, labels = resnet
    quantize, integers, mean_db, fewest = FORMATS[name]
    found = {layer.name: quantize(tensors.layers[layer.name].weight) for layer in network.mac_layers}
    real = {key: held.dequantize() for key, held in found.items()}
    by_layer = measure_layer_sqnr_db(network, tensors, real, x[:4])
    assert list(by_layer) == [layer.name for layer in network.mac_layers]
    assert np.mean(list(by_layer.values())) == pytest.approx(mean_db, abs=0.3)
    logits = network.mac_layers[-1].name
    changed = run_float(network, replace_real(network, tensors, real), x, keep=(logits,))[logits]
    ready = replace_integers(network, quantized, tensors, {key: integers(held) for key, held in found.items()})
    stored = run_integer(network, ready, x, keep=(logits,))[logits]
    whole = stored * np.float32(quantized.activations[logits].scale)
    assert measure_sqnr_db(changed, whole) > 17.0
    answers = stored.reshape(len(x), -1).argmax(axis=1)
    assert int((answers == changed.reshape(len(x), -1).argmax(axis=1)).sum()) >= len(x) - 2
    assert int((answers == labels).sum()) >= fewest


def test_network_sqnr_is_that_of_its_outputs(resnet):
    network, tensors, _, x, _ = resnet
    layer = network.mac_layers[0].name
    changed = replace_real(network, tensors, {layer: quantize_planes(tensors.layers[layer].weight, 4).dequantize()})
    out = network.outputs[0]
    exact, found = (run_float(network, held, x[:1], keep=())[out] for held in (tensors, changed))
    wanted = 10 * np.log10(np.square(exact).sum() / np.square(exact - found).sum())
    assert measure_network_sqnr_db(network, tensors, changed, x[:1]) == pytest.approx(wanted, rel=1e-4)


def test_other_shapes_and_layers_are_refused(resnet):
    network, tensors, quantized, x, _ = resnet
    first, second = (layer.name for layer in network.mac_layers[:2])
    with pytest.raises(HwsimError, match="needs float weights"):
        replace_real(network, tensors, {first: tensors.layers[second].weight})
    with pytest.raises(HwsimError, match="needs float weights"):
        replace_real(network, quantized, {first: tensors.layers[first].weight})
    with pytest.raises(UnknownName):
        measure_layer_sqnr_db(network, tensors, {"absent": tensors.layers[first].weight}, x[:1])


def test_a_layer_of_itself_is_exact(resnet):
    network, tensors, _, x, _ = resnet
    own = {network.mac_layers[0].name: tensors.layers[network.mac_layers[0].name].weight}
    assert measure_layer_sqnr_db(network, tensors, own, x[:1]) == {network.mac_layers[0].name: float("inf")}
