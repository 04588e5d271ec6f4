"""SDQ: bits of each layer learned by stochastic choice, for bit-flexible accelerators."""

from __future__ import annotations

from hwsim.published.claims import Row, System, leave_out
from hwsim.published.systems._run import count_mac_cycles, list_mac_layers, run

PAPER = "Huang et al., SDQ, ICML 2022, arXiv 2206.04459"
WIDEST, NARROWEST, ACTIVATIONS = 8, 2, 4
MEAN_BITS = 3.6
"""Mean weight bits of the example."""


def choose_bits(mean_bits: float = MEAN_BITS) -> dict[str, int]:
    """Return weight bits of ResNet-18: every layer at eight, the largest lowered to two bits, then the next, until the mean is met.

    A stand-in: the bits that SDQ found are not released.
    """
    layers = sorted(list_mac_layers("resnet18")[1:-1], key=lambda layer: (-layer.weights, layer.name))
    bits = {layer.name: WIDEST for layer in layers}
    spare = sum(layer.weights for layer in layers) * (WIDEST - mean_bits)
    for layer in layers:
        fewer = min(WIDEST - NARROWEST, -int(-spare // layer.weights))
        bits[layer.name] -= max(fewer, 0)
        spare -= max(fewer, 0) * layer.weights
    return bits


def compare_machines() -> list[Row]:
    """Return what mixed weight bits gain on machines that have them."""
    from hwsim.core.policy import LayerFormat, Policy

    bits = choose_bits()
    mixed = Policy(
        layers=tuple((name, LayerFormat(w_bits=width, a_bits=ACTIVATIONS)) for name, width in bits.items()),
        default=LayerFormat(w_bits=8, a_bits=8),
    )
    eight = Policy(default=LayerFormat(w_bits=8, a_bits=8))
    macs = {layer.name: layer.macs for layer in list_mac_layers("resnet18")}
    rows = []
    rounded = _ratio(macs, {name: 2 if width <= 2 else 4 if width <= 4 else 8 for name, width in bits.items()})
    for arch, expected, why in (
        ("bitfusion-E", rounded, "products at 2, 4 and 8 bits, which a unit has"),
        ("bitfusion-S", rounded, "products at 2, 4 and 8 bits; memory is 21 times as wide as that of E"),
        ("bismo-cloud", _ratio(macs, bits), "products of bits"),
    ):
        base, ours = run("resnet18", arch, eight), run("resnet18", arch, mixed)
        share = [sum(x.stats.compute_cycles for x in r.layers if x.w_bits) / count_mac_cycles(r) for r in (base, ours)]
        rows.append(
            Row(
                claim=f"weights of 2 to 8 bits (mean {MEAN_BITS}) and activations of 4 over w8a8, ResNet-18 on {arch}: speed",
                source=PAPER, unit="x", equations=expected, simulated=count_mac_cycles(base) / count_mac_cycles(ours),
                why=f"equations: {why}; the engine computes in {share[0]:.0%} of the cycles at 8 bits, {share[1]:.0%} at mixed "
                f"ones; energy falls by {base.energy_pj / ours.energy_pj:.2f}x",
            )
        )  # fmt: skip
    return rows


def _ratio(macs: dict[str, int], bits: dict[str, int]) -> float:
    """Return products of bits at w8a8 over those at the mixed bits."""
    mixed = sum(count * (bits[name] * ACTIVATIONS if name in bits else 64) for name, count in macs.items())
    return 64 * sum(macs.values()) / mixed


def reproduce() -> tuple[Row, ...]:
    """Return SDQ's rows."""
    return (
        *compare_machines(),
        leave_out(
            "accuracy above full precision at fewer bits, ResNets and MobileNets", f"{PAPER}, abstract",
            "takes training; neither code nor bits are released, the rows above use bits by a rule of this project",
        ),
        leave_out("evaluated on GPUs and an FPGA", f"{PAPER}, abstract", "its figures are not at hand"),
    )  # fmt: skip


SYSTEM = System(
    name="sdq", title="stochastic differentiable quantization: learned bits of each layer", source=PAPER, reproduce=reproduce,
    archs=("bitfusion", "bismo"), order=11,
)  # fmt: skip
