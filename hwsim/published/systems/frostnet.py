"""FrostNet: networks made for 8-bit inference on CPUs, beside float on the same core."""

from __future__ import annotations

from hwsim.published.claims import Row, System, leave_out
from hwsim.published.systems._run import find_geomean, run

PAPER = "Kim, Yoo and Yang, FrostNet, 2020"
README = "clovaai/frostnet (MIT), README.md: Threadripper 1950X, 4 threads, fbgemm"
MILLISECONDS = {
    "resnet18": (366, 245), "shufflenet_v2_x0_5": (157, 89), "shufflenet_v2_x1_0": (255, 372), "mobilenet_v2": (282, 112),
    "mobilenet_v3_large": (258, 131), "mobilenet_v3_small": (148, 79),
}  # fmt: skip
"""float32 and int8 (the versions with ReLU alone)."""
FROSTNETS = ("frostnet_large", "frostnet_base", "frostnet_small")
CUT = 0.65
"""By how much FrostNets' latency falls, on average."""
CORE = "a76"


def find_speed(network: str) -> float:
    """Return float latency over that of 8 bits on one core."""
    return run(network, f"simd-{CORE}-fp32", "w8a8").latency_s / run(network, f"simd-{CORE}", "w8a8").latency_s


def reproduce() -> tuple[Row, ...]:
    """Return FrostNet's rows."""
    why = (
        "the claim is an x86 desktop's under a framework, the simulation one ARM core (Cortex-A76) of published instruction rates: "
        "four products of bytes in the time of a float at most; packing and requantization count, a framework's own time does not"
    )
    rows = [
        Row(
            claim=f"{network}: latency of float32 over that of int8", source=README, unit="x", claimed=before / after,
            simulated=find_speed(network), why=why,
        )
        for network, (before, after) in MILLISECONDS.items()
    ]  # fmt: skip
    speeds = {network: find_speed(network) for network in FROSTNETS}
    return (
        *rows,
        Row(
            claim="FrostNets: latency falls by, on average", source=README, unit="%", claimed=100 * CUT,
            simulated=100 * (1 - 1 / find_geomean(speeds.values())),
            why=", ".join(f"{name} {speed:.2f}x" for name, speed in speeds.items()) + "; machines as above",
        ),
        leave_out("accuracy of FrostNets at 8 bits on ImageNet", f"{PAPER} (from notes)", "takes training", "unverified"),
    )  # fmt: skip


SYSTEM = System(
    name="frostnet", title="networks for 8-bit inference on CPUs", source=f"{PAPER}; clovaai/frostnet (MIT)",
    reproduce=reproduce, archs=("simd",), order=8,
)  # fmt: skip
