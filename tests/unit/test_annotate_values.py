"""Every value that an annotated ONNX copy carries is the report's own figure, as its JSON has it."""

from __future__ import annotations

import pytest

from hwsim.pipeline import simulate
from hwsim.policies.annotate import annotate_onnx
from tests.extras import load_optional
from tests.policy_models import save_float_model

onnx = load_optional("onnx")


def read_metadata(holder):
    assert all(entry.key.startswith("hwsim.") for entry in holder.metadata_props)
    return {entry.key.removeprefix("hwsim."): entry.value for entry in holder.metadata_props}


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """The report as plain values, metadata by node, metadata of the model."""
    folder = tmp_path_factory.mktemp("annotated")
    save_float_model(folder / "net.onnx")
    report = simulate(str(folder / "net.onnx"), "systolic", policy="w4a8,conv2=w3a5,fc=w8a8")
    annotate_onnx(folder / "net.onnx", report, folder / "copy.onnx")
    model = onnx.load(str(folder / "copy.onnx"))
    nodes = {node.name: found for node in model.graph.node if (found := read_metadata(node))}
    return report.to_dict(), nodes, read_metadata(model)


def test_nodes_carry_the_figures_of_their_rows(annotated):
    data, nodes, _ = annotated
    rows = {row["name"]: row for row in data["layers"]}
    assert set(nodes) <= set(rows)
    assert {"conv1", "conv2", "fc", "pool"} <= set(nodes)
    widths = {"conv1": "w4a8", "conv2": "w3a5", "fc": "w8a8"}
    for name, found in nodes.items():
        row = rows[name]
        assert found == {
            "cycles": f"{row['cycles']}",
            "energy_pj": f"{row['energy_pj']:.6g}",
            "bits": widths.get(name, f"a{row['a_bits']}" if row["a_bits"] else "none"),
            "bound": row["bound"],
            "utilization": f"{row['utilization']:.4f}",
            "dram_bits": f"{row['dram_read_bits'] + row['dram_write_bits']}",
            "weight_bits": f"{row['weight_bits']}",
        }


def test_the_rows_tell_the_figures_apart(annotated):
    """No value of the convolutions could stand for another or for a constant: the comparison above means something."""
    data, nodes, _ = annotated
    rows = [row for row in data["layers"] if row["w_bits"]]
    assert len(rows) == 3
    for key in ("cycles", "energy_pj", "utilization", "dram_read_bits", "dram_write_bits", "weight_bits"):
        assert len({row[key] for row in rows}) == 3
        assert all(row[key] > 0 for row in rows)
    for name in ("conv1", "conv2", "fc"):
        counts = [nodes[name][key] for key in ("cycles", "energy_pj", "utilization", "dram_bits", "weight_bits")]
        assert len(set(counts)) == len(counts)


def test_the_model_carries_the_totals_and_their_sources(annotated):
    data, _, found = annotated
    totals, origin = data["totals"], data["provenance"]
    assert found == {
        "arch": f"{origin['arch']}:{origin['preset']}",
        "policy": origin["policy"],
        "energy_table": origin["energy_table"],
        "cycles": f"{totals['cycles']}",
        "latency_s": f"{totals['latency_s']:.6g}",
        "energy_pj": f"{totals['energy_pj']:.6g}",
        "version": origin["version"],
    }
    assert origin["arch"] == "systolic"
    assert all(found.values())
