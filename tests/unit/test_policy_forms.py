"""Policies in hwsim's own forms and in quantized ONNX, what is no policy, and targets that one is checked against."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from hwsim.core.errors import InputError, SpecError, UnknownName
from hwsim.nets.load import load_network
from hwsim.policies.native import FORMAT, format_native_csv, format_native_json
from hwsim.policies.read import read_policy, resolve_policy
from hwsim.policies.targets import TARGETS, check_target, find_target
from tests.policy_models import QonnxGraph, make_encodings, read_bits, save_float_model, save_json


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.onnx"
    save_float_model(path)
    return path, load_network(path).network


# Native.


def test_native_forms_come_back_as_they_were(tmp_path, model):
    path, network = model
    found = read_policy(save_json(tmp_path / "m.encodings", make_encodings("1.0.0")), network, path)
    json_file, csv_file = tmp_path / "p.json", tmp_path / "p.csv"
    json_file.write_text(format_native_json(found, network))
    csv_file.write_text(format_native_csv(found, network))
    again = read_policy(json_file, network)
    assert dict(again.schemes) == dict(found.schemes)
    for file in (json_file, csv_file):
        read = read_policy(file, network)
        assert all(read.policy.of(layer.name) == found.policy.of(layer.name) for layer in network.layers)
        assert read.policy.default == found.policy.default
    assert format_native_json(again, network).split('"default"')[1] == json_file.read_text().split('"default"')[1]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"layers": {"conv3": {"w_bits": 4}}}, UnknownName, "unknown layer in the policy 'conv3': did you mean conv"),
        ({"layers": {"conv1": {"wbits": 4}}}, InputError, "unknown field `$.layers.conv1.wbits`"),
        ({"layers": {"conv1": {"w_bits": 40}}}, InputError, "$.layers.conv1: policy.w_bits: got 40"),
        ({"layers": {"conv1": {"w_bits": "4"}}}, InputError, "policy.w_bits: got '4'"),
        (
            {"layers": {"conv1": {"weight": {"symmetric": 1}}}},
            InputError,
            "$.layers.conv1.weight is no object with bits",
        ),
        ({"format": "hwsim.policy/9"}, InputError, "has the format 'hwsim.policy/9', expected 'hwsim.policy/1'"),
        ({"layer": {}}, InputError, "unknown field `$.layer`"),
    ],
)
def test_bad_native_json_is_named(tmp_path, model, data, error, message):
    with pytest.raises(error) as caught:
        read_policy(save_json(tmp_path / "p.json", {"format": FORMAT} | data), model[1])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer,bits\nconv1,4\n", "has the columns 'layer', 'bits', expected layer and any of w_bits"),
        ("layer,w_bits,w_bits\nconv1,4,5\n", "has the column w_bits twice"),
        ("layer\n", "has the column layer alone, expected any of w_bits"),
        ("layer\nconv1\n", "has the column layer alone"),
        ("layer,w_bits\n", "has no line below its columns"),
        ("layer,w_bits\nconv1\n", "line 2 has 1 columns, expected 2"),
        ("layer,w_bits\nconv1,4\nconv1,5\n", "line 3 names 'conv1' again"),
        ("layer,w_bits\nconv1,four\n", "policy.w_bits: got 'four'"),
    ],
)
def test_bad_csv_is_named(tmp_path, model, text, message):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_policy(tmp_path / "p.csv", model[1])
    assert message in str(caught.value)


def test_csv_default_and_missing_columns(tmp_path, model):
    (tmp_path / "p.csv").write_text("layer,w_bits\n*,3\nfc,8\n")
    found = read_policy(tmp_path / "p.csv", model[1])
    assert read_bits(found, model[1]) == {"conv1": "w3a8", "conv2": "w3a8", "fc": "w8a8"}


# Quantized ONNX, detection, refusals.


def test_qonnx_gives_the_formats_of_the_same_network(tmp_path):
    imported = QonnxGraph().build(tmp_path / "q.onnx")
    found = read_policy(tmp_path / "q.onnx", imported.network)
    assert read_bits(found, imported.network) == {"stem": "w3a8", "dw": "w2a4", "fc": "w1a6"}
    scheme = found.scheme_of("dw")
    assert (scheme.weight.per_channel, scheme.weight.symmetric, scheme.weight.power_of_two) == (True, True, False)


def test_qonnx_of_another_network_is_refused(tmp_path, model):
    QonnxGraph().build(tmp_path / "q.onnx")
    with pytest.raises(InputError, match="holds another model: 2 of the 3 layers of net are not in it"):
        read_policy(tmp_path / "q.onnx", model[1])
    with pytest.raises(InputError, match="quantizes no weights"):
        read_policy(model[0], model[1])


def test_pickles_are_refused_whatever_they_are_called(tmp_path, model):
    payloads = {f"p{protocol}": pickle.dumps([[8, 8]], protocol) for protocol in (0, 2, 4, 5)}
    for name, data in payloads.items():
        for suffix in (".pkl", ".json", ".policy"):
            file = tmp_path / f"{name}{suffix}"
            file.write_bytes(data)
            with pytest.raises(InputError, match="is a pickle, which can run code"):
                read_policy(file, model[1])
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="holds pickled objects"):
        read_policy(tmp_path / "o.npy", model[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n", "is no policy of a known form"),
        ('{\n "a": }', "is no JSON: Expecting value in line 2"),
        ('{"a": 1}', "is JSON of no known form"),
        ('{"tensorrt": 1, "tensorrt": 2}', "names 'tensorrt' twice"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_other_files_are_told_apart(tmp_path, model, text, message):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_policy(tmp_path / "p.json", model[1])
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_short_strings_and_absent_files(model):
    network = model[1]
    assert resolve_policy("w4a8,fc=w8a8", network).policy.of("fc").short == "w8a8"
    with pytest.raises(InputError, match="cannot be read: No such file"):
        resolve_policy("absent.json", network)
    with pytest.raises(SpecError, match="a string like w4a8"):
        resolve_policy("w4b8", network)
    with pytest.raises(SpecError, match="got 'w4a8,w5a8', expected one default, others as layer=w4a8"):
        resolve_policy("w4a8,fc=w8a8,w5a8", network)
    with pytest.raises(UnknownName, match="did you mean conv"):
        resolve_policy("w4a8,conv9=w8a8", network)


# Targets.


def test_targets_name_what_they_cannot_run(model):
    network = model[1]
    found = resolve_policy("w8a8,fc=w4a8", network)
    assert check_target(found, network, find_target("TensorRT")) == ("layer fc: weights 4 bits, expected 8",)
    assert check_target(resolve_policy("w8a16", network), network, find_target("ppl")) == ()
    with pytest.raises(UnknownName, match="did you mean vitis"):
        find_target("vits")


def test_every_target_is_there_with_its_source():
    assert {"tensorrt", "snpe", "acl", "tvm", "vitis", "nnie", "openvino", "ppl"} <= set(TARGETS)
    assert all("MQBench" in target.source for target in TARGETS.values())
    assert "unverified" in TARGETS["acl"].source
