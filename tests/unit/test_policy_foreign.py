"""Policies of another model, contradictory ones and oversized ones are told in one line; what fits still comes through."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hwsim.commands import policy as command
from hwsim.core.errors import HwsimError, InputError, SpecError
from hwsim.core.policy import LayerFormat, Policy
from hwsim.nets.load import load_network
from hwsim.policies.native import FORMAT, format_native_json
from hwsim.policies.read import read_policy, resolve_policy
from hwsim.policies.schemes import PolicyFile
from hwsim.policies.targets import check_target, find_target
from tests.extras import load_optional
from tests.policy_models import QonnxGraph, encode_new, encode_old, read_bits, save_float_model, save_json


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.onnx"
    save_float_model(path)
    return path, load_network(path).network


def read_error(path, network, onnx=None):
    with pytest.raises(HwsimError) as caught:
        read_policy(path, network, onnx)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def run_command(*words):
    """Run ``hwsim policy`` in this process."""
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(list(map(str, words)))

    return command.run(args)


def encode_network(network, version):
    """Return AIMET encodings of a network of the zoo, weights by parameter, inputs by the layer that makes them."""
    params = [f"{layer.name}.weight" for layer in network.mac_layers]
    acts = sorted({layer.inputs[0] for layer in network.mac_layers})
    if version == "1.0.0":
        return {
            "version": version,
            "activation_encodings": [encode_new(name, 8) for name in acts],
            "param_encodings": [encode_new(name, 4) for name in params],
        }
    more = {"dtype": "int"} if version == "0.6.1" else {}
    return {
        "version": version,
        "activation_encodings": {name: encode_old(8, **more) for name in acts},
        "param_encodings": {name: encode_old(4, **more) for name in params},
    }


# Names and values of another model.


@pytest.mark.parametrize("version", ["0.4.0", "0.6.1", "1.0.0"])
def test_encodings_of_another_zoo_network_are_refused(tmp_path, version):
    big = load_network("resnet50").network
    path = save_json(tmp_path / "m.json", encode_network(big, version))
    assert set(read_bits(read_policy(path, big), big).values()) == {"w4a8"}
    for other in ("resnet18", "resnet34"):
        said = read_error(path, load_network(other).network)
        assert (
            f"names tensors that {other} has not: 'layer1.0.conv3.weight' (did you mean 'layer1.0.conv2.weight'?)"
            in said
        )
        assert "more" in said


def test_a_mistyped_activation_of_a_zoo_network_is_named(tmp_path):
    network = load_network("resnet18").network
    data = encode_network(network, "1.0.0")
    data["activation_encodings"].append(encode_new("layer2.9.conv1", 8))
    said = read_error(save_json(tmp_path / "m.json", data), network)
    assert "names tensors that resnet18 has not: 'layer2.9.conv1' (did you mean 'layer2." in said


def test_activations_of_an_export_still_fit_beside_the_input(tmp_path):
    network = load_network("resnet18").network
    data = encode_network(network, "0.6.1")
    names = [network.inputs[0].name, "317", "320"]
    data["activation_encodings"] = {name: encode_old(6, dtype="int") for name in names}
    found = read_policy(save_json(tmp_path / "m.json", data), network)
    assert found.policy == Policy(default=LayerFormat(w_bits=4, a_bits=6))
    data["param_encodings"]["layer9.conv.bias"] = encode_old(8, dtype="int")
    assert "'layer9.conv.bias'" in read_error(save_json(tmp_path / "m.json", data), network)


@pytest.mark.parametrize("backend", ["tensorrt", "vitis", "ppl", "snpe"])
def test_ranges_of_unknown_tensors_are_refused(tmp_path, backend):
    network = load_network("resnet18").network
    names = ("conv1", "maxpool", "bogus1", "bogus2")
    data = {
        "tensorrt": {"tensorrt": {"blob_range": dict.fromkeys(names, 1.0)}},
        "vitis": {"vitis": {name: {"scale": 0.5} for name in names}},
        "ppl": {"ppl": {name: {"step": 0.1, "bit": 8} for name in names}},
        "snpe": {"activation_encodings": {name: [{"bitwidth": 8, "min": 0, "max": 1}] for name in names}},
    }[backend]
    said = read_error(save_json(tmp_path / "t.json", data), network)
    assert said == "t.json: names tensors that resnet18 has not: 'bogus1', 'bogus2'"


def test_nodes_and_ranges_of_nnie_are_checked(tmp_path, model):
    path, network = model

    def save(**nodes):
        return save_json(tmp_path / "n.json", {"nnie": {"gfpq_param_dict": nodes}})

    fits = {"conv1": [2.5], "pool": [1.0], "pool_permute_0": [1.0], "conv2": [1, 2.0], "fc": [1.0]}
    assert set(read_bits(read_policy(save(**fits), network, path), network).values()) == {"w8a8"}
    said = read_error(save(conv1=[1.0], conv9=[1.0]), network, path)
    assert said.startswith("n.json: names nodes that net has not: 'conv9' (did you mean 'conv")
    said = read_error(save(conv1="garbage", conv2=[-5], fc=None), network, path)
    for name, value in (("conv1", "garbage"), ("conv2", "[-5]"), ("fc", "None")):
        assert f"{name}: got {value!r}, expected a list of finite ranges" in said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(5, -1, "(5, -1)"), ("a", None, "('a', None)"), (0.0, float("nan"), "(0.0, nan)"), (True, 2, "(True, 2)")],
)
def test_ranges_of_snpe_are_checked(tmp_path, model, low, high, said):
    path, network = model
    data = {"activation_encodings": {"input": [{"bitwidth": 8, "min": low, "max": high}]}, "param_encodings": {}}
    found = read_error(save_json(tmp_path / "s.json", data), network, path)
    assert found == f"s.json: input: got the range {said}, expected finite numbers, the lower first"


# Quantized ONNX of another model.


def save_one_conv(path, channels, kernel, bits=None):
    """Write a model of one convolution ``conv1``, float or with weights and input of some bits."""
    from onnx import TensorProto, helper, save

    graph = QonnxGraph()
    weight = np.random.default_rng(3).normal(0, 0.3, (channels, 3, kernel, kernel)).astype(np.float32)
    x, w = "x", graph.constant(weight, "conv1.weight")
    if bits:
        scales = np.full((channels, 1, 1, 1), 0.1, np.float32)
        x, w = graph.quant("x", np.float32(0.05), bits, "xq"), graph.quant(w, scales, bits, "wq")
    graph.node("Conv", [x, w], "y", name="conv1", kernel_shape=[kernel, kernel])
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    built = helper.make_graph(graph.nodes, "q", [info], [out], graph.constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(graph.domain, 1)]
    save(helper.make_model(built, opset_imports=opsets, ir_version=10), str(path))
    return path


def test_a_quantized_model_of_other_shapes_is_refused(tmp_path):
    load_optional("onnx")
    quantized = save_one_conv(tmp_path / "q.onnx", 6, 3, bits=4)
    other = load_network(save_one_conv(tmp_path / "other.onnx", 16, 5)).network
    assert read_error(quantized, other) == (
        "q.onnx: holds another model than other: layer conv1 has weights 6x3x3x3, expected 16x3x5x5"
    )
    same = load_network(save_one_conv(tmp_path / "same.onnx", 6, 3)).network
    assert read_bits(read_policy(quantized, same), same) == {"conv1": "w4a4"}


def test_encodings_have_the_bits_of_the_policy_that_is_given(tmp_path, capsys):
    load_optional("onnx")
    quantized = save_one_conv(tmp_path / "q.onnx", 6, 3, bits=4)
    with pytest.raises(InputError) as caught:
        run_command("convert", "w3a6", "--net", quantized, "--to", "aimet")
    assert "is quantized already, to other bits than the policy's: conv1 (w4a4, w3a6 has w3a6)" in str(caught.value)
    for words, bits in ((["w4a4"], (4, 4)), (["w3a6", "--weights", "synthetic"], (3, 6))):
        assert run_command("convert", *words, "--net", quantized, "--to", "aimet") == 0
        data = json.loads(capsys.readouterr().out)
        assert (data["param_encodings"][0]["bw"], data["activation_encodings"][0]["bw"]) == bits


# Contradictions.


def test_filters_of_another_layer_are_refused(tmp_path, model):
    path, network = model
    layers = {"conv1": {"w_bits": 8, "channel_bits": [[8, 3], [4, 4]]}}
    file = save_json(tmp_path / "p.json", {"format": FORMAT, "layers": layers})
    with pytest.raises(SpecError, match="conv1: channel_bits: got '7 filters', expected 6, those of the layer"):
        run_command("convert", file, "--net", path)
    fmt = LayerFormat(channel_bits=((8, 3), (4, 4)))
    found = PolicyFile(policy=Policy(layers=(("conv1", fmt),)), kind="", source="")
    assert check_target(found, network, find_target("tensorrt")) == (
        "layer conv1: bits by channel of 7 filters where the layer has 6, TensorRT has one width a layer",
    )


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"w_bits": 4, "weight": {"bits": 8}}, "w_bits is 4 and weight is 8 bits, which contradict each other"),
        ({"a_bits": 4, "activation": {"bits": 8}}, "a_bits is 4 and activation is 8 bits"),
        ({"w_bits": 4, "weight": None}, "w_bits is 4 and weight is null (not quantized)"),
        ({"w_bits": 4, "weight": []}, "weight is no object with bits"),
    ],
)
def test_bits_that_contradict_each_other_are_refused(tmp_path, model, entry, said):
    file = save_json(tmp_path / "p.json", {"format": FORMAT, "layers": {"conv1": entry}})
    assert f"$.layers.conv1{'.' if 'object' in said else ': '}{said}" in read_error(file, model[1])


def test_what_a_layer_leaves_open_has_the_bits_of_the_policy(tmp_path, model):
    network = model[1]
    layers = {"conv1": {"weight": {"bits": 8, "symmetric": True}}, "fc": {"activation": {"bits": 4}}}
    found = read_policy(save_json(tmp_path / "p.json", {"format": FORMAT, "layers": layers}), network)
    assert read_bits(found, network) == {"conv1": "w8a8", "conv2": "w8a8", "fc": "w8a4"}
    assert check_target(found, network, find_target("tensorrt")) == ("layer fc: input 4 bits, expected 8",)


def test_a_tensor_that_is_not_quantized_stays_so_when_written(tmp_path, model):
    path, network = model
    data = {
        "version": "1.0.0",
        "activation_encodings": [encode_new(name, 8) for name in ("r1", "r2")],
        "param_encodings": [
            encode_new(f"{name}.weight", bits) for name, bits in (("conv1", 8), ("conv2", 32), ("fc", 8))
        ],
    }
    found = read_policy(save_json(tmp_path / "m.json", data), network, path)
    (tmp_path / "p.json").write_text(format_native_json(found, network))
    again = read_policy(tmp_path / "p.json", network)
    assert dict(again.schemes) == dict(found.schemes)
    assert read_bits(again, network) == read_bits(found, network)
    problems = check_target(again, network, find_target("tensorrt"))
    assert problems == check_target(found, network, find_target("tensorrt"))
    assert problems[0] == "layer conv1: input not quantized, expected 8 bits"


# Sizes.


def test_oversized_cells_and_integers_take_one_line(tmp_path, model):
    (tmp_path / "huge.csv").write_text("layer,w_bits\nconv1," + '"' + "9" * 200_000 + '"\n')
    assert read_error(tmp_path / "huge.csv", model[1]) == "huge.csv: is no CSV: field larger than field limit (131072)"
    save_json(tmp_path / "hi.json", {"format": FORMAT, "layers": {"conv1": {"w_bits": 77}}})
    (tmp_path / "hi.json").write_text((tmp_path / "hi.json").read_text().replace("77", "9" * 5000))
    assert read_error(tmp_path / "hi.json", model[1]) == "hi.json: holds an integer of more than 4,300 digits"
    (tmp_path / "cell.csv").write_text(f"layer,w_bits\nconv1,{'9' * 5000}\n")
    assert len(read_error(tmp_path / "cell.csv", model[1])) < 300
    assert resolve_policy("w4a8", model[1]).policy.short == "w4a8"


def write_npy(path, shape, kind="<i8", body=b""):
    """Write an array whose header says one thing and whose body holds another."""
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body)
    return path


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ("(100000000000, 2)", "is an array [100000000000, 2] of int64, expected integers [L] or [L, 2]"),
        (f"({'9' * 80},)", "is an array [999999999999...] of int64, expected integers [L] or [L, 2]"),
        ("(-1, 2)", "is an array [-1, 2] of int64, expected integers [L] or [L, 2]"),
        ("()", "is an array [] of int64, expected integers [L] or [L, 2]"),
        ("(10, 2)", "is cut off: an array [10, 2] of int64 has 160 bytes, it has 8"),
    ],
)
def test_arrays_are_as_large_as_their_file(tmp_path, shape, said):
    network = load_network("resnet8").network
    file = write_npy(tmp_path / "s.npy", shape, body=bytes(8))
    assert read_error(file, network) == f"s.npy: {said}"


@pytest.mark.parametrize("header", ["(((((((", "(" * 5000, "x" * 20_000, "-" * 9000 + "1", "{[]: 1}", "  a\n b"])
def test_damaged_headers_of_arrays_take_one_line(tmp_path, header):
    (tmp_path / "s.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    said = read_error(tmp_path / "s.npy", load_network("resnet8").network)
    assert said.startswith("s.npy: is no array: ")
    assert 30 < len(said) < 200


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<i8", ">i2", "u1"])
def test_arrays_of_either_order_and_type_are_read(tmp_path, order, kind):
    network = load_network("resnet8").network
    pairs = [[8, 7], *([w, 9 - w] for w in (1, 2, 3, 4, 5, 6, 7, 8)), [3, 3]]
    np.save(tmp_path / "s.npy", np.array(pairs, kind, order=order))
    found = read_policy(tmp_path / "s.npy", network)
    assert list(read_bits(found, network).values()) == [f"w{w}a{a}" for w, a in pairs]
