"""Group-parallel networks: against copies of the narrow one, against plain numpy, and where they cannot be made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwsim.archs.registry import find_arch
from hwsim.core.errors import SpecError, UnknownName
from hwsim.core.layer import Layer
from hwsim.core.network import Network
from hwsim.core.policy import LayerFormat, Policy
from hwsim.core.tensors import LayerTensors, Origin, Tensors
from hwsim.engine.functional import calibrate_network, run_float, run_integer
from hwsim.nets.builder import NetBuilder
from hwsim.nets.group_parallel import list_kept_layers, widen_groups
from hwsim.nets.load import load_network
from hwsim.nets.registry import list_networks
from hwsim.nets.synthetic import synthesize_input, synthesize_tensors
from hwsim.nets.zoo.resnet import lay_basic_block
from hwsim.pipeline import simulate
from hwsim.pipeline.widen import widen_by_policy

ORIGIN = Origin(kind="synthetic", description="drawn by a test")
FLAT = ("mlp_300_100", "ds_cnn", "autoencoder")
"""Networks without a change of resolution between their grouped layers."""


def join_copies(narrow: Network, wide: Network, copies: list[Tensors]) -> Tensors:
    """Return tensors of the widened network whose group g has the weights of copy g; cyclic shuffles add nothing."""
    layers = {}
    first = [layer.name for layer in narrow.mac_layers if layer.inputs[0] in {spec.name for spec in narrow.inputs}]
    kept = list_kept_layers(narrow)
    for layer in wide.layers:
        if layer.kind != "mac" and layer.op != "scale":
            continue
        if layer.name.endswith(".cyclic.conv"):
            layers[layer.name] = LayerTensors(weight=np.zeros((layer.G * layer.K, layer.C, 1, 1), np.float32))
            continue
        last = layer.name in kept and layer.name not in first
        weights = [one.layers[layer.name].weight for one in copies]
        layers[layer.name] = LayerTensors(weight=np.concatenate(weights, axis=1 if last else 0))
    return Tensors(layers=layers, origin=ORIGIN)


def make_split_net() -> Network:
    """Return a network with a slice, a concatenation and a shuffle of channels, pools, depthwise, squeeze and excite."""
    net = NetBuilder("split", "test")
    x = net.conv(net.input((3, 16, 16)), "stem", 8, 3, padding=1, activation="relu")
    left, right = net.slice_channels(x, "left", 0, 3), net.slice_channels(x, "right", 3, 8)
    right = net.conv(right, "right.conv", 6, 3, padding=1, activation="relu")
    x = net.shuffle(net.concat((left, right), "cat"), "mix", 3)
    x = net.depthwise(x, "dw", 3, padding=1, activation="relu")
    gate = net.conv(net.global_avgpool(x, "squeeze"), "excite", 9, 1, activation="sigmoid")
    x = net.maxpool(net.mul((x, gate), "gated"), "pool", 2, stride=2)
    x = net.conv(x, "late", 12, 3, padding=1, groups=3, activation="relu")
    x = net.conv(x, "later", 12, 3, stride=2, padding=1, activation="relu")
    net.fc(net.flatten(x, "flat"), "fc", 5)
    return net.finish()


@pytest.mark.parametrize("groups", [2, 3])
def test_groups_that_do_not_exchange_are_copies_of_the_narrow_network(groups):
    narrow = make_split_net()
    wide = widen_groups(narrow, groups)
    copies = [synthesize_tensors(narrow, seed) for seed in range(groups)]
    for one in copies:
        for name, held in one.layers.items():
            one.layers[name] = replace(held, bias=None)
    image = synthesize_input(narrow, 5)
    tensors = join_copies(narrow, wide, copies)
    found = run_float(wide, tensors, image)
    alone = [run_float(narrow, one, image) for one in copies]
    for layer in narrow.layers:
        if layer.name != "fc":
            expected = np.concatenate([one[layer.name] for one in alone], axis=1)
            np.testing.assert_allclose(found[layer.name], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["fc"], sum(one["fc"] for one in alone), rtol=1e-4, atol=1e-5)


def multiply(x: np.ndarray, weight: np.ndarray, stride: int = 1, pad: int = 0) -> np.ndarray:
    """Return a convolution of [C, H, W] by [K, C, R, S], loop by loop."""
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    rows, cols = ((n - m) // stride + 1 for n, m in zip(x.shape[1:], weight.shape[2:], strict=True))
    out = np.zeros((len(weight), rows, cols))
    for p, q in np.ndindex(rows, cols):
        window = x[:, p * stride : p * stride + weight.shape[2], q * stride : q * stride + weight.shape[3]]
        out[:, p, q] = np.tensordot(weight, window, 3)
    return out


def relu(x):
    return np.maximum(x, 0)


def run_palquant(image: np.ndarray, held: dict[str, np.ndarray], groups: int, blocks: list[tuple[str, int, bool]]):
    """Return the class scores of a group-parallel ResNet, the forward pass of quant_resnet.py read out in numpy.

    ``blocks``: name, stride, and whether a cyclic shuffle stands behind the block.
    """

    def convolve(x, name, **options):
        """Convolve each group of [G, C, H, W] by filters of its own."""
        filters = held[name].reshape(groups, -1, *held[name].shape[1:])
        return np.stack([multiply(x[g], filters[g], **options) for g in range(groups)])

    x = relu(multiply(image, held["conv1"], pad=1))
    x = x.reshape(groups, -1, *x.shape[1:])
    for name, stride, cyclic in blocks:
        y = relu(convolve(x, f"{name}.conv1", stride=stride, pad=1))
        y = convolve(y, f"{name}.conv2", pad=1)
        if f"{name}.downsample.0" in held:
            flat = y.swapaxes(0, 1).reshape(-1, *y.shape[2:])  # channel shuffle: i G + g from g, i
            y = flat.reshape(y.shape)
            x = convolve(x, f"{name}.downsample.0", stride=stride)
        x = relu(x + y)
        if cyclic:
            turned = np.stack([x[(g + 1) % groups] for g in range(groups)])
            x = relu(convolve(turned, f"{name}.add.cyclic.conv")) + x
    return held["fc"].reshape(len(held["fc"]), -1) @ x.mean(axis=(2, 3)).ravel()


def make_small_resnet() -> Network:
    net = NetBuilder("small resnet", "test")
    x = net.conv(net.input((3, 9, 9)), "conv1", 4, 3, padding=1, activation="relu")
    for name, channels, stride in (("a", 4, 1), ("b", 6, 2), ("c", 6, 1), ("d", 5, 2)):
        x = lay_basic_block(net, x, name, channels, stride)
    net.fc(net.flatten(net.global_avgpool(x, "avgpool")), "fc", 7)
    return net.finish()


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_a_widened_resnet_computes_what_palquant_s_does(groups):
    wide = widen_groups(make_small_resnet(), groups)
    tensors = synthesize_tensors(wide, 3)
    image = synthesize_input(wide, 4)
    wanted = run_palquant(
        image["input"][0].astype(float), {name: held.weight.astype(float) for name, held in tensors.layers.items()},
        groups, [("a", 1, True), ("b", 2, False), ("c", 1, True), ("d", 2, False)],
    )  # fmt: skip
    found = run_float(wide, tensors, image)["fc"].ravel()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_widened_network_runs_in_integers():
    wide = widen_groups(make_small_resnet(), 2)
    tensors, image = synthesize_tensors(wide, 3), synthesize_input(wide, 4)
    exact = run_float(wide, tensors, image)["fc"]
    quantized = calibrate_network(wide, tensors, Policy(), image)
    outputs = run_integer(wide, quantized, image)
    real = outputs["fc"].astype(float) * quantized.activations["fc"].scale
    assert 10 * np.log10(np.sum(exact**2) / np.sum((exact - real) ** 2)) > 25
    rotated, source = outputs["a.add.cyclic.rotate"], outputs["a.add"]
    np.testing.assert_array_equal(rotated, source[:, [4, 5, 6, 7, 0, 1, 2, 3]])


def test_every_network_of_the_zoo_is_widened_or_says_why_not():
    for entry in list_networks():
        narrow = entry.build()
        if entry.name in FLAT:
            with pytest.raises(SpecError, match=f"groups: got 2, expected 1 on {entry.name}: no resolution changes"):
                widen_groups(narrow, 2)
            continue
        wide, kept = widen_groups(narrow, 2), list_kept_layers(narrow)
        for layer in narrow.mac_layers:
            assert wide.layer(layer.name).macs == 2 * layer.macs, layer.name
            groups = layer.G if layer.name in kept else 2 * layer.G
            assert groups == wide.layer(layer.name).G
        added = [layer for layer in wide.mac_layers if layer.name not in {x.name for x in narrow.mac_layers}]
        assert added
        assert all(layer.name.endswith(".cyclic.conv") and layer.G == 2 for layer in added)
        assert wide.shape_of(wide.outputs[0]) == narrow.shape_of(narrow.outputs[0])


def test_shuffles_stand_at_the_ends_of_stages_and_before_additions_with_a_convolution():
    wide = widen_groups(load_network("resnet18").network, 3)
    names = [layer.name for layer in wide.layers if layer.op == "shuffle"]
    assert names == [
        "layer1.1.add.cyclic.rotate", "layer2.0.add.shuffle", "layer2.1.add.cyclic.rotate", "layer3.0.add.shuffle",
        "layer3.1.add.cyclic.rotate", "layer4.0.add.shuffle",
    ]  # fmt: skip
    assert wide.layer("layer2.0.add").inputs == ("layer2.0.add.shuffle", "layer2.0.downsample.0")
    assert wide.layer("layer2.0.add.shuffle").inputs == ("layer2.0.conv2",)
    assert (
        wide.layer("layer2.0.conv1").inputs
        == wide.layer("layer2.0.downsample.0").inputs
        == ("layer1.1.add.cyclic.add",)
    )
    assert dict(wide.layer("layer1.1.add.cyclic.rotate").attrs) == {"rotate": 64}
    mobile = widen_groups(load_network("mobilenet_v2").network, 2)
    assert [layer.inputs[0] for layer in mobile.layers if layer.name.endswith(".rotate")] == [
        "features.1.conv.1", "features.3.add", "features.6.add", "features.10.add",
    ]  # fmt: skip
    assert not [layer for layer in mobile.layers if layer.name.endswith("add.shuffle")]


def test_one_group_is_the_network_itself_and_places_may_be_named():
    network = load_network("ds_cnn").network
    assert widen_groups(network, 1) is network
    after = network.mac_layers[2].name
    wide = widen_groups(network, 2, shuffle_after=(after,))
    assert wide.layer(f"{after}.cyclic.conv").G == 2
    with pytest.raises(UnknownName, match="unknown layer in shuffle_after 'nowhere'"):
        widen_groups(network, 2, shuffle_after=("nowhere",))
    with pytest.raises(SpecError, match=r"shuffle_after: got '.*', expected a layer whose channels are widened"):
        widen_groups(network, 2, shuffle_after=(network.mac_layers[-1].name,))


def make_chain(middle) -> Network:
    """Return a network of four convolutions with what ``middle`` lays between the second and the third."""
    net = NetBuilder("chain", "test")
    x = net.conv(net.input((4, 8, 8)), "first", 4, 3, padding=1)
    x = net.conv(x, "second", 4, 3, padding=1)
    x = net.conv(middle(net, x), "third", 4, 3, stride=2, padding=1)
    net.conv(x, "last", 4, 1)
    return net.finish()


def test_what_cannot_be_widened_is_told():
    joined = make_chain(lambda net, x: net.add((x, "input"), "joined"))
    with pytest.raises(
        SpecError, match="1 on chain: layer joined cannot be widened, it joins a widened tensor with input"
    ):
        widen_groups(joined, 2)
    softmax = make_chain(lambda net, x: net.softmax(net.conv(x, "down", 4, 3, stride=2, padding=1), "soft"))
    with pytest.raises(SpecError, match="layer soft cannot be widened, a softmax may mix channels of groups"):
        widen_groups(softmax, 2)
    net = NetBuilder("two", "test")
    net.conv(net.conv(net.input((3, 8, 8)), "first", 4, 3), "last", 4, 3)
    with pytest.raises(SpecError, match="1 on two: no layer stands between its first and its last"):
        widen_groups(net.finish(), 2)
    grouped = make_chain(lambda net, x: x)
    first = replace(grouped.layers[0], G=2, K=2, C=2)
    with pytest.raises(SpecError, match="layer first cannot be widened, a first or last layer that is grouped itself"):
        widen_groups(replace(grouped, layers=(first, *grouped.layers[1:])), 2)
    with pytest.raises(SpecError, match="groups: got 65, expected an integer from 1 to 64"):
        widen_groups(grouped, 65)


def test_a_policy_s_groups_widen_the_network():
    network = load_network("resnet8").network
    policy = Policy(
        default=LayerFormat(w_bits=2, a_bits=2, groups=2), layers=(("conv2d", LayerFormat(w_bits=4, a_bits=4)),)
    )
    wide, tensors, found = widen_by_policy(network, synthesize_tensors(network), policy)
    assert wide.name == "resnet8-g2"
    assert tensors is None
    assert [note for note in wide.notes if "do not fit" in note]
    assert found.default == LayerFormat(w_bits=2, a_bits=2)
    assert dict(found.layers) == {"conv2d": LayerFormat(w_bits=4, a_bits=4), "dense": LayerFormat()}
    again = widen_by_policy(wide, None, found)
    assert again == (wide, None, found)
    added = replace(policy, layers=(("add.cyclic.conv", LayerFormat(w_bits=4, a_bits=2)),))
    assert widen_by_policy(network, None, added)[2].of("add.cyclic.conv").short == "w4a2"
    with pytest.raises(UnknownName, match=r"unknown layer in the policy 'add\.cyclic'"):
        widen_by_policy(network, None, replace(policy, layers=(("add.cyclic", LayerFormat()),)))


def test_reports_name_the_transform():
    report = simulate("resnet8", "palquant", policy="w2a2g2", batch=2)
    assert report.network.name == report.provenance.network == "resnet8-g2"
    assert any(note.startswith("widened to 2 groups side by side (PalQuant)") for note in report.provenance.notes)
    bits = {row.name: (row.w_bits, row.a_bits) for row in report.layers if row.w_bits}
    assert bits["conv2d"] == bits["dense"] == (8, 8)
    assert set(bits.values()) == {(8, 8), (2, 2)}
    assert report.layers[0].stats.macs == 2 * 2 * load_network("resnet8").network.layer("conv2d").macs
    rotations = [row for row in report.layers if row.name.endswith(".rotate")]
    assert rotations
    assert not any(row.stats.cycles for row in rotations)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (
            "w2a2,conv2d_1=w2a2g2",
            "policy for layer conv2d_1: groups: got 2, expected none: groups are the whole network's",
        ),
        ("w2a2g2,conv2d_1=w2a2g4", "policy for layer conv2d_1: groups: got 4, expected those of the whole network (2)"),
    ],
)
def test_groups_of_single_layers_are_refused(policy, said):
    with pytest.raises(SpecError) as caught:
        simulate("resnet8", find_arch("palquant"), policy=policy)
    assert said in str(caught.value)


def test_layers_without_groups_are_left_as_they_are():
    plain = Layer(name="layer", op="shuffle", inputs=("x",), G=6, attrs=(("groups", 2),))
    from hwsim.engine.functional_ops import move_elements

    x = np.arange(6).reshape(1, 6, 1, 1)
    assert move_elements(plain, [x]).ravel().tolist() == [0, 3, 1, 4, 2, 5]
    turned = replace(plain, attrs=(("rotate", 2),))
    assert move_elements(turned, [x]).ravel().tolist() == [2, 3, 4, 5, 0, 1]
