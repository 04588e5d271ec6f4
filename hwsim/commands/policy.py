"""``hwsim policy``: reads a policy of any known form, writes it in another, checks it against what is to run it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from hwsim.commands._options import choose_arch, choose_tensors, read_natural

if TYPE_CHECKING:
    from hwsim.core.network import Network
    from hwsim.core.policy import Policy
    from hwsim.core.tensors import Tensors
    from hwsim.policies.schemes import PolicyFile

HELP = "convert a policy file between tools, or check it against an architecture or an inference back end"
FORMS = ("json", "csv", "aimet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare one sub-command an action."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    convert = actions.add_parser("convert", help="write a policy in another form")
    _add_policy(convert)
    convert.add_argument("--to", choices=FORMS, default="json", help="form to write (default: json)")
    convert.add_argument("-o", "--output", metavar="FILE", help="file to write (default: stdout)")
    convert.add_argument(
        "--weights",
        metavar="SOURCE",
        help="for aimet, whose scales need them: pretrained, synthetic, or a file (.onnx, .pth)",
    )
    convert.add_argument("--image", metavar="FILE", help="for aimet: calibration image (default: a drawn one)")
    convert.add_argument(
        "--seed", type=read_natural, default=0, metavar="N", help="seed of everything drawn (default: 0)"
    )
    convert.set_defaults(act=_convert)
    check = actions.add_parser("check", help="say what of a policy an architecture or a back end cannot run")
    _add_policy(check)
    check.add_argument("--target", metavar="NAME", help="inference back end: tensorrt, snpe, vitis, openvino ...")
    check.add_argument("--arch", metavar="NAME", help="architecture, NAME or NAME:PRESET")
    check.set_defaults(act=_check, preset=None, config=None, memory=None, settings=[])


def run(args: argparse.Namespace) -> int:
    """Do what was asked for."""
    from hwsim.nets.load import load_network
    from hwsim.policies.read import resolve_policy

    loaded = load_network(args.net)
    found = resolve_policy(args.policy, loaded.network, args.net)
    for note in found.notes:
        print(f"hwsim: {found.source} ({found.kind}): {note}", file=sys.stderr)
    return int(args.act(args, found, loaded.network, loaded.tensors))


def _add_policy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", metavar="POLICY", help="a file, or a short string like w4a8,conv1=w8a8")
    parser.add_argument(
        "--net", required=True, metavar="NAME", help="a network of hwsim list, or a file (.onnx, .tflite)"
    )


def _convert(args: argparse.Namespace, found: PolicyFile, network: Network, own: Tensors | None) -> int:
    from hwsim.core.errors import InputError
    from hwsim.policies.native import format_native_csv, format_native_json
    from hwsim.policies.schemes import require_filters

    require_filters(found.policy, network)
    notes: tuple[str, ...] = ()
    if args.to == "aimet":
        text, notes = _format_aimet(args, found, network, own)
    else:
        text = (format_native_json if args.to == "json" else format_native_csv)(found, network)
    for note in notes:
        print(f"hwsim: {note}", file=sys.stderr)
    if not args.output:
        sys.stdout.write(text)
        return 0
    try:
        with open(args.output, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InputError(args.output, [f"cannot be written: {error.strerror or error}"]) from None
    return 0


def _format_aimet(
    args: argparse.Namespace, found: PolicyFile, network: Network, own: Tensors | None
) -> tuple[str, tuple[str, ...]]:
    """Calibrate the network at the policy and return its encodings; a quantized network keeps its own scales."""
    from hwsim.engine.functional import calibrate_network
    from hwsim.nets.synthetic import synthesize_input, synthesize_tensors
    from hwsim.policies.aimet_write import format_aimet, list_losses
    from hwsim.policies.names import list_names

    tensors = choose_tensors(args.weights, network, own)
    notes: tuple[str, ...] = ()
    if tensors is None:
        tensors = synthesize_tensors(network, args.seed)
        notes = (f"scales are those of drawn weights ({tensors.origin.description}): name real ones by --weights",)
    if not tensors.activations:
        if args.image:
            from hwsim.commands._image import read_image

            inputs = read_image(args.image, network)
        else:
            inputs = synthesize_input(network, args.seed)
            notes = (*notes, "ranges of activations are those of a drawn input: name a real one by --image")
        tensors = calibrate_network(network, tensors, found.policy, inputs)
    else:
        _require_own_bits(args, found, network, tensors)
    names = list_names(network, args.net if args.net.lower().endswith(".onnx") else None)
    text, more = format_aimet(network, tensors, names)
    return text, (*notes, *more, *list_losses(network, found.policy))


def _require_own_bits(args: argparse.Namespace, found: PolicyFile, network: Network, tensors: Tensors) -> None:
    """Raise InputError where a policy asks for other bits than those that a quantized network's scales are for."""
    from hwsim.core.errors import InputError
    from hwsim.nets.imported import quantized_policy

    own = quantized_policy(network, tensors)
    others = [
        f"{layer.name} ({own.of(layer.name).short}, {found.source} has {found.policy.of(layer.name).short})"
        for layer in network.mac_layers
        if _read_bits(own, layer.name) != _read_bits(found.policy, layer.name)
    ]
    if others:
        more = f" and {len(others) - 3} more layers" if len(others) > 3 else ""
        raise InputError(
            args.weights or args.net,
            [
                f"is quantized already, to other bits than the policy's: {', '.join(others[:3])}{more}; name float weights by "
                "--weights, or its own policy"
            ],
        )


def _read_bits(policy: Policy, layer: str) -> tuple[int, int]:
    fmt = policy.of(layer)
    return fmt.w_bits, fmt.a_bits


def _check(args: argparse.Namespace, found: PolicyFile, network: Network, own: Tensors | None) -> int:
    """Print what cannot be run, one line each; the exit code is 2 where there is any."""
    from hwsim.core.errors import SpecError
    from hwsim.policies.targets import TARGETS, check_target, find_target

    if bool(args.target) == bool(args.arch):
        raise SpecError("policy check", None, "--target NAME or --arch NAME", f"targets: {', '.join(TARGETS)}")
    if args.target:
        target = find_target(args.target)
        title, problems = f"{target.title} ({target.source})", check_target(found, network, target)
    else:
        arch = choose_arch(args, args.arch)
        title, problems = f"{arch.name}:{arch.preset}", _check_arch(arch, network, found)
    for problem in problems:
        print(problem)
    if problems:
        print(f"hwsim: {len(problems)} mismatches with {title}", file=sys.stderr)
        return 2
    print(f"{network.name} at {found.policy.short} runs on {title}")
    return 0


def _check_arch(arch: object, network: Network, found: PolicyFile) -> tuple[str, ...]:
    from hwsim.core.arch import Arch
    from hwsim.core.errors import HwsimError
    from hwsim.pipeline.widen import widen_by_policy
    from hwsim.pipeline.workloads import list_workloads

    assert isinstance(arch, Arch)
    problems = []
    network, _, policy = widen_by_policy(network, None, found.policy)
    for load in list_workloads(network, policy).values():
        if load.layer.kind != "mac":
            continue
        try:
            arch.check(load)
        except HwsimError as error:
            problems.append(str(error))
    return tuple(problems)
