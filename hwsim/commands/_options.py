"""Options that several commands share, and what they mean. Only light imports at the top: `hwsim --help` reads this."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mappers.objective import OBJECTIVES

if TYPE_CHECKING:
    from hwsim.commands._progress import Progress
    from hwsim.core.arch import Arch
    from hwsim.core.network import Network
    from hwsim.core.policy import Policy
    from hwsim.core.program import LayerTrace
    from hwsim.core.report import Report
    from hwsim.core.tensors import Tensors

Options = argparse._ArgumentGroup
MOST_DIGITS = 40
"""Digits beyond which a number is not looked at, nor shown: Python refuses to read very long ones."""


def add_arch_options(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Add what chooses an architecture."""
    group = parser.add_argument_group("architecture")
    if several:
        group.add_argument(
            "--arch", required=True, metavar="A,B", help="architectures, NAME or NAME:PRESET, joined by commas"
        )
    else:
        group.add_argument("--arch", metavar="NAME", help="architecture, NAME or NAME:PRESET (default: systolic)")
        group.add_argument(
            "--config", metavar="FILE", help="architecture from a TOML file (see hwsim show arch NAME --toml)"
        )
    group.add_argument("--preset", metavar="NAME", help="preset of the architecture (default: its own)")
    group.add_argument(
        "--memory", metavar="NAME", help="memory: flat, lpddr4-3200, ddr4-2400 or hbm2 (default: the preset's)"
    )
    group.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override a field, e.g. --set rows=16",
    )


def add_net_options(parser: argparse.ArgumentParser) -> None:
    """Add what chooses a network, its formats and how it is mapped and priced."""
    group = parser.add_argument_group("network")
    add_net_name(group)
    group.add_argument(
        "--weights",
        metavar="SOURCE",
        help="pretrained, synthetic, or a file (.onnx, .pth) (default: the file's own, else synthetic)",
    )
    add_policy(group)
    group.add_argument(
        "--image", metavar="FILE", help="input image for data-dependent cycles (.npy, or .png/.jpg with pillow)"
    )
    group.add_argument(
        "--seed", type=read_natural, default=0, metavar="N", help="seed of everything drawn (default: 0)"
    )
    costs = parser.add_argument_group("mapping and energy")
    add_objective(costs)
    add_energy_table(costs)
    add_fpga(costs, "clock and area")


def add_net_name(group: Options) -> None:
    """Add what chooses a network and its batch."""
    group.add_argument(
        "--net", required=True, metavar="NAME", help="a network of hwsim list, or a file (.onnx, .tflite)"
    )
    group.add_argument("--batch", type=read_positive, default=1, metavar="N", help="images of one pass (default: 1)")


def add_policy(group: Options) -> None:
    """Add what chooses the number formats."""
    group.add_argument(
        "--policy",
        metavar="TEXT",
        help="bits, e.g. w4a8 or w4a8,conv1=w8a8, or a file: hwsim's own (JSON, CSV), a HAQ strategy, AIMET encodings, MQBench "
        "clip ranges, quantized ONNX (default: a quantized model's own, else w8a8)",
    )


def add_objective(group: Options) -> None:
    """Add what the mapper minimizes."""
    group.add_argument(
        "--objective",
        choices=OBJECTIVES,
        default="cycles",
        help="what the mapper minimizes; cycles: the least energy within 0.5 %% of the least cycles (default: cycles)",
    )


def add_energy_table(group: Options) -> None:
    """Add what chooses the energy table."""
    group.add_argument("--energy-table", metavar="NAME", help="energy table (default: the preset's)")


def add_fpga(group: Options, what: str) -> None:
    """Add what takes measured figures of an FPGA; ``what`` names them."""
    group.add_argument("--fpga", metavar="PART", help=f"{what} as measured on this FPGA by hwsim synth, e.g. ecp5-85k")


def read_up_to(most: int) -> Callable[[str], int]:
    """Return what reads an integer from 1 to ``most``."""

    def read(text: str) -> int:
        value = _read_digits(text)
        if value is None or not 1 <= value <= most:
            raise argparse.ArgumentTypeError(f"{_shorten(text)!r} is not an integer from 1 to {most}")
        return value

    return read


read_positive = read_up_to(4096)


def read_natural(text: str) -> int:
    """Return an integer of at least 0 that fits 64 bits."""
    value = _read_digits(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"{_shorten(text)!r} is not an integer from 0 to {(1 << 63) - 1}")
    return value


def _read_digits(text: str) -> int | None:
    """Return the number that a text of digits is, None where it is none or beyond 63 bits."""
    if not (text.isascii() and text.isdigit()) or len(text) > MOST_DIGITS:
        return None
    value = int(text)
    return value if value < 1 << 63 else None


def _shorten(text: str) -> str:
    return text if len(text) <= MOST_DIGITS else f"{text[: MOST_DIGITS - 3]}..."


def choose_arch(args: argparse.Namespace, name: str | None = None) -> Arch:
    """Return the architecture that the options describe: preset or file, then memory, then fields.

    Raises
    ------
    SpecError, UnknownName, InputError
    """
    from hwsim.archs.overrides import arch_from_toml, choose_memory, override, parse_settings
    from hwsim.archs.registry import find_arch
    from hwsim.core.errors import SpecError

    config = getattr(args, "config", None)
    if config and (name or args.arch or args.preset):
        raise SpecError("--config", config, "no --arch and no --preset beside it", "the file names them")
    arch = arch_from_toml(config) if config else find_arch(name or args.arch or "systolic", args.preset)
    if args.memory:
        arch = choose_memory(arch, args.memory)
    return override(arch, parse_settings(args.settings)) if args.settings else arch


def choose_network(args: argparse.Namespace) -> tuple[Network, Tensors | None, Policy]:
    """Return the network, its tensors (None where the pipeline is to draw them) and the number formats; widened by its groups.

    Raises
    ------
    UnknownName, InputError, SpecError, MissingExtra
    """
    from hwsim.core.policy import Policy, parse_policy
    from hwsim.nets.load import load_network
    from hwsim.pipeline.widen import widen_by_policy
    from hwsim.policies.read import names_file

    policy = None if args.policy is None or names_file(args.policy) else parse_policy(args.policy)
    loaded = load_network(args.net, args.batch)
    if args.policy is not None and policy is None:
        policy = _read_policy_file(args.policy, loaded.network, args.net)
    tensors = choose_tensors(args.weights, loaded.network, loaded.tensors)
    if policy is None and tensors is not None and tensors.activations and tensors is loaded.tensors:
        from hwsim.nets.imported import quantized_policy

        policy = quantized_policy(loaded.network, tensors)
    policy = policy or loaded.policy or Policy()
    policy.check(loaded.network)
    return widen_by_policy(loaded.network, tensors, policy)


def _read_policy_file(path: str, network: Network, model: str) -> Policy:
    """Return the policy of a file; what was assumed goes to stderr, so that stdout stays the result alone."""
    import sys

    from hwsim.policies.read import read_policy

    found = read_policy(path, network, model)
    for note in found.notes:
        print(f"hwsim: {found.source} ({found.kind}): {note}", file=sys.stderr)
    return found.policy


def choose_tensors(source: str | None, network: Network, own: Tensors | None) -> Tensors | None:
    """Return the tensors that ``--weights`` names; ``own`` are those of the network's file."""
    if source is None:
        return own
    if source == "synthetic":
        return None
    if source == "pretrained":
        from hwsim.nets.pretrained import load_pretrained

        found = load_pretrained(network.name)
    else:
        from hwsim.nets.weights import load_weights

        found = load_weights(network, source)
    tensors: Tensors = getattr(found, "tensors", found)
    return tensors


def run_simulation(args: argparse.Namespace, arch: Arch, progress: Progress | None = None) -> Report:
    """Simulate what the options describe on ``arch``."""
    from hwsim.pipeline import simulate

    return simulate(**_collect(args, arch, progress))


def run_traced(
    args: argparse.Namespace, arch: Arch, progress: Progress | None = None
) -> tuple[Report, tuple[LayerTrace, ...]]:
    """Simulate and keep every layer's Program and timeline."""
    from hwsim.pipeline import simulate_traced

    return simulate_traced(**_collect(args, arch, progress))


def _collect(args: argparse.Namespace, arch: Arch, progress: Progress | None) -> dict[str, Any]:
    if args.energy_table:
        from energy_models import load_table

        load_table(args.energy_table)
    network, tensors, policy = choose_network(args)
    image = None
    if args.image:
        from hwsim.commands._image import read_image

        image = read_image(args.image, network)
    return {
        "network": network,
        "arch": arch,
        "policy": policy,
        "batch": args.batch,
        "tensors": tensors,
        "image": image,
        "objective": args.objective,
        "energy_table": args.energy_table,
        "fpga": args.fpga,
        "seed": args.seed,
        "progress": progress,
    }
