"""Number formats from the command line: files that name codecs run where they can, and are told in one line where not."""

from __future__ import annotations

import json

import pytest

from tests.extras import load_optional
from tests.policy_models import save_float_model

load_optional("onnx")
BISMO = ("--arch", "bismo:small")


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.onnx"
    save_float_model(path)
    return str(path)


def save(path, default=None, **layers):
    path.write_text(json.dumps({"format": "hwsim.policy/1", "default": default or {}, "layers": layers}))
    return str(path)


def totals(found):
    assert (found.code, found.err) == (0, ""), found.err
    report = json.loads(found.out)
    return report["totals"]["cycles"], {
        row["name"]: row["weight_bits"] for row in report["layers"] if row["weight_bits"]
    }


def test_nested_planes_move_fewer_bits_and_take_a_step_more(hwsim, net):
    dense, planes, wider = (totals(hwsim("run", "--net", net, *BISMO, "--policy", text, "--json"))
                            for text in ("w4a8", "w4a8-bit-planes", "w5a8"))  # fmt: skip
    assert dense[1] == planes[1]
    assert dense[0] < planes[0] <= wider[0]


@pytest.mark.parametrize(
    ("policy", "arch", "said"),
    [
        ("w4a8-codebook", "bismo", "policy for layer conv1: codec: got 'codebook', expected dense or bit-planes on bismo"),
        ("w4a8-bit-planes", "systolic", "policy for layer conv1: codec: got 'bit-planes', expected dense on systolic"),
        ("w16a8-bit-planes", "bismo", "policy for layer conv1: w_bits: got 16, expected 1 to 15 bits with the codec bit-planes"),
        ("w4a8-shift", "bitfusion", "policy for layer conv1: operator: got 'shift', expected multiply on bitfusion"),
        ("w9a8", "systolic", "policy for layer conv1: w_bits: got 9, expected 1 to 8 bits (--set w_width=9)"),
        ("w8a8,fc=w8a9", "systolic", "policy for layer fc: a_bits: got 9, expected 1 to 8 bits (--set a_width=9)"),
        ("w17a8", "bismo", "policy.w_bits: got 17, expected an integer from 1 to 16"),
        ("w2a2g3", "bismo", "groups: got 3, expected 1 on net: no resolution changes"),
        ("w2a2g65", "bismo", "policy.groups: got 65, expected an integer from 1 to 64"),
        ("w8a8,cov1=w4a4", "bismo", "unknown layer in the policy 'cov1': did you mean conv1"),
        ("w4a8-codebok", "bismo", "policy: got 'w4a8-codebok', expected a string like"),
    ],
)  # fmt: skip
def test_what_an_architecture_has_not_takes_one_line(hwsim, net, policy, arch, said):
    found = hwsim("run", "--net", net, "--arch", arch, "--policy", policy)
    assert (found.code, found.out) == (2, "")
    assert said in found.err
    assert found.err.count("\n") == 1


def test_filters_of_different_bits_run_where_channels_may_differ(hwsim, net, tmp_path):
    """conv1 has 6 filters of 27 weights: 2 at 8 bits, 3 at 2, one pruned."""
    mixed = {"w_bits": 8, "channel_bits": [[8, 2], [2, 3], [0, 1]]}
    policy = save(tmp_path / "p.json", conv1=mixed)
    found = totals(hwsim("run", "--net", net, "--arch", "mpic", "--policy", policy, "--json"))
    plain = totals(hwsim("run", "--net", net, "--arch", "mpic", "--policy", "w8a8", "--json"))
    assert found[1]["conv1"] == 27 * (2 * 8 + 3 * 2)
    assert found[0] < plain[0]
    wrong = save(tmp_path / "q.json", conv1=mixed | {"channel_bits": [[8, 2], [2, 3]]})
    refused = hwsim("run", "--net", net, "--arch", "mpic", "--policy", wrong)
    assert refused.code == 2
    assert refused.err == (
        "hwsim: error: policy for layer conv1: channel_bits: got '5 filters', expected 6, those of the layer\n"
    )


def test_a_codebook_is_loaded_with_its_indices(hwsim, net):
    """fc has 640 weights: 4 bits each and a table of 16 entries of 8 bits."""
    found = totals(hwsim("run", "--net", net, "--arch", "simd", "--policy", "w4a8-codebook", "--json"))
    assert found[1]["fc"] == 640 * 4 + 16 * 8


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"w_bits": 4, "channel_bits": [[4, 2], [2, 3]]},
         "channel_bits: got ((4, 2), (2, 3)), expected one width for all channels on bismo"),
        ({"w_bits": 8, "channel_bits": [[4, 6]]},
         "policy.channel_bits: got ((4, 6),), expected bits that fall, the first of them w_bits (8)"),
        ({"w_bits": 4, "channel_bits": [[4, 2], [4, 4]]}, "policy.channel_bits: got ((4, 2), (4, 4)), expected bits that fall"),
        ({"w_bits": 4, "channel_bits": [[4, 0]]}, "policy.channel_bits, filters: got 0, expected an integer of at least 1"),
        ({"w_bits": 4, "channel_bits": [[4, 2, 1]]}, "policy.channel_bits: got ((4, 2, 1),), expected pairs (bits, filters)"),
        ({"w_bits": 4, "channel_bits": [4, 2]}, "policy.channel_bits: got (4, 2), expected pairs (bits, filters)"),
        ({"w_bits": 4, "channel_bits": "all"}, "policy.channel_bits: got 'all', expected pairs (bits, filters)"),
        ({"w_bits": 4, "codec": "planes"}, "policy.codec: got 'planes', expected one of"),
        ({"w_bits": 4, "scale": "float"}, "policy.scale: got 'float', expected one of"),
        ({"w_bits": 4, "groups": "two"}, "policy.groups: got 'two'"),
    ],
)  # fmt: skip
def test_files_that_contradict_themselves_take_one_line(hwsim, net, tmp_path, layer, said):
    found = hwsim("run", "--net", net, *BISMO, "--policy", save(tmp_path / "p.json", conv1=layer))
    assert (found.code, found.out) == (2, "")
    assert said in found.err
    assert found.err.count("\n") == 1


def test_every_field_goes_round_through_both_native_forms(hwsim, net, tmp_path):
    layers = {
        "conv1": {"w_bits": 8, "channel_bits": [[8, 2], [2, 3], [0, 1]]},
        "conv2": {"w_bits": 3, "a_bits": 4, "codec": "codebook"},
        "fc": {"w_bits": 4, "codec": "power-of-two", "operator": "shift", "scale": "shift"},
    }
    path = save(tmp_path / "p.json", {"w_bits": 2, "a_bits": 2, "groups": 2}, **layers)
    first = hwsim("policy", "convert", path, "--net", net)
    table = hwsim("policy", "convert", path, "--net", net, "--to", "csv")
    (tmp_path / "p.csv").write_text(table.out)
    back = hwsim("policy", "convert", str(tmp_path / "p.csv"), "--net", net)
    assert first.code == table.code == back.code == 0
    read = json.loads(back.out)
    assert read["layers"] == json.loads(first.out)["layers"]
    assert read["default"] == json.loads(first.out)["default"]
    for name, fields in layers.items():
        assert read["layers"][name].items() >= fields.items()
    assert read["layers"]["conv1"]["groups"] == 2


def test_encodings_say_what_they_leave_out(hwsim, net, tmp_path):
    path = save(tmp_path / "p.json", None, conv2={"w_bits": 4, "codec": "codebook"}, fc={"channel_bits": [[8, 5]]})
    found = hwsim("policy", "convert", path, "--net", net, "--to", "aimet")
    assert found.code == 0
    assert "AIMET encodings have no codec, it is left out: conv2\n" in found.err
    assert "AIMET encodings have no channel_bits, it is left out: fc\n" in found.err


def test_back_ends_read_dense_integers(hwsim, net, tmp_path):
    path = save(
        tmp_path / "p.json", None, conv2={"codec": "codebook"}, fc={"channel_bits": [[8, 5]]}, conv1={"groups": 2}
    )
    found = hwsim("policy", "check", path, "--net", net, "--target", "tensorrt")
    assert found.code == 2
    assert found.out.splitlines() == [
        "layer conv1: 2 parallel groups, a network for TensorRT is widened before",
        "layer conv2: codec codebook, TensorRT reads dense integers",
        "layer fc: bits by channel, TensorRT has one width a layer",
    ]


def test_a_k_means_strategy_is_a_codebook(hwsim, net, tmp_path):
    (tmp_path / "s.json").write_text("[4, 3, 2]")
    found = hwsim("policy", "convert", str(tmp_path / "s.json"), "--net", net)
    formats = json.loads(found.out)["layers"]
    assert {name: (fmt["w_bits"], fmt["codec"]) for name, fmt in formats.items()} == {
        "conv1": (4, "codebook"),
        "conv2": (3, "codebook"),
        "fc": (2, "codebook"),
    }
    (tmp_path / "s.json").write_text("[4, 9, 2]")
    wide = hwsim("policy", "convert", str(tmp_path / "s.json"), "--net", net)
    assert wide.code == 2
    assert "entry 1 (layer conv2) has 9 bits of w, expected an integer from 1 to 8" in wide.err
