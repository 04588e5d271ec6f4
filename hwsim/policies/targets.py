"""Inference back ends as targets of a policy: which bits and which quantization scheme each of them runs.

Source, unless a target says otherwise: ``ParamsTable`` in mqbench/prepare_by_platform.py of github.com/ModelTC/MQBench (commit
00f477d); wider formats from its pages docs/source/user_guide/hardware/.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwsim.core.errors import UnknownName
from hwsim.core.network import Network
from hwsim.policies.schemes import PolicyFile, TensorScheme, count_filters


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What a back end takes for one kind of tensor; None where it takes either.

    A back end whose scheme is asymmetric or per channel also takes the narrower one (a symmetric tensor is one whose zero point
    happens to lie in the middle, one scale is that of every channel); the reverse it does not.
    """

    bits: tuple[int, ...]
    symmetric_only: bool
    per_channel: bool
    power_of_two_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A back end.

    Parameters
    ----------
    name, title : str
        Short name, and what a reader calls it.
    weight, activation : Accepted
        What it runs.
    source : str
        Where that stands; ``unverified`` in it where the source could not be read.
    """

    name: str
    title: str
    weight: Accepted
    activation: Accepted
    source: str = "MQBench, prepare_by_platform.py, ParamsTable"


def _accept(bits: int | tuple[int, ...], symmetric: bool, channel: bool = False, shift: bool = False) -> Accepted:
    return Accepted(
        bits=(bits,) if isinstance(bits, int) else bits,
        symmetric_only=symmetric,
        per_channel=channel,
        power_of_two_only=shift,
    )


_PAGES = "MQBench, prepare_by_platform.py, ParamsTable; 16 bits from docs/source/user_guide/hardware/"
TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="tensorrt",
            title="TensorRT",
            weight=_accept(8, True, channel=True),
            activation=_accept(8, True),
        ),
        Target(
            name="snpe",
            title="SNPE",
            weight=_accept((8, 16), False),
            activation=_accept((8, 16), False),
            source=f"{_PAGES}snpe.rst",
        ),
        Target(
            name="acl",
            title="Arm Compute Library",
            weight=_accept(8, False, channel=True),
            activation=_accept(8, False),
            source="MQBench (NeurIPS 2021), table of inference libraries; unverified, and not among the back ends of its code",
        ),
        Target(
            name="tvm",
            title="TVM (ONNX_QNN)",
            weight=_accept(8, False),
            activation=_accept(8, False),
            source="MQBench, prepare_by_platform.py, ParamsTable (ONNX_QNN, which convert_deploy.py deploys for TVM)",
        ),
        Target(
            name="vitis",
            title="Vitis AI",
            weight=_accept(8, True, shift=True),
            activation=_accept(8, True, shift=True),
        ),
        Target(
            name="nnie",
            title="NNIE (logarithmic levels)",
            weight=_accept((8, 16), True),
            activation=_accept((8, 16), True),
            source=f"{_PAGES}nnie.rst; its levels are powers of 2**(1/16)",
        ),
        Target(
            name="openvino",
            title="OpenVINO",
            weight=_accept(8, True, channel=True),
            activation=_accept(8, True),
        ),
        Target(
            name="ppl",
            title="PPL W8A16",
            weight=_accept(8, False),
            activation=_accept(16, False),
        ),
        Target(
            name="ppl-cuda",
            title="PPL CUDA",
            weight=_accept(8, False, channel=True),
            activation=_accept(8, False),
        ),
        Target(
            name="tengine-u8",
            title="Tengine",
            weight=_accept(8, False),
            activation=_accept(8, False),
        ),
        Target(
            name="stpu",
            title="STPU",
            weight=_accept(8, True),
            activation=_accept(8, True),
        ),
    )
}


def find_target(name: str) -> Target:
    """Return a target by name, or raise UnknownName with the nearest ones."""
    if name.lower() not in TARGETS:
        raise UnknownName("target", name, TARGETS)
    return TARGETS[name.lower()]


def check_target(found: PolicyFile, network: Network, target: Target) -> tuple[str, ...]:
    """Return what of a policy a target cannot run, one line a tensor; empty where it runs all of it.

    What the policy leaves open (a short string says nothing of zero points) is not held against it.
    """
    problems = []
    for layer in network.mac_layers:
        scheme = found.scheme_of(layer.name)
        for what, tensor, accepted in (
            ("weights", scheme.weight, target.weight),
            ("input", scheme.activation, target.activation),
        ):
            wrong = _find_mismatches(tensor, accepted)
            if wrong:
                problems.append(f"layer {layer.name}: {what} {' and '.join(wrong)}")
        fmt = found.policy.of(layer.name)
        if fmt.operator not in ("native", "multiply"):
            problems.append(f"layer {layer.name}: operator {fmt.operator}, {target.title} multiplies")
        if fmt.codec not in ("native", "dense"):
            problems.append(f"layer {layer.name}: codec {fmt.codec}, {target.title} reads dense integers")
        if fmt.channel_bits:
            filters, own = count_filters(fmt), layer.G * layer.K
            count = f" of {filters} filters where the layer has {own}" if filters != own else ""
            problems.append(f"layer {layer.name}: bits by channel{count}, {target.title} has one width a layer")
        if fmt.groups > 1:
            problems.append(
                f"layer {layer.name}: {fmt.groups} parallel groups, a network for {target.title} is widened before"
            )
    return tuple(problems)


def _find_mismatches(tensor: TensorScheme | None, accepted: Accepted) -> list[str]:
    widths = " or ".join(map(str, accepted.bits))
    if tensor is None:
        return [f"not quantized, expected {widths} bits"]
    wrong = []
    if tensor.bits not in accepted.bits:
        wrong.append(f"{tensor.bits} bits, expected {widths}")
    if tensor.symmetric is False and accepted.symmetric_only:
        wrong.append("asymmetric, expected symmetric")
    if tensor.per_channel and not accepted.per_channel:
        wrong.append("a scale per channel, expected one per tensor")
    if tensor.power_of_two is False and accepted.power_of_two_only:
        wrong.append("scales that are no powers of two, expected powers of two")
    return wrong
