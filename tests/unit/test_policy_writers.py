"""What is written for other tools: AIMET encodings that mean the same numbers, ONNX copies that compute the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hwsim.core.errors import InputError
from hwsim.engine.functional import calibrate_network
from hwsim.nets.load import load_network
from hwsim.pipeline import simulate
from hwsim.policies.aimet_write import format_aimet
from hwsim.policies.annotate import annotate_onnx
from hwsim.policies.names import list_names
from hwsim.policies.read import read_policy, resolve_policy
from hwsim.quant.uniform import dequantize_activation, quantize_activation
from tests.extras import load_optional
from tests.policy_models import save_float_model

onnx = load_optional("onnx")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A calibrated network at w5a6 with exceptions, and its encodings."""
    path = tmp_path_factory.mktemp("m") / "net.onnx"
    save_float_model(path)
    loaded = load_network(path)
    policy = resolve_policy("w5a6,conv2=w4a8,fc=w8a4", loaded.network).policy
    x = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    tensors = calibrate_network(loaded.network, loaded.tensors, policy, x)
    text, notes = format_aimet(loaded.network, tensors, list_names(loaded.network, path))
    return path, loaded.network, policy, tensors, json.loads(text), notes


def test_encodings_read_back_as_the_policy(written, tmp_path):
    path, network, policy, _, data, _ = written
    (tmp_path / "m.encodings").write_text(json.dumps(data))
    found = read_policy(tmp_path / "m.encodings", network, path)
    for layer in network.mac_layers:
        assert found.policy.of(layer.name).w_bits == policy.of(layer.name).w_bits
        assert found.policy.of(layer.name).a_bits >= policy.of(layer.name).a_bits
    assert found.scheme_of("conv1").weight.per_channel is True


def test_names_are_those_of_the_graph_and_keys_those_of_aimet(written):
    """The keys are those that aimet_onnx exports (test_qc_quantize_op.py, test_quantsim.py at c51b284b)."""
    data = written[4]
    assert set(data) == {"version", "activation_encodings", "param_encodings", "excluded_layers"}
    assert [entry["name"] for entry in data["param_encodings"]] == ["conv1.weight", "conv2.weight", "fc.weight"]
    assert [entry["name"] for entry in data["activation_encodings"]] == ["input", "p1", "f"]
    for entry in (*data["param_encodings"], *data["activation_encodings"]):
        assert set(entry) == {"name", "enc_type", "dtype", "bw", "is_sym", "scale", "offset"}


def test_encodings_give_the_weights_of_the_quantizer(written):
    """real = scale * (q + offset), q from 0 to 2**bw - 1, is AIMET's definition; round to the nearest step."""
    _, network, _, tensors, data, _ = written
    originals = {init.name: onnx.numpy_helper.to_array(init) for init in onnx.load(str(written[0])).graph.initializer}
    for layer, entry in zip(network.mac_layers, data["param_encodings"], strict=True):
        held = tensors.layers[layer.name]
        weight = originals[entry["name"]].reshape(len(held.weight), -1).astype(np.float32)
        scale = np.array(entry["scale"], np.float32).reshape(-1, 1)
        offset = np.array(entry["offset"]).reshape(-1, 1)
        steps = np.clip(np.rint(weight / scale) - offset, 0, 2 ** entry["bw"] - 1)
        stored = held.weight.reshape(len(held.weight), -1)
        np.testing.assert_array_equal(steps + offset, stored)


def test_encodings_give_the_activations_of_the_quantizer(written):
    tensors, entry = written[3], written[4]["activation_encodings"][0]
    quant = tensors.activations["input"]
    values = np.linspace(-4, 4, 501).astype(np.float32)
    scale, offset = np.float32(entry["scale"][0]), entry["offset"][0]
    steps = np.clip(np.rint(values / scale) - offset, 0, 2 ** entry["bw"] - 1)
    np.testing.assert_allclose(
        (steps + offset) * scale, dequantize_activation(quantize_activation(values, quant), quant), rtol=1e-6
    )


def test_narrow_widths_are_noted(written):
    path, network = written[:2]
    policy = resolve_policy("w2a8", network).policy
    x = np.ones((1, 3, 8, 8), np.float32)
    tensors = calibrate_network(network, load_network(path).tensors, policy, x)
    _, notes = format_aimet(network, tensors, list_names(network, path))
    assert any("widths from 4 bits on" in note and "conv1" in note for note in notes)
    with pytest.raises(InputError, match="layer conv1 is not quantized"):
        format_aimet(network, load_network(path).tensors, list_names(network, path))


# Annotated ONNX.


def test_annotated_copy_computes_the_same_and_carries_the_report(tmp_path):
    ort = load_optional("onnxruntime")
    path, copy = tmp_path / "net.onnx", tmp_path / "copy.onnx"
    save_float_model(path)
    report = simulate(str(path), "systolic", policy="w4a8,fc=w8a8")
    notes = annotate_onnx(path, report, copy)
    model = onnx.load(str(copy))
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 10
    rows = {row.name: row for row in report.layers}
    nodes = {node.name: {e.key: e.value for e in node.metadata_props} for node in model.graph.node}
    for name in ("conv1", "conv2", "fc", "pool"):
        assert int(nodes[name]["hwsim.cycles"]) == rows[name].stats.cycles
        assert float(nodes[name]["hwsim.energy_pj"]) == pytest.approx(rows[name].energy_pj, rel=1e-5)
        assert nodes[name]["hwsim.bound"] == rows[name].stats.bound
    assert (nodes["conv1"]["hwsim.bits"], nodes["fc"]["hwsim.bits"]) == ("w4a8", "w8a8")
    assert nodes["relu1"] == {}
    assert notes == ("5 nodes annotated; 2 have no row of their own (constants, or folded into another)",)
    total = {e.key: e.value for e in model.metadata_props}
    assert int(total["hwsim.cycles"]) == report.cycles == sum(int(n.get("hwsim.cycles", 0)) for n in nodes.values())
    x = {"input": np.random.default_rng(2).normal(size=(1, 3, 8, 8)).astype(np.float32)}
    outputs = [ort.InferenceSession(str(p), providers=["CPUExecutionProvider"]).run(None, x)[0] for p in (path, copy)]
    np.testing.assert_array_equal(*outputs)


def test_a_second_annotation_replaces_the_first(tmp_path):
    path, once, twice = (tmp_path / name for name in ("net.onnx", "a.onnx", "b.onnx"))
    save_float_model(path)
    report = simulate(str(path), "systolic")
    annotate_onnx(path, report, once)
    annotate_onnx(once, report, twice)
    assert once.read_bytes() == twice.read_bytes()


def test_newer_operator_sets_are_lowered(tmp_path):
    path, copy = tmp_path / "net.onnx", tmp_path / "copy.onnx"
    save_float_model(path)
    model = onnx.load(str(path))
    model.opset_import[0].version = 23
    onnx.save(model, str(path))
    annotate_onnx(path, simulate(str(path), "systolic"), copy)
    assert onnx.load(str(copy)).opset_import[0].version == 21


def test_copies_that_cannot_be_are_refused(tmp_path):
    path = tmp_path / "net.onnx"
    save_float_model(path)
    report = simulate(str(path), "systolic")
    before = path.read_bytes()
    with pytest.raises(InputError, match="is the model itself"):
        annotate_onnx(path, report, path)
    with pytest.raises(InputError, match="is not the model of the report: it has no node for layer conv2d of resnet8"):
        annotate_onnx(path, simulate("resnet8", "systolic"), tmp_path / "c.onnx")
    with pytest.raises(InputError, match="cannot be written"):
        annotate_onnx(path, report, tmp_path / "no" / "c.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x0a\x3a\xff")
    with pytest.raises(InputError, match="is not an ONNX file"):
        annotate_onnx(tmp_path / "bad.onnx", report, tmp_path / "c.onnx")
    assert path.read_bytes() == before
    assert not Path(tmp_path / "c.onnx").exists()
