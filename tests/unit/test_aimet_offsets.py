"""AIMET encodings that are written of integers with zero points, of shared tensors, and of bipolar ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hwsim.core.errors import InputError
from hwsim.core.layer import Layer
from hwsim.core.network import Network, TensorSpec
from hwsim.core.tensors import ActQuant, LayerTensors, Origin, Tensors
from hwsim.policies.aimet_write import format_aimet
from hwsim.policies.names import list_names

NETWORK = Network(
    name="pair",
    source="a test",
    inputs=(TensorSpec(name="x", shape=(1, 2, 1, 1)),),
    layers=tuple(Layer(name=name, op="conv", inputs=("x",), K=2, C=2) for name in ("first", "second")),
    outputs=("first", "second"),
)


def write(weight, act, second_act=None):
    """Return the encodings of a network whose two convolutions read one tensor, and the notes."""
    tensors = Tensors(
        layers={"first": weight, "second": weight},
        activations={"x": act} | ({"second:in": second_act} if second_act else {}),
        origin=Origin(kind="synthetic", description=""),
    )
    text, notes = format_aimet(NETWORK, tensors, list_names(NETWORK))
    return json.loads(text), notes


def make_weight(bits=4, signed=True, zero=(0, 0), stored=None):
    kind = np.int8 if signed else np.uint8
    stored = np.arange(4) if stored is None else np.array(stored)
    return LayerTensors(
        weight=stored.reshape(2, 2, 1, 1).astype(kind),
        w_scale=np.array([0.5, 0.25], np.float32),
        w_zero=np.array(zero),
        w_bits=bits,
    )


def list_reals(entry, channel=0):
    """Return what q = 0 ... 2**bw - 1 means by AIMET's rule."""
    return [entry["scale"][channel] * (q + entry["offset"][channel]) for q in range(1 << entry["bw"])]


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("zero", [(3, -2), (5, 1), (0, 0)])
def test_weights_mean_what_is_stored(signed, zero):
    zero = tuple(map(abs, zero)) if not signed else zero
    data, _ = write(make_weight(signed=signed, zero=zero), ActQuant(scale=0.1))
    low = -8 if signed else 0
    entry = data["param_encodings"][0]
    for channel, scale in enumerate((0.5, 0.25)):
        wanted = [scale * (stored - zero[channel]) for stored in range(low, low + 16)]
        assert list_reals(entry, channel) == wanted
    assert entry["is_sym"] is (signed and zero == (0, 0))


@pytest.mark.parametrize(
    "act",
    [
        ActQuant(scale=0.5, zero_point=3, bits=4),
        ActQuant(scale=0.5, zero_point=-3, bits=4),
        ActQuant(scale=0.5, zero_point=5, bits=4, signed=False),
    ],
)
def test_activations_mean_what_is_stored(act):
    data, _ = write(make_weight(), act)
    wanted = [act.scale * (stored - act.zero_point) for stored in range(act.low, act.high + 1)]
    assert list_reals(data["activation_encodings"][0]) == wanted


@pytest.mark.parametrize(("first", "second"), [(4, 8), (8, 4)])
def test_a_shared_tensor_has_the_widest_format(first, second):
    data, notes = write(make_weight(), ActQuant(scale=0.5, bits=first), ActQuant(scale=0.25, bits=second))
    (entry,) = data["activation_encodings"]
    assert (entry["bw"], entry["scale"]) == (8, [0.25 if second == 8 else 0.5])
    assert notes == ("a tensor that several layers read in different formats has the widest one: second",)


def test_bipolar_tensors_are_refused():
    """Two scales apart; one bit from zero on (0 and +scale) is an offset of 0."""
    bipolar = make_weight(bits=1, stored=[-1, 1, 1, -1])
    with pytest.raises(InputError) as caught:
        write(bipolar, ActQuant(scale=0.5, bits=1))
    assert str(caught.value) == (
        "pair: AIMET encodings cannot say -scale and +scale, which one signed bit means: "
        "first (weights), first (input), second (weights), second (input)"
    )
    with pytest.raises(InputError, match=r"which one signed bit means: second \(input\)$"):
        write(make_weight(), ActQuant(scale=0.5, bits=4), ActQuant(scale=0.5, bits=1))
    half = make_weight(bits=1, signed=False, stored=[0, 1, 1, 0])
    data, _ = write(half, ActQuant(scale=0.5, bits=1, signed=False))
    assert list_reals(data["param_encodings"][0]) == [0, 0.5]
    assert list_reals(data["activation_encodings"][0]) == [0, 0.5]
