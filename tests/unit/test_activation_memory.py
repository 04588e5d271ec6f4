"""Live activations of a network: counted by hand, and by looking at every tensor at every step."""

from __future__ import annotations

import numpy as np
import pytest

from hwsim.core.layer import Layer
from hwsim.core.network import Network, TensorSpec
from hwsim.nets.registry import find_network
from hwsim.pipeline.workloads import find_lifetimes, peak_activation_bits


def conv(name: str, source: str, filters: int, channels: int) -> Layer:
    return Layer(name=name, op="conv", inputs=(source,), K=filters, C=channels, P=4, Q=4, H=4, W=4)


def name_network(*layers: Layer, outputs: tuple[str, ...]) -> Network:
    image = TensorSpec(name="image", shape=(1, 2, 4, 4))
    return Network(name="drawn", inputs=(image,), layers=layers, outputs=outputs, source="made up")


def test_a_shortcut_lives_until_its_addition():
    """Of 16 elements a channel: image 2, a 3, b 5, c 3 channels; at b image is gone, at c a and b live, behind c b is gone."""
    total = Layer(name="sum", op="add", inputs=("a", "c"), G=3, P=4, Q=4, H=4, W=4)
    network = name_network(
        conv("a", "image", 3, 2), conv("b", "a", 5, 3), conv("c", "b", 3, 5), total, outputs=("sum",)
    )
    bits = {"image": 8, "a": 4, "b": 2, "c": 1, "sum": 6}
    steps = {"image, a": 2 * 8 + 3 * 4, "a, b": 3 * 4 + 5 * 2, "a, b, c": 3 * 4 + 5 * 2 + 3, "sum": 3 * 4 + 3 + 3 * 6}
    assert peak_activation_bits(network, bits) == 16 * max(steps.values()) == 16 * steps["sum"]
    assert peak_activation_bits(network, bits | {"sum": 1}) == 16 * steps["image, a"]
    assert peak_activation_bits(network, bits | {"sum": 1, "b": 8}) == 16 * (3 * 4 + 5 * 8 + 3)


def test_a_moved_tensor_is_no_copy_and_keeps_its_source_alive():
    flat = Layer(name="flat", op="flatten", inputs=("a",), G=48)
    network = name_network(
        conv("a", "image", 3, 2), flat, conv("b", "a", 2, 3), Layer(name="fc", op="gemm", inputs=("flat",), K=1, C=48),
        outputs=("fc", "b"),
    )  # fmt: skip
    assert find_lifetimes(network) == (
        {"a": "a", "flat": "a", "b": "b", "fc": "fc"},
        {"image": 0, "a": 3, "fc": 4, "b": 4},
    )
    bits = dict.fromkeys(("image", "a", "flat", "b", "fc"), 8)
    assert peak_activation_bits(network, bits) == 8 * (48 + 32 + 1)


def test_a_concatenation_is_a_copy():
    joined = Layer(name="joined", op="concat", inputs=("a", "b"), G=5, P=4, Q=4, H=4, W=4)
    network = name_network(conv("a", "image", 3, 2), conv("b", "a", 2, 3), joined, outputs=("joined",))
    assert peak_activation_bits(network, dict.fromkeys(("image", "a", "b", "joined"), 2)) == 16 * 2 * (3 + 2 + 5)


@pytest.mark.parametrize("name", ["resnet8", "mobilenet_v2", "squeezenet1_1", "shufflenet_v2_x1_0"])
def test_peak_is_the_most_of_all_steps(name):
    """Naively: a tensor is live at a step if it, or a view of it, was made by then and is read at it or later."""
    network = find_network(name)
    rng = np.random.default_rng(0)
    bits = {name: int(rng.integers(1, 17)) for name in [network.inputs[0].name, *(one.name for one in network.layers)]}
    order = {layer.name: step for step, layer in enumerate(network.layers)}
    views = {layer.name for layer in network.layers if layer.kind == "address" and layer.op != "concat"}

    def read_last(tensor: str) -> int:
        users = network.consumers[tensor]
        return max(
            [len(order)] * (tensor in network.outputs)
            + [order[user] for user in users]
            + [read_last(user) for user in users if user in views],
            default=-1,
        )

    peak = 0
    for step in range(len(order)):
        live = 0
        for tensor in bits:
            made = order.get(tensor, -1)
            if tensor not in views and made <= step and (made == step or read_last(tensor) >= step):
                live += int(np.prod(network.shape_of(tensor))) * bits[tensor]
        peak = max(peak, live)
    assert peak_activation_bits(network, bits) == peak
