"""`CostModel` is `simulate`: any network, accelerator and policy, one by one and in batches, to the last bit."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import CostModel, simulate
from hwsim.archs.registry import find_arch, list_archs
from hwsim.core.arch import Arch
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.network import Network, TensorSpec
from hwsim.core.policy import LayerFormat, Policy, parse_policy

ARCHS = (
    "systolic:small",
    "bitfusion:small",
    "bismo:small",
    "bismo:edge",
    "simd:a55-fp32",
    "nasa:small",
    "palquant:small",
)
BITS = st.sampled_from((1, 2, 3, 4, 5, 8, 11, 16))


@cache
def make_arch(name: str) -> Arch:
    return find_arch(name)


def window(name: str, op: str, source: str, groups: int, size: int, **dims: int) -> Layer:
    return Layer(
        name=name, op=op, inputs=(source,), G=groups, P=size, Q=size, R=3, S=3, H=size, W=size, padding=(1, 1, 1, 1),
        **dims,
    )  # fmt: skip


def conv(name: str, source: str, channels: int, filters: int, size: int) -> Layer:
    return window(name, "conv", source, 1, size, K=filters, C=channels)


def vector(name: str, op: str, inputs: tuple[str, ...], channels: int, size: int) -> Layer:
    return Layer(name=name, op=op, inputs=inputs, G=channels, P=size, Q=size, H=size, W=size)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Draw a small graph: convolutions, additions, pools and concatenations that read any earlier tensor that fits."""
    size, channels = draw(st.sampled_from((3, 4, 6))), draw(st.sampled_from((2, 3, 8)))
    tensors = {"image": channels}
    layers: list[Layer] = []
    for i in range(draw(st.integers(1, 7))):
        source = draw(st.sampled_from(sorted(tensors)))
        kind = draw(st.sampled_from(("conv", "conv", "conv", "depthwise", "add", "maxpool", "concat")))
        name = f"l{i}"
        if kind == "conv":
            filters = draw(st.sampled_from((2, 3, 8)))
            layers.append(conv(name, source, tensors[source], filters, size))
        elif kind in ("depthwise", "maxpool"):
            filters = tensors[source]
            layers.append(window(name, "conv" if kind == "depthwise" else kind, source, filters, size))
        elif kind == "add":
            alike = [other for other in sorted(tensors) if tensors[other] == tensors[source]]
            filters = tensors[source]
            layers.append(vector(name, "add", (source, draw(st.sampled_from(alike))), filters, size))
        else:
            other = draw(st.sampled_from(sorted(tensors)))
            filters = tensors[source] + tensors[other]
            layers.append(vector(name, "concat", (source, other), filters, size))
        tensors[name] = filters
    read = {name for layer in layers for name in layer.inputs}
    outputs = tuple(layer.name for layer in layers if layer.name not in read)
    if not any(layer.kind == "mac" for layer in layers):
        layers.append(conv("last", "image", channels, 2, size))
        outputs = (*outputs, "last")
    return Network(
        name="drawn", inputs=(TensorSpec(name="image", shape=(1, channels, size, size)),), layers=tuple(layers),
        outputs=outputs, source="drawn",
    )  # fmt: skip


def most_bits(arch: Arch) -> int:
    return 8 if arch.name in ("systolic", "nasa") else 16


def check(model: CostModel, network: Network, arch: Arch, policy: Policy, batch: int = 1) -> None:
    report = simulate(network, arch, policy=policy, batch=batch)
    found = model.price(policy)
    assert found.latency_cycles == report.cycles
    assert found.energy_pj == report.energy_pj
    assert found.latency_s == report.latency_s
    assert found.edp == report.edp
    assert found.weight_bits == sum(row.weight_bits for row in report.layers)
    assert found.peak_activation_bits == report.peak_activation_bits
    for value in (found.latency_cycles, found.weight_bits, found.peak_activation_bits):
        assert type(value) is int
    for value in (found.latency_s, found.energy_pj, found.edp):
        assert type(value) is float


@settings(max_examples=60)
@given(data=st.data(), network=networks(), name=st.sampled_from(ARCHS), batch=st.sampled_from((1, 3)))
def test_drawn_networks(data, network, name, batch):
    arch = make_arch(name)
    bits = BITS.filter(lambda value: value <= most_bits(arch))
    formats = st.builds(lambda w, a: LayerFormat(w_bits=w, a_bits=a), bits, bits)
    model = CostModel(network, arch, batch=batch, cache=False)
    for _ in range(2):
        default = data.draw(formats)
        chosen = tuple((layer, data.draw(formats)) for layer in model.layers if data.draw(st.booleans()))
        check(model, network, arch, Policy(default=default, layers=chosen), batch=batch)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), objective=st.sampled_from(("cycles", "energy", "edp")))
def test_batches_equal_their_policies(seed, objective):
    model = CostModel("resnet8", "bismo:small", objective=objective, cache=False, base="w4a3")
    rng = np.random.default_rng(seed)
    policies = rng.integers(1, 17, (3, len(model.layers), 2))
    found = model.price(policies.astype(np.int8))
    for i, row in enumerate(policies):
        report = simulate("resnet8", "bismo:small", policy=model.to_policy(row), objective=objective)
        assert found.latency_cycles[i] == report.cycles
        assert found.energy_pj[i] == report.energy_pj
        assert found.edp[i] == report.edp
        assert found.latency_s[i] == report.latency_s
        assert found.weight_bits[i] == sum(cost.weight_bits for cost in report.layers)
        assert found.peak_activation_bits[i] == report.peak_activation_bits


@pytest.mark.parametrize("network", ["resnet8", "ds_cnn", "mlp"])
@pytest.mark.parametrize("name", ARCHS)
def test_small_networks_of_the_zoo(network, name):
    model = CostModel(network, name, cache=False)
    rng = np.random.default_rng(7)
    most = most_bits(model.arch)
    row = rng.integers(1, most + 1, (len(model.layers), 2))
    check(model, model.network, model.arch, model.to_policy(row))
    check(model, model.network, model.arch, Policy(default=LayerFormat(w_bits=most, a_bits=2)))


@pytest.mark.parametrize("entry", [entry for entry in list_archs() if not entry.error], ids=lambda entry: entry.name)
def test_every_architecture(entry):
    """Whatever an architecture adds to a simulation, the model has it too: on the formats that it runs."""
    arch = find_arch(entry.name, "small" if "small" in entry.presets else None)
    model = CostModel("resnet8", arch)
    tried = 0
    for policy in ("w8a8", "w4a4", "w2a2", "w8a6,conv2d_2=w8a8"):
        try:
            simulate("resnet8", arch, policy=policy)
        except SpecError:
            with pytest.raises(SpecError):
                model.latency_cycles(policy)
            continue
        check(model, model.network, arch, parse_policy(policy))
        tried += 1
    assert tried
