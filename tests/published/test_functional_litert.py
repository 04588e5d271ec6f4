"""The integer model in mode ``tflite`` equals LiteRT's reference kernels on MLPerf Tiny's int8 files: every element of every layer.

Equal outputs are equal accuracy on any data set; the CIFAR-10 images at hand show it for ResNet-8. The multiplier-and-shift
mode rounds once where TensorFlow Lite rounds twice: its answers are compared too.
"""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.engine.functional import run_integer
from hwsim.nets.load import load_network
from hwsim.nets.registry import find_network
from hwsim.quant.requant import combine_scales
from tests.litert_models import open_lite
from tests.reference import reference
from tests.sample_images import load_cifar10

FILES = {
    "resnet8": "pretrainedResnet_quant.tflite",
    "ds_cnn": "kws_ref_model.tflite",
    "mobilenet_v1_0.25_96": "vww_96_int8.tflite",
}


def open_network(name):
    return open_lite(reference("mlperf_tiny", FILES[name]), find_network(name))


def draw_inputs(lite, count, seed=5):
    """Return int8 inputs: noise over all codes, and smooth fields as images and spectrograms are."""
    shape = lite.network.inputs[0].shape
    rng = np.random.default_rng(seed)
    for index in range(count):
        if index % 2:
            yield rng.integers(-128, 128, shape).astype(np.int8)
        else:
            walk = np.cumsum(np.cumsum(rng.normal(0, 4, shape), axis=2), axis=3)
            yield np.clip(walk - walk.mean(), -128, 127).astype(np.int8)


@pytest.mark.parametrize("name", FILES)
def test_every_element_of_every_layer_equals_the_reference_kernels(name):
    lite = open_network(name)
    for stored in draw_inputs(lite, 4):
        expected, found = lite.run(stored), run_integer(lite.network, lite.tensors, stored, "tflite")
        for layer in lite.network.layers:
            wrong = int((found[layer.name] != expected[layer.name]).sum())
            if layer.op == "softmax":  # a table of fixed-point exponentials there, float32 here
                assert np.abs(found[layer.name].astype(int) - expected[layer.name]).max() <= 1
            else:
                assert wrong == 0, f"{layer.name}: {wrong} elements differ"


@pytest.mark.parametrize("name", FILES)
def test_imported_file_gives_the_same_outputs(name):
    lite = open_network(name)
    loaded = load_network(reference("mlperf_tiny", FILES[name]))
    last = loaded.network.mac_layers[-1].name
    for stored in draw_inputs(lite, 2, seed=6):
        found = run_integer(loaded.network, loaded.tensors, stored, "tflite")[last]
        assert np.array_equal(found.ravel(), lite.run(stored)["dense"].ravel())


@pytest.mark.parametrize("name", FILES)
def test_first_layer_by_one_rounding_is_within_one_of_two_roundings(name):
    """TensorFlow Lite's result is the exact product rounded to a multiple of a half or finer, then to an integer: at most one
    from the product rounded once."""
    lite = open_network(name)
    first = lite.network.layers[0]
    for stored in draw_inputs(lite, 2, seed=7):
        found = run_integer(lite.network, lite.tensors, stored, "mulshift", keep=(first.name,))[first.name]
        assert np.abs(found.astype(int) - lite.run(stored)[first.name]).max() <= 1
    held, quants = lite.tensors.layers[first.name], lite.tensors.activations
    ratio = combine_scales(quants["input"].scale, held.w_scale, divisor=quants[first.name].scale)
    assert ratio.max() < 0.5  # the shift behind the high multiply is at least one bit


def test_resnet8_keeps_its_accuracy():
    lite = open_network("resnet8")
    images, labels = load_cifar10()
    stored = (images.astype(int) + lite.tensors.activations["input"].zero_point).astype(np.int8)
    expected = np.array([lite.run(image[None])["dense"].argmax() for image in stored])
    answers = {
        mode: run_integer(lite.network, lite.tensors, stored, mode)["dense"].reshape(len(images), -1).argmax(axis=1)
        for mode in ("tflite", "mulshift", "float")
    }
    assert np.array_equal(answers["tflite"], expected)
    right = int((expected == labels).sum())
    assert right == 18
    for mode in ("mulshift", "float"):
        assert int((answers[mode] == labels).sum()) >= right
        assert int((answers[mode] == expected).sum()) >= 19


def test_ds_cnn_keeps_its_answers():
    """Equal integers are equal accuracy, whatever the words. Rounding once instead of twice changes an answer only
    where LiteRT's two best outputs are a few steps apart: agreed band, 57 of 60."""
    lite = open_network("ds_cnn")
    inputs = list(draw_inputs(lite, 60, seed=8))
    expected = np.array([lite.run(stored)["dense"].argmax() for stored in inputs])
    batch = np.concatenate(inputs)
    by_tflite, by_shift = (
        run_integer(lite.network, lite.tensors, batch, mode, keep=("dense",))["dense"].reshape(60, -1).astype(int)
        for mode in ("tflite", "mulshift")
    )
    assert len(set(expected.tolist())) >= 3, "the inputs do not tell the words apart"
    assert np.array_equal(by_tflite.argmax(axis=1), expected)
    assert (by_shift.argmax(axis=1) == expected).sum() >= 57
