"""MQBench files that hold weights and activations side by side: a name that both could have is the activation's."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.core.errors import InputError
from hwsim.nets.load import load_network
from hwsim.policies.read import read_policy
from tests.extras import load_optional
from tests.policy_models import read_bits, save_float_model, save_json

onnx = load_optional("onnx")


@pytest.fixture
def unnamed(tmp_path):
    """Conv(x, w1) -> t1, Conv(t1, w2) -> y, w2 a copy of a constant; nodes have no names: the network calls them by result."""
    rng = np.random.default_rng(2)
    weights = {"w1": rng.normal(size=(4, 3, 3, 3)), "stored": rng.normal(size=(5, 4, 1, 1))}
    nodes = [
        onnx.helper.make_node("Identity", ["stored"], ["w2"]),
        onnx.helper.make_node("Conv", ["x", "w1"], ["t1"], kernel_shape=[3, 3]),
        onnx.helper.make_node("Conv", ["t1", "w2"], ["y"], kernel_shape=[1, 1]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    path = tmp_path / "cc.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10), str(path))
    return path, load_network(path).network


def make_entries(backend, names):
    entry = {"scale": 0.125} if backend == "vitis" else {"step": 0.125, "bit": 16}
    return dict.fromkeys(names, entry)


@pytest.mark.parametrize(("backend", "short"), [("ppl", "w8a16"), ("vitis", "w8a8")])
def test_results_of_unnamed_nodes_are_activations(tmp_path, unnamed, backend, short):
    path, network = unnamed
    file = save_json(tmp_path / "c.json", {backend: make_entries(backend, ("x", "t1", "y"))})
    found = read_policy(file, network, path)
    assert read_bits(found, network) == {"t1": short, "y": short}
    assert [note.split(", by")[0] for note in found.notes] == [f"weights of {found.kind[19:]} have 8 bits"]


@pytest.mark.parametrize(("backend", "short"), [("ppl", "w4a16"), ("vitis", "w8a8")])
def test_weights_of_unnamed_nodes_are_named_by_their_tensor(tmp_path, unnamed, backend, short):
    path, network = unnamed
    entries = make_entries(backend, ("x", "t1", "y"))
    entries |= dict.fromkeys(("w1", "w2"), {"scale": 0.5} if backend == "vitis" else {"step": 0.5, "bit": 4})
    found = read_policy(save_json(tmp_path / "c.json", {backend: entries}), network, path)
    assert read_bits(found, network) == {"t1": short, "y": short}
    assert found.notes == ()


@pytest.mark.parametrize("weights", [True, False])
def test_a_vitis_file_of_a_zoo_network_has_eight_bits(tmp_path, weights):
    network = load_network("resnet8").network
    names = [network.inputs[0].name, *(layer.name for layer in network.layers)]
    names += [f"{layer.name}.weight" for layer in network.mac_layers] if weights else []
    file = save_json(tmp_path / "v.json", {"vitis": make_entries("vitis", names)})
    found = read_policy(file, network)
    assert set(read_bits(found, network).values()) == {"w8a8"}
    assert any("weights of Vitis AI have 8 bits" in note for note in found.notes) is not weights


def test_a_step_per_channel_is_a_weights_also_under_the_name_of_a_layer(tmp_path):
    """deploy_linear.py writes lists for weights alone."""
    network = load_network("resnet8").network
    names = [network.inputs[0].name, *(layer.name for layer in network.layers)]
    channels = network.layer("dense").K
    entries = make_entries("ppl", names) | {"dense": {"step": [0.5] * channels, "bit": 4}}
    found = read_policy(save_json(tmp_path / "p.json", {"ppl": entries}), network)
    assert found.policy.of("dense").short == "w4a16"
    assert found.scheme_of("dense").weight.per_channel is True
    entries["add"] = {"step": [0.5] * 16, "bit": 8}
    with pytest.raises(InputError) as caught:
        read_policy(save_json(tmp_path / "p.json", {"ppl": entries}), network)
    assert str(caught.value) == "p.json: add: a step per channel for an activation, which has one"


@pytest.mark.parametrize("backend", ["tensorrt", "ppl", "vitis", "snpe", "ppl-cuda"])
def test_bits_of_weights_that_a_file_does_not_name_are_told(tmp_path, backend):
    path = tmp_path / "net.onnx"
    save_float_model(path)
    network, names = load_network(path).network, ("input", "r1", "r2")
    data = {
        "tensorrt": {"tensorrt": {"blob_range": dict.fromkeys(names, 1.0)}},
        "ppl": {"ppl": make_entries("ppl", names)},
        "vitis": {"vitis": make_entries("vitis", names)},
        "snpe": {"activation_encodings": {name: [{"bitwidth": 8, "min": 0, "max": 1}] for name in names}},
        "ppl-cuda": {"ppl-cuda": dict.fromkeys(names, 1.0)},
    }[backend]
    found = read_policy(save_json(tmp_path / "r.json", data), network, path)
    assert [note.split(", by")[0] for note in found.notes] == [f"weights of {found.kind[19:]} have 8 bits"]


def test_a_tensor_that_ppl_cuda_names_twice_is_told(tmp_path, unnamed):
    path, network = unnamed
    (tmp_path / "c.txt").write_text("x: 1.0\nt1: 2.0\nx: 3.0\n")
    with pytest.raises(InputError) as caught:
        read_policy(tmp_path / "c.txt", network, path)
    assert str(caught.value) == "c.txt: line 3 names 'x' again"
