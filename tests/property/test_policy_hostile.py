"""Damaged policy files give one-line errors of ours, never a traceback."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwsim.core.errors import HwsimError
from hwsim.nets.load import load_network
from hwsim.policies.native import FORMAT
from hwsim.policies.read import read_policy

NETWORK = load_network("resnet8").network
NAMES = [layer.name for layer in NETWORK.mac_layers]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=6,
)
WEIGHTS = [f"{name}.weight" for name in NAMES]
GOOD = {
    "haq": [[8, -1], *[[4, 4]] * 9],
    "native": {"format": FORMAT, "default": {"w_bits": 4}, "layers": {NAMES[0]: {"weight": {"bits": 4}}}},
    "aimet": {
        "version": "1.0.0",
        "activation_encodings": [],
        "param_encodings": [
            {
                "name": name,
                "enc_type": "PER_TENSOR",
                "dtype": "INT",
                "bw": 4,
                "is_sym": True,
                "scale": [0.1],
                "offset": [-8],
            }
            for name in WEIGHTS
        ],
    },
    "old": {
        "version": "0.6.1",
        "activation_encodings": {"input": [{"bitwidth": 8, "dtype": "int", "is_symmetric": "True", "scale": 0.1}]},
        "param_encodings": {name: [{"bitwidth": 8, "dtype": "int", "scale": 0.1}] for name in WEIGHTS},
    },
    "tensorrt": {"tensorrt": {"blob_range": dict.fromkeys(NAMES, 1.0)}},
    "ppl": {"ppl": {name: {"step": 0.1, "bit": 8} for name in (*NAMES, *WEIGHTS)}},
    "snpe": {"activation_encodings": {name: [{"bitwidth": 8}] for name in NAMES}, "param_encodings": {}},
    "vitis": {"vitis": {name: {"scale": 0.5} for name in NAMES}},
    "nnie": {"nnie": {"gfpq_param_dict": {name: [1.0] for name in NAMES}}},
}


def list_places(data, path=()):
    yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from list_places(value, (*path, key))


def spoil(data, path, value):
    """Return a copy with another value at a place."""
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = spoil(data[path[0]], path[1:], value)
    return copy


def read_or_refuse(path):
    """Return the policy, or None for a one-line error of ours; anything else fails the test."""
    message = ""
    try:
        return read_policy(path, NETWORK)
    except HwsimError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    return None


def check(path, data):
    path.write_text(json.dumps(data), encoding="utf-8")
    found = read_or_refuse(path)
    if found is not None:
        assert all(1 <= found.policy.of(name).w_bits <= 16 for name in NAMES)


@pytest.mark.parametrize("form", GOOD)
def test_good_files_are_read(tmp_path, form):
    (tmp_path / "p.json").write_text(json.dumps(GOOD[form]))
    read_policy(tmp_path / "p.json", NETWORK)


@given(st.sampled_from(sorted(GOOD)), st.data())
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_at_any_place(tmp_path, form, data):
    places = list(list_places(GOOD[form]))
    check(tmp_path / "p.json", spoil(GOOD[form], data.draw(st.sampled_from(places)), data.draw(VALUES)))


@given(st.binary(max_size=60))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes(tmp_path, data):
    for suffix in (".json", ".csv", ".npy"):
        file = tmp_path / f"p{suffix}"
        file.write_bytes((b"\x93NUMPY\x01\x00" if suffix == ".npy" else b"") + data)
        read_or_refuse(file)
