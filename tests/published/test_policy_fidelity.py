"""Policies from float weights to answers: ResNet-8 of MLPerf Tiny on the labelled CIFAR-10 images at hand, no training."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.core.errors import HwsimError
from hwsim.core.policy import LayerFormat, Policy
from hwsim.core.tensors import ActQuant
from hwsim.engine.functional import run_integer
from hwsim.nets.load import load_network
from hwsim.pipeline.fidelity import measure_fidelity
from hwsim.pipeline.tensors import prepare_tensors
from hwsim.pipeline.workloads import list_workloads
from tests.reference import reference
from tests.sample_images import load_cifar10
from tests.unit.test_weight_storage import READER

IMAGES = 4


@pytest.fixture(scope="module")
def resnet():
    loaded = load_network(str(reference("mlperf_tiny", "pretrainedResnet.tflite")))
    images, labels = load_cifar10()
    return loaded.network, loaded.tensors, images[:IMAGES].astype(np.float32), labels[:IMAGES]


def mix(layer) -> LayerFormat:
    """A quarter of the filters at 8 bits, a quarter at 4, the others at 6."""
    filters = layer.G * layer.K
    quarter = filters // 4
    return LayerFormat(channel_bits=((8, quarter), (6, filters - 2 * quarter), (4, quarter)))


# format -> (mean output SQNR of the layers in dB, right answers of 4): measured here, changed on purpose only
FOUND = {
    "dense": (LayerFormat(), 43.1, 3),
    "shift": (LayerFormat(scale="shift"), 33.9, 3),
    "planes 5": (LayerFormat(w_bits=5, codec="bit-planes"), 25.2, 3),
    "codebook 6": (LayerFormat(w_bits=6, codec="codebook"), 30.5, 3),
    "power-of-two 5": (LayerFormat(w_bits=5, codec="power-of-two"), 13.7, 0),
    "channels": (None, 27.1, 3),
}


@pytest.mark.parametrize("name", FOUND)
def test_policies_on_a_trained_network(resnet, name):
    network, tensors, x, labels = resnet
    fmt, mean_db, fewest = FOUND[name]
    policy = (
        Policy(default=fmt) if fmt else Policy(layers=tuple((layer.name, mix(layer)) for layer in network.mac_layers))
    )
    found = measure_fidelity(network, READER, policy, tensors, x, labels)
    assert [layer for layer, _ in found.layer_sqnr_db] == [layer.name for layer in network.mac_layers]
    assert found.mean_sqnr_db == pytest.approx(mean_db, abs=0.4)
    assert found.accuracy * IMAGES >= fewest
    assert len(found.answers) == IMAGES
    if fewest:
        assert found.agreement >= 3 / IMAGES
        assert found.output_sqnr_db > 10


def test_shifts_requantize_alike_by_multiplier_and_by_shift(resnet):
    """Scales of powers of two: the multiplier is one itself, and the two roads agree on every output."""
    network, tensors, x, _ = resnet
    policy = Policy(default=LayerFormat(scale="shift"))
    image = {network.inputs[0].name: x[:2]}
    prepared = prepare_tensors(network, READER, policy, list_workloads(network, policy), tensors, image).tensors
    for layer in network.mac_layers:
        held = prepared.layers[layer.name]
        assert (np.frexp(held.w_scale)[0] == 0.5).all()
        assert np.frexp(prepared.activations[layer.inputs[0]].scale)[0] == 0.5
    convolutions = [layer.name for layer in network.mac_layers][:-1]
    by_multiplier, by_shift = (
        run_integer(network, prepared, image, mode, keep=convolutions) for mode in ("mulshift", "shift")
    )
    for name in convolutions:
        np.testing.assert_array_equal(by_multiplier[name], by_shift[name])


def test_bipolar_activations_are_refused_not_run_wrong(resnet):
    network, tensors, x, _ = resnet
    image = {network.inputs[0].name: x[:1]}
    prepared = prepare_tensors(network, READER, Policy(), list_workloads(network, Policy()), tensors, image).tensors
    first = network.mac_layers[0].name
    prepared.activations[first] = ActQuant(scale=0.1, bits=1)
    with pytest.raises(
        HwsimError, match=f"tensor {first}: bipolar activations, -1 and \\+1 in a bit, are priced but not run"
    ):
        run_integer(network, prepared, image)


def test_formats_that_an_architecture_has_not_are_refused_before_anything_runs(resnet):
    from hwsim.archs.registry import find_arch

    network, tensors, x, _ = resnet
    with pytest.raises(HwsimError, match="codec: got 'codebook', expected dense on systolic"):
        measure_fidelity(network, find_arch("systolic"), Policy(default=LayerFormat(codec="codebook")), tensors, x)
