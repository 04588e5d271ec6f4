"""MQBench: what deployable quantization means on each back end."""

from __future__ import annotations

from hwsim.published.claims import Row, System, leave_out
from hwsim.published.systems._run import list_mac_layers, run

PAPER = "MQBench, NeurIPS 2021 datasets and benchmarks, arXiv 2111.03759"
SOURCE = "ModelTC/MQBench (Apache-2.0), mqbench/prepare_by_platform.py"
NETWORK = "resnet18"


def count_accepted() -> dict[str, list[str]]:
    """Return, by back end, the back ends that run a network quantized by its scheme."""
    from hwsim.core.policy import Policy
    from hwsim.nets.load import load_network
    from hwsim.policies.schemes import LayerScheme, PolicyFile, TensorScheme, assemble_policy
    from hwsim.policies.targets import TARGETS, Accepted, check_target

    network = load_network(NETWORK).network

    def draw(kind: Accepted) -> TensorScheme:
        return TensorScheme(
            bits=kind.bits[0], symmetric=kind.symmetric_only, per_channel=kind.per_channel,
            power_of_two=kind.power_of_two_only,
        )  # fmt: skip

    found = {}
    for name, target in TARGETS.items():
        scheme = LayerScheme(weight=draw(target.weight), activation=draw(target.activation))
        file: PolicyFile = assemble_policy(network, {x.name: scheme for x in list_mac_layers(NETWORK)}, "scheme", name)
        assert isinstance(file.policy, Policy)
        found[name] = [other for other, one in TARGETS.items() if not check_target(file, network, one)]
    return found


def reproduce() -> tuple[Row, ...]:
    """Return MQBench's rows."""
    from hwsim.policies.targets import TARGETS

    accepted = count_accepted()
    rows = [
        Row(
            claim=f"ResNet-18 quantized by the scheme of {TARGETS[name].title}: back ends of {len(TARGETS)} that run it as it is",
            source=TARGETS[name].source, unit="targets", equations=len(others),
            why=", ".join(TARGETS[other].title for other in others),
        )
        for name, others in accepted.items()
    ]  # fmt: skip
    pairs = sum(len(others) - 1 for others in accepted.values())
    shift, both = run(NETWORK, "fixed8", "f8"), run(NETWORK, "systolic", "w8a8")
    energy = [sum(x.energy_by_component().get("requant", 0.0) for x in report.layers) for report in (shift, both)]
    return (
        Row(
            claim="schemes differ by hardware: pairs of different back ends where one runs the other's network as it is",
            source=PAPER, unit="pairs", equations=pairs,
            why=f"of {len(TARGETS) * (len(TARGETS) - 1)}; compared are bits, symmetry, scales per channel and powers of two, "
            "not NNIE's logarithmic levels",
        ),
        *rows,
        Row(
            claim="scales that are powers of two (Vitis): energy of requantization over that with a multiplier, ResNet-18",
            source=PAPER, unit="x", simulated=energy[0] / energy[1],
            why=f"on `fixed8` and `systolic`, the same array; requantization is {energy[1] / both.energy_pj:.2%} of all energy",
        ),
        leave_out(
            "accuracy of quantization-aware training under each back end's scheme", f"{PAPER} (from notes)",
            "takes training on ImageNet", "unverified",
        ),
    )  # fmt: skip


SYSTEM = System(
    name="mqbench", title="schemes of inference back ends", source=f"{PAPER}; {SOURCE}", reproduce=reproduce,
    archs=("fixed8", "systolic"), order=15,
)  # fmt: skip
