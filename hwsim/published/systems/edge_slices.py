"""Learned precision of tensor slices (Schaefer et al.): weights and activations in a few megabytes."""

from __future__ import annotations

from dataclasses import replace

from hwsim.published.claims import Row, System, leave_out
from hwsim.published.systems._run import count_mac_cycles, list_mac_layers, price_layer, run

PAPER = (
    "Schaefer et al., Edge inference with fully differentiable quantized mixed precision, WACV 2024, arXiv 2206.07741"
)
MEGABYTE = 8e6
CLAIMS = (("efficientnet_lite0", "EfficientNet-Lite0", 4.14), ("mobilenet_v2", "MobileNetV2", 3.51))
ARCH = "bitfusion-E"


def measure_memory(network: str, bits: int) -> tuple[float, float]:
    """Return weights and peak activations in megabytes."""
    report = run(network, ARCH, f"w{bits}a{bits}")
    return sum(cost.weight_bits for cost in report.layers) / MEGABYTE, report.peak_activation_bits / MEGABYTE


def compare_memory() -> list[Row]:
    """Return weights plus peak activations at uniform bits, and the mean width that the claims stand for."""
    rows = []
    for network, title, claimed in CLAIMS:
        weights, peak = measure_memory(network, 8)
        uniform = {bits: sum(measure_memory(network, bits)) for bits in (4, 6)}
        width = 8 * claimed / (weights + peak)
        rows.append(
            Row(
                claim=f"{title}: weights and activations, megabytes", source=f"{PAPER}, abstract", unit="MB", claimed=claimed,
                simulated=weights + peak,
                why=f"the figure here is at uniform 8 bits: {weights:.2f} MB of weights and {peak:.2f} MB for the largest set of "
                f"tensors alive at once; the claim is {width:.2f} bits on average, between uniform 6 ({uniform[6]:.2f} MB) and 4 "
                f"({uniform[4]:.2f} MB); its rule for the peak is not at hand, the slices' bits are not released",
            )
        )  # fmt: skip
    return rows


def compare_slices() -> list[Row]:
    """Return what bits of slices cost where a layer is cut along its filters."""
    layer = next(one for one in list_mac_layers("resnet18") if one.name == "layer2.0.conv2")
    whole = price_layer(layer, "bismo-cloud", 8, 8, 8).cycles
    half = replace(layer, K=layer.K // 2)
    parts = sum(price_layer(half, "bismo-cloud", bits, 8, 8).cycles for bits in (4, 8))
    return [
        Row(
            claim="half of a layer's filters at 4 bits, half at 8 (layer2.0.conv2 of ResNet-18, bismo cloud): cycles of 8 bits",
            source=PAPER, unit="x", equations=0.75, simulated=parts / whole,
            why="two layers of half the filters, one after the other: each fills the array and loads the inputs by itself",
        )
    ]  # fmt: skip


def reproduce() -> tuple[Row, ...]:
    """Return the rows of learned tensor slices."""
    eight, four = (run("mobilenet_v2", ARCH, f"w{bits}a{bits}") for bits in (8, 4))
    deep = [
        sum(c.cycles for layer, c in zip(r.network.layers, r.layers, strict=True) if c.w_bits and layer.is_depthwise)
        for r in (eight, four)
    ]
    return (
        *compare_memory(),
        *compare_slices(),
        Row(
            claim="MobileNetV2 at uniform 4 bits over 8 on BitFusion E: speed", source=PAPER, unit="x", equations=4.0,
            simulated=count_mac_cycles(eight) / count_mac_cycles(four),
            why=f"equations: products of bits alone; depthwise layers, one channel a column, take {deep[0]:,} cycles at 8 bits and "
            f"{deep[1]:,} at 4: narrower products cannot be joined there; all others gain "
            f"{(count_mac_cycles(eight) - deep[0]) / (count_mac_cycles(four) - deep[1]):.2f}x",
        ),
        leave_out(
            "67.66 % top-1 (EfficientNet-Lite0) and 65.39 % (MobileNetV2) at these sizes", f"{PAPER}, abstract",
            "takes training on ImageNet",
        ),
    )  # fmt: skip


SYSTEM = System(
    name="edge-slices", title="learned precision of tensor slices for edge memories", source=PAPER, reproduce=reproduce,
    archs=("bitfusion",), order=12,
)  # fmt: skip
