"""``hwsim show``: an architecture's fields, a network's layers, an energy table, the loop nest of a mapping."""

from __future__ import annotations

import argparse

from hwsim.commands._options import add_arch_options, add_net_options, choose_arch, read_positive

HELP = "show an architecture, a network, an energy table, or the loop nest of a mapping"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare one sub-command a kind."""
    parser.add_argument("--arch", metavar="NAME", help="without a KIND: what arch NAME shows")
    parser.add_argument("--preset", metavar="NAME", help="its preset (default: its own)")
    parser.set_defaults(show=_show_named)
    kinds = parser.add_subparsers(dest="kind", metavar="KIND")
    arch = kinds.add_parser("arch", help="fields of an architecture, with what is unverified")
    arch.add_argument("name", metavar="NAME", help="NAME or NAME:PRESET")
    arch.add_argument("--preset", metavar="NAME", help="preset (default: its own)")
    arch.add_argument("--memory", metavar="NAME", help="memory: flat, lpddr4-3200, ddr4-2400 or hbm2")
    arch.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="FIELD=VALUE", help="override a field"
    )
    arch.add_argument("--toml", action="store_true", help="print a file for hwsim run --config")
    arch.set_defaults(show=_show_arch)
    net = kinds.add_parser("net", help="layers of a network")
    net.add_argument("name", metavar="NAME", help="a network of hwsim list, or a file")
    net.add_argument("--batch", type=read_positive, default=1, metavar="N", help="batch size (default: 1)")
    net.set_defaults(show=_show_net)
    table = kinds.add_parser("table", help="entries of an energy table, with sources")
    table.add_argument("name", metavar="NAME", help="NAME or NAME@NODE, e.g. horowitz45@28")
    table.set_defaults(show=_show_table)
    mapping = kinds.add_parser("mapping", help="loop nest of a layer's best mapping")
    add_arch_options(mapping)
    add_net_options(mapping)
    mapping.add_argument("--layer", metavar="NAME", help="layer (default: all)")
    mapping.set_defaults(show=_show_mapping)


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    print(args.show(args))
    return 0


def _print_table(title: str, columns: list[tuple[str, bool]], rows: list[list[str]]) -> str:
    from hwsim.commands.run import find_width, uses_color
    from hwsim.report.text import build_table, render

    return render(build_table(title, columns, rows), find_width(), uses_color())


def _show_named(args: argparse.Namespace) -> str:
    from hwsim.core.errors import SpecError

    if args.arch is None:
        raise SpecError("show", None, "a KIND (arch, net, table, mapping) or --arch NAME", "see hwsim show --help")
    args.name, args.memory, args.settings, args.toml, args.arch = args.arch, None, [], False, None
    return _show_arch(args)


def _show_arch(args: argparse.Namespace) -> str:
    from hwsim.archs.overrides import arch_to_toml, list_fields

    arch = choose_arch(args, args.name)
    if args.toml:
        return arch_to_toml(arch).rstrip("\n")
    rows = []
    for field in list_fields(arch):
        owner, _, bare = field.path.rpartition(".")
        value = getattr(getattr(arch, owner) if owner else arch, bare)
        unsure = field.path in arch.unverified or field.bare in arch.unverified
        shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        rows.append([field.path, shown, "unverified" if unsure else ""])
    lines = [
        f"{arch.name} {arch.preset}: {arch.title}",
        _print_table("", [("field", True), ("value", False), ("", True)], rows),
    ]
    if arch.source:
        lines.append(f"source: {arch.source}")
    lines += [f"unverified: {item}" for item in arch.unverified]
    from accel_rtl.fpga_results import list_records

    return "\n".join(lines + [f"measured on {record.format()}" for record in list_records(arch)])


def _show_net(args: argparse.Namespace) -> str:
    from hwsim.nets.load import load_network
    from hwsim.report.units import format_si

    network = load_network(args.name, args.batch).network
    columns = [("layer", True), ("op", True), ("inputs", True), ("output\nN C H W", True), ("C", False), ("G", False)]
    columns += [("RxS", True), ("stride", True), ("activation", True), ("MACs", False), ("weights", False)]
    rows = []
    for layer in network.layers:
        window = f"{layer.R}x{layer.S}" if layer.kind == "mac" or layer.op in ("maxpool", "avgpool") else ""
        rows.append(
            [
                layer.name,
                layer.op,
                " ".join(layer.inputs),
                " ".join(map(str, layer.out_shape)),
                str(layer.C),
                str(layer.G),
                window,
                "x".join(map(str, layer.stride)) if window else "",
                layer.activation if layer.activation != "none" else "",
                f"{layer.macs:,}" if layer.macs else "",
                f"{layer.weights:,}" if layer.weights else "",
            ]
        )
    inputs = ", ".join(f"{spec.name} {'x'.join(map(str, spec.shape))}" for spec in network.inputs)
    lines = [
        f"{network.name}: {len(network.layers)} layers, {len(network.mac_layers)} of them multiply; input {inputs}",
        _print_table("", columns, rows),
        f"{network.macs:,} MACs ({format_si(network.macs)}), {network.weights:,} weights ({format_si(network.weights)})",
        f"source: {network.source}",
    ]
    return "\n".join(lines + [f"note: {note}" for note in network.notes])


def _show_table(args: argparse.Namespace) -> str:
    from energy_models.table import load_table

    table = load_table(args.name)
    sources = list(dict.fromkeys(entry.source for entry in table.entries))
    rows = []
    for entry in table.entries:
        area = "unknown" if entry.area_um2 is None else f"{entry.area_um2:.4g}"
        mark = f"[{sources.index(entry.source) + 1}]"
        rows.append([entry.label, f"{entry.energy_pj:.4g}", area, entry.confidence, mark])
    columns = [("operator", True), ("energy\npJ", False), ("area\num2", False), ("confidence", True), ("source", True)]
    dram = table.dram
    lines = [f"{table.label}: {table.title}", _print_table("", columns, rows)]
    lines.append(
        f"flat DRAM: read {dram.read_pj_per_bit:g}, write {dram.write_pj_per_bit:g} pJ/bit ({dram.source}; {dram.confidence})"
    )
    lines.append(f"buffers: {'CACTI sweep' if table.sram == 'cacti' else 'the table itself'}, device {table.device}")
    if table.borrows:
        lines.append(f"borrows what it lacks from {', '.join(table.borrows)}, scaled, and says so in each term")
    lines += [f"[{number}] {source}" for number, source in enumerate(sources, 1)]
    return "\n".join(
        lines + [f"source: {source}" for source in table.sources] + [f"remark: {item}" for item in table.remarks]
    )


def _show_mapping(args: argparse.Namespace) -> str:
    from hwsim.commands._options import choose_network, run_simulation
    from hwsim.commands._progress import Progress
    from hwsim.core.errors import UnknownName
    from hwsim.report.loopnest import format_loopnest

    arch = choose_arch(args)
    if args.layer:
        choose_network(args)[0].layer(args.layer)
    with Progress() as progress:
        report = run_simulation(args, arch, progress)
    mapped = [cost for cost in report.layers if cost.mapping is not None]
    wanted = [cost for cost in mapped if args.layer in (None, cost.name)]
    if not wanted:
        raise UnknownName("mapped layer", args.layer, [cost.name for cost in mapped])
    nests = [
        format_loopnest(report.network.layer(cost.name), mapping, dict(cost.stats.peak_buffer_bits))
        for cost, mapping in ((cost, cost.mapping) for cost in wanted)
        if mapping is not None
    ]
    return "\n\n".join(nests)
