"""Policies of other tools, as those tools write them: bits arrive at the right layers, bad files are told in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hwsim.core.errors import InputError
from hwsim.core.policy import LayerFormat, Policy
from hwsim.nets.load import load_network
from hwsim.policies.read import read_policy
from hwsim.policies.targets import TARGETS, check_target
from tests.policy_models import encode_new, encode_old, make_encodings, read_bits, save_float_model, save_json
from tests.reference import reference

# finetune.py of github.com/mit-han-lab/haq (commit 8228d12), line 316: MobileNetV2, ratio 0.6.
HAQ_STRATEGY = [
    *([8, -1], [7, 7], [5, 6], [4, 6], [5, 6], [5, 7], [5, 6], [7, 4], [4, 6], [4, 6], [7, 7], [5, 6], [4, 6], [7, 3]),
    *([5, 7], [4, 7], [7, 3], [5, 7], [4, 7], [7, 7], [4, 7], [4, 7], [6, 4], [6, 7], [4, 7], [7, 4], [6, 7], [5, 7]),
    *([7, 4], [6, 7], [5, 7], [7, 4], [6, 7], [6, 7], [6, 4], [5, 7], [6, 7], [6, 4], [5, 7], [6, 7], [7, 7], [4, 7]),
    *([7, 7], [7, 7], [4, 7], [7, 7], [7, 7], [4, 7], [7, 7], [7, 7], [4, 7], [7, 7], [8, 8]),
]


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.onnx"
    save_float_model(path)
    return path, load_network(path).network


# HAQ.


def test_released_haq_strategy_has_the_published_cost(tmp_path):
    """The strategy of ratio 0.6, priced by HAQ's own table; the first activation is the image's 8 bits."""
    network = load_network("mobilenet_v2").network
    found = read_policy(save_json(tmp_path / "s.json", HAQ_STRATEGY), network)
    table = np.load(reference("haq", "qmobilenetv2_imagenet100_batch16_latency_table.npy"))
    formats = [found.policy.of(layer.name) for layer in network.mac_layers]
    cost = sum(int(table[i, fmt.w_bits - 1, fmt.a_bits - 1]) for i, fmt in enumerate(formats))
    assert cost / table[:, 7, 7].sum() == pytest.approx(0.5964, abs=0.002)
    assert [[fmt.w_bits, fmt.a_bits] for fmt in formats][1:] == HAQ_STRATEGY[1:]
    assert formats[0].short == "w8a8"
    assert "in order" in found.notes[0]


def test_haq_log_gives_its_last_best_policy(tmp_path):
    network = load_network("resnet8").network
    strategy = [[8, -1], *[[4, 5]] * 8, [8, 8]]
    log = tmp_path / "log.txt"
    log.write_text(f"best reward: 0.1\nbest policy: {[[8, 8]] * 10}\nbest reward: 0.2\nbest policy: {strategy}\n")
    found = read_policy(log, network)
    assert [found.policy.of(layer.name).short for layer in network.mac_layers] == ["w8a8", *["w4a5"] * 8, "w8a8"]


def test_haq_kmeans_list_and_array_leave_activations_alone(tmp_path):
    network = load_network("resnet8").network
    bits = [6, 6, 5, 5, 4, 4, 3, 3, 2, 4]
    np.save(tmp_path / "s.npy", np.array(bits))
    for path in (save_json(tmp_path / "s.json", bits), tmp_path / "s.npy"):
        found = read_policy(path, network)
        assert [found.policy.of(layer.name).w_bits for layer in network.mac_layers] == bits
        assert {found.policy.of(layer.name).a_bits for layer in network.mac_layers} == {16}
        assert any("not quantized, counted as 16 bits" in note for note in found.notes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([[8, 8]] * 9, "has 9 entries, resnet8 has 10 convolutions and gemms: another model's strategy"),
        ([[8, 8]] * 9 + [[8, -1]], "entry 9 (layer dense) has -1 bits of a"),
        ([[8, 8]] * 9 + [[17, 8]], "entry 9 (layer dense) has 17 bits of w"),
        ([[8, 8]] * 9 + [8], "entry 9 (layer dense) is 8, expected [w, a]"),
        ([4.5] * 10, "has 4.5 bits of w"),
        ([], "is no list of bit widths"),
    ],
)
def test_bad_strategies_are_named(tmp_path, data, message):
    with pytest.raises(InputError) as caught:
        read_policy(save_json(tmp_path / "s.json", data), load_network("resnet8").network)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# AIMET.


@pytest.mark.parametrize("version", [None, "0.4.0", "0.5.0", "0.6.1", "1.0.0"])
def test_encodings_of_every_version_give_the_same_formats(tmp_path, model, version):
    path, network = model
    found = read_policy(save_json(tmp_path / "m.encodings", make_encodings(version)), network, path)
    assert read_bits(found, network) == {"conv1": "w4a8", "conv2": "w5a6", "fc": "w8a7"}
    schemes = dict(found.schemes)
    assert (schemes["conv1"].weight.per_channel, schemes["conv2"].weight.per_channel) == (True, False)
    assert schemes["conv1"].weight.symmetric is True
    assert found.kind == f"AIMET encodings {version or '0.4.0'}"


def test_a_float_encoding_and_a_layer_without_one_are_not_quantized(tmp_path, model):
    path, network = model
    data = make_encodings("1.0.0")
    data["param_encodings"] = data["param_encodings"][:2]
    data["activation_encodings"][0] = {"name": "input", "enc_type": "PER_TENSOR", "dtype": "FLOAT", "bw": 16}
    found = read_policy(save_json(tmp_path / "m.json", data), network, path)
    assert read_bits(found, network) == {"conv1": "w4a16", "conv2": "w5a6", "fc": "w16a7"}
    assert found.notes == ("not quantized, counted as 16 bits: conv1 (input), fc (weights)",)


def test_encodings_fit_a_network_without_a_graph_where_widths_are_equal(tmp_path):
    """Weights are named as in the state of the PyTorch model, activations by numbers of the export."""
    network = load_network("mobilenet_v2").network
    names = [layer.name for layer in network.mac_layers]
    data = {
        "version": "0.6.1",
        "activation_encodings": {"317": encode_old(8, dtype="int"), "320": encode_old(8, dtype="int")},
        "param_encodings": {f"{name}.weight": encode_old(4, dtype="int") for name in names},
    }
    found = read_policy(save_json(tmp_path / "m.encodings", data), network)
    assert found.policy == Policy(default=LayerFormat(w_bits=4, a_bits=8))
    data["activation_encodings"]["320"] = encode_old(16, dtype="int")
    with pytest.raises(InputError, match="name that graph as the network"):
        read_policy(save_json(tmp_path / "m.encodings", data), network)


def change(data, **changes):
    return data | changes


def drop_name(data, old, new):
    return json.loads(json.dumps(data).replace(old, new))


BAD_ENCODINGS = [
    (lambda d: change(d, version="2.0.0"), "has the encodings version '2.0.0', expected one of 0.4.0"),
    (lambda d: drop_name(d, '"r1"', '"r11"'), "names tensors that net has not: 'r11' (did you mean 'r1'?)"),
    (lambda d: drop_name(d, "conv1.weight", "conv1.wight"), "'conv1.wight' (did you mean 'conv1.weight'?)"),
    (lambda d: drop_name(d, ".weight", ".kernel"), "belongs to another model: none of its 3 parameters"),
    (
        lambda d: change(d, param_encodings=[encode_new("conv1.weight", 4, 5)]),
        "the encoding of 'conv1.weight' has 5 per-channel entries, layer conv1 has 6 output channels",
    ),
    (
        lambda d: change(d, param_encodings=[encode_new("conv1.weight", 4, 6, offset=[0])]),
        "param_encodings.conv1.weight: needs a list of scales and a list of as many offsets",
    ),
    (
        lambda d: change(d, param_encodings=[encode_new("conv1.weight", 4, 6, enc_type="LPBQ")]),
        "has the encoding type 'LPBQ'; PER_TENSOR and PER_CHANNEL are read",
    ),
    (
        lambda d: change(d, param_encodings=[encode_new("conv1.weight", 4, offset=["x"])]),
        "param_encodings.conv1.weight: has an offset that is no finite number",
    ),
    (lambda d: change(d, param_encodings={}), "param_encodings is no list of encodings, as version 1.0.0 has it"),
    (lambda d: change(d, param_encodings=[encode_new("conv1.weight", "4b")]), "has the width '4b'"),
    (lambda d: change(d, param_encodings=[{"bw": 4}]), "param_encodings[0] has no name"),
    (
        lambda d: change(d, param_encodings=d["param_encodings"] * 2),
        "param_encodings names 'conv1.weight' twice",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_ENCODINGS)
def test_bad_encodings_are_named(tmp_path, model, spoil, message):
    path, network = model
    if "4b" in message:
        data = make_encodings("1.0.0") | {"param_encodings": [{"name": "conv1.weight", "dtype": "INT", "bw": "4b"}]}
    else:
        data = spoil(make_encodings("1.0.0"))
    with pytest.raises(InputError) as caught:
        read_policy(save_json(tmp_path / "m.json", data), network, path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def name_old(entries):
    return make_encodings("0.6.1") | {"param_encodings": {"conv1.weight": entries}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            name_old([*encode_old(4, 3), *encode_old(5, 3)]),
            "param_encodings.conv1.weight: its channels differ in bitwidth",
        ),
        (name_old([*encode_old(4, 3), *encode_old(4, 3, dtype="float")]), "its channels differ in bitwidth or dtype"),
        (
            name_old(encode_old(4, 6, offset="x")),
            "param_encodings.conv1.weight: has an offset that is no finite number",
        ),
        (
            change(
                make_encodings("0.6.1"),
                activation_encodings={
                    "conv1": {"input": {"0": encode_old(8)[0]}, "output": {"0": encode_old(8)[0]}},
                    "relu1": {"output": {"0": encode_old(6)[0]}},
                },
            ),
            "has activation_encodings by PyTorch module ('conv1' ...), as aimet_torch writes NAME_torch.encodings: "
            "name NAME.encodings of the same export, which has them by tensor",
        ),
    ],
)
def test_bad_encodings_before_the_first_version_are_named(tmp_path, model, data, message):
    path, network = model
    with pytest.raises(InputError) as caught:
        read_policy(save_json(tmp_path / "m.json", data), network, path)
    assert str(caught.value) == f"m.json: {message}" or message in str(caught.value)
    assert len(str(caught.value)) < 200


# MQBench.


def test_clip_ranges_of_every_back_end(tmp_path, model):
    path, network = model
    ranges = {"input": 2.5, "r1": 1.0, "r2": 3.0}
    step = {"zero_point": 3, "min": -1.0, "max": 1.0, "type": "biased"}
    ppl = {name: {"step": 0.1, "bit": 16, **step} for name in ranges}
    weights = {"step": [0.1] * 6, "bit": 8, **step, "zero_point": [0] * 6}
    forms = {
        "tensorrt": ({"tensorrt": {"blob_range": ranges}}, "w8a8"),
        "vitis": ({"vitis": {name: {"scale": 0.125} for name in (*ranges, "conv1.weight")}}, "w8a8"),
        "ppl": ({"ppl": ppl | {"conv1.weight": weights}}, "w8a16"),
        "nnie": ({"nnie": {"gfpq_param_dict": {"conv1": [2.5], "conv2": [1.0], "fc": [1.0]}}}, "w8a8"),
        "snpe": (
            {
                "activation_encodings": {n: [{"bitwidth": 8, "min": -1.0, "max": 1.0}] for n in ranges},
                "param_encodings": {},
            },
            "w8a8",
        ),
    }
    for backend, (data, short) in forms.items():
        found = read_policy(save_json(tmp_path / f"{backend}_clip_ranges.json", data), network, path)
        assert read_bits(found, network)["conv1"] == short, backend
        assert TARGETS[backend].title in found.kind
        unquantized = [p for p in check_target(found, network, TARGETS[backend]) if "conv1" in p]
        assert unquantized == (
            [] if backend != "ppl" else ["layer conv1: weights a scale per channel, expected one per tensor"]
        )


def test_ranges_of_ppl_cuda_are_lines(tmp_path, model):
    path, network = model
    file = tmp_path / "m_clip_ranges.json"
    file.write_text("input: 2.5\nr1: 1.0\nr2: 3e-1\n")
    assert set(read_bits(read_policy(file, network, path), network).values()) == {"w8a8"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"tensorrt": {"blob_range": {"17": 1.0}}}, "belongs to another model: none of its 1 tensors ('17' ...)"),
        ({"tensorrt": {"blob_range": {"r1": 1.0, "r3": 1.0}}}, "names tensors that net has not: 'r3'"),
        ({"tensorrt": {"blob_range": {"r1": "wide"}}}, "r1: got 'wide', expected a finite range"),
        ({"vitis": {"r1": {"scale": 0.3}}}, "the scale 0.3 is no power of two"),
        ({"tensorrt": {}}, "holds no ranges under tensorrt.blob_range"),
        ({"nnie": {"gfpq_param_dict": {"node7": [1.0]}}}, "belongs to another model: none of its 1 nodes"),
        (
            {"ppl": {"conv1.weight": {"step": [0.1] * 5, "bit": 8}, "r1": {"step": 0.1, "bit": 8}}},
            "has 5 per-channel entries, layer conv1 has 6 output channels",
        ),
    ],
)
def test_bad_ranges_are_named(tmp_path, model, data, message):
    path, network = model
    with pytest.raises(InputError) as caught:
        read_policy(save_json(tmp_path / "r.json", data), network, path)
    assert message in str(caught.value)
