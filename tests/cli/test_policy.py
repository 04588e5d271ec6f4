"""Policies as files on the command line."""

from __future__ import annotations

import json

import pytest

from tests.extras import load_optional
from tests.policy_models import QonnxGraph, save_float_model

SYSTOLIC = ("--arch", "systolic:small")


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.onnx"
    save_float_model(path)
    return str(path)


def read_bits(report):
    return [(row["w_bits"], row["a_bits"]) for row in report["layers"] if row["macs"]]


def test_run_takes_a_strategy(hwsim, net, tmp_path):
    (tmp_path / "s.json").write_text("[[8, -1], [4, 6], [3, 5]]")
    found = hwsim("run", "--net", net, *SYSTOLIC, "--policy", str(tmp_path / "s.json"), "--json")
    assert found.code == 0
    assert read_bits(json.loads(found.out)) == [(8, 8), (4, 6), (3, 5)]
    assert found.err.startswith("hwsim: s.json (HAQ strategy): matched in order")
    short = hwsim("run", "--net", net, *SYSTOLIC, "--policy", "w8a8,conv2=w4a6,fc=w3a5", "--json")
    assert json.loads(short.out)["layers"] == json.loads(found.out)["layers"]


def test_compare_takes_a_file_too(hwsim, net, tmp_path):
    (tmp_path / "p.csv").write_text("layer,w_bits,a_bits\n*,8,8\n")
    found = hwsim(
        "compare", "--net", net, "--arch", "systolic:small,systolic", "--policy", str(tmp_path / "p.csv"), "--json"
    )
    assert (found.code, found.err) == (0, "")


def test_a_qonnx_model_brings_its_own_policy(hwsim, tmp_path):
    QonnxGraph().build(tmp_path / "q.onnx")
    found = hwsim("run", "--net", str(tmp_path / "q.onnx"), *SYSTOLIC, "--json")
    assert read_bits(json.loads(found.out)) == [(3, 8), (2, 4), (1, 6)]


def test_annotate_writes_a_copy(hwsim, net, tmp_path):
    onnx = load_optional("onnx")
    found = hwsim("run", "--net", net, *SYSTOLIC, "--json", "--annotate", str(tmp_path / "c.onnx"))
    assert found.code == 0
    total = {e.key: e.value for e in onnx.load(str(tmp_path / "c.onnx")).metadata_props}
    assert int(total["hwsim.cycles"]) == json.loads(found.out)["totals"]["cycles"]
    refused = hwsim("run", "--net", "resnet8", *SYSTOLIC, "--annotate", str(tmp_path / "c.onnx"))
    assert refused.code == 2
    assert "expected a network that is an .onnx file" in refused.err


def test_convert_goes_round(hwsim, net, tmp_path):
    first = hwsim("policy", "convert", "w4a8,fc=w8a8", "--net", net)
    (tmp_path / "p.json").write_text(first.out)
    table = hwsim("policy", "convert", str(tmp_path / "p.json"), "--net", net, "--to", "csv")
    (tmp_path / "p.csv").write_text(table.out)
    back = hwsim("policy", "convert", str(tmp_path / "p.csv"), "--net", net)
    assert json.loads(back.out)["layers"] == json.loads(first.out)["layers"]
    header = "layer,w_bits,a_bits,operator,codec,scale,channel_bits,groups"
    assert table.out.splitlines()[:2] == [header, "*,4,8,native,native,native,[],1"]


def test_convert_to_aimet_says_where_its_scales_come_from(hwsim, net, tmp_path):
    out = str(tmp_path / "m.encodings")
    found = hwsim("policy", "convert", "w4a8", "--net", net, "--to", "aimet", "-o", out)
    assert (found.code, found.out) == (0, "")
    assert "ranges of activations are those of a drawn input" in found.err
    read = hwsim("policy", "convert", out, "--net", net)
    assert json.loads(read.out)["default"]["w_bits"] == 4


def test_check_exits_by_what_it_finds(hwsim, net):
    fine = hwsim("policy", "check", "w8a8", "--net", net, "--target", "tensorrt")
    assert (fine.code, fine.err) == (0, "")
    wrong = hwsim("policy", "check", "w8a8,fc=w4a8", "--net", net, "--target", "tensorrt")
    assert (wrong.code, wrong.out) == (2, "layer fc: weights 4 bits, expected 8\n")
    assert wrong.err.startswith("hwsim: 1 mismatches with TensorRT")
    arch = hwsim("policy", "check", "w4a8", "--net", net, "--arch", "smartdeal")
    assert arch.code == 2
    assert "expected 8" in arch.out
    neither = hwsim("policy", "check", "w8a8", "--net", net)
    assert neither.code == 2
    assert "--target NAME or --arch NAME" in neither.err


def test_bad_files_take_one_line(hwsim, net, tmp_path):
    (tmp_path / "s.json").write_text("[[8, 8]]")
    for policy in ("absent.json", str(tmp_path / "s.json"), "w4a8,conv9=w8a8", str(tmp_path)):
        found = hwsim("run", "--net", net, *SYSTOLIC, "--policy", policy)
        assert (found.code, found.out) == (2, "")
        assert found.err.startswith("hwsim: error: ")
        assert found.err.count("\n") == 1
