"""Writes a copy of an ONNX model whose nodes carry what they cost, as metadata that viewers such as Netron show."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hwsim.core.errors import InputError
from hwsim.core.report import Report
from hwsim.core.stats import LayerCost
from hwsim.nets.onnx_safety import read_model_bytes

IR_VERSION = 10
"""Version of the file format that introduced metadata of nodes (onnx.proto: ``NodeProto.metadata_props``)."""
NEWEST_OPSET = 21
"""Newest operator set of that file format (onnx, docs/Versioning.md)."""
PREFIX = "hwsim."


def annotate_onnx(model: str | os.PathLike[str], report: Report, output: str | os.PathLike[str]) -> tuple[str, ...]:
    """Write a copy of a model with the costs of a report.

    Every node that a row of the report prices gets ``hwsim.cycles``, ``hwsim.energy_pj``, ``hwsim.bits``, ``hwsim.bound``,
    ``hwsim.utilization``, ``hwsim.dram_bits`` and ``hwsim.weight_bits``; the model gets the totals and where they come from.
    The graph itself is not changed. External data is referred to as before, so the copy belongs beside the original.

    Returns
    -------
    tuple of str
        What a reader should know; one line each.

    Raises
    ------
    InputError
        No ONNX file, one whose operator set is newer than ``NEWEST_OPSET`` and cannot be converted, or one of another network
        than the report's; an output that cannot be written.
    """
    import onnx
    from google.protobuf.message import DecodeError

    source = Path(model).name
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(read_model_bytes(model))
    except (DecodeError, RuntimeError, ValueError):
        raise InputError(source, ["is not an ONNX file, or it is truncated"]) from None
    proto = _lower_opset(proto, source)
    rows = {row.name: row for row in report.layers}
    unpriced, found = [], set()
    for node in proto.graph.node:
        row = rows.get(node.name) or rows.get(node.output[0] if node.output else "")
        if row is None:
            unpriced.append(node.name or node.op_type)
            continue
        found.add(row.name)
        _set_metadata(node, _describe_row(row))
    missing = [layer.name for layer in report.network.mac_layers if layer.name not in found]
    if missing or not found:
        first = missing[0] if missing else "any"
        raise InputError(
            source, [f"is not the model of the report: it has no node for layer {first} of {report.network.name}"]
        )
    _set_metadata(proto, _describe_report(report))
    proto.ir_version = IR_VERSION
    if os.path.abspath(output) == os.path.abspath(model):
        raise InputError(str(output), ["is the model itself; name another file for the copy"])
    try:
        Path(output).write_bytes(proto.SerializeToString())
    except OSError as error:
        raise InputError(str(output), [f"cannot be written: {error.strerror or error}"]) from None
    if not unpriced:
        return ()
    return (
        f"{len(found)} nodes annotated; {len(unpriced)} have no row of their own (constants, or folded into another)",
    )


def _describe_row(row: LayerCost) -> dict[str, str]:
    bits = f"w{row.w_bits}a{row.a_bits}" if row.w_bits else f"a{row.a_bits}"
    moved = row.stats.moved_bits("dram", "read") + row.stats.moved_bits("dram", "write")
    return {
        "cycles": str(row.stats.cycles),
        "energy_pj": f"{row.energy_pj:.6g}",
        "bits": bits if row.a_bits else "none",
        "bound": row.stats.bound,
        "utilization": f"{row.stats.utilization:.4f}",
        "dram_bits": str(moved),
        "weight_bits": str(row.weight_bits),
    }


def _describe_report(report: Report) -> dict[str, str]:
    origin = report.provenance
    return {
        "arch": f"{origin.arch}:{origin.preset}",
        "policy": str(getattr(origin, "policy", "")),
        "energy_table": origin.energy_table,
        "cycles": str(report.cycles),
        "latency_s": f"{report.latency_s:.6g}",
        "energy_pj": f"{report.energy_pj:.6g}",
        "version": origin.version,
    }


def _set_metadata(holder: Any, values: dict[str, str]) -> None:
    """Replace the entries of an earlier annotation."""
    kept = [(entry.key, entry.value) for entry in holder.metadata_props if not entry.key.startswith(PREFIX)]
    del holder.metadata_props[:]
    for key, value in [*kept, *((PREFIX + key, value) for key, value in values.items())]:
        entry = holder.metadata_props.add()
        entry.key, entry.value = key, value


def _lower_opset(proto: Any, source: str) -> Any:
    version = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if version <= NEWEST_OPSET:
        return proto
    from onnx import version_converter

    try:
        return version_converter.convert_version(proto, NEWEST_OPSET)
    except Exception as error:  # the converter raises whatever its operators raise
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(
            source, [f"has the operator set {version}; it cannot be written as {NEWEST_OPSET}: {reason}"]
        ) from None
