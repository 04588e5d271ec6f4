# %% [markdown]
# # hwsim in ten cells
#
# Runs as a script (`python examples/quickstart.py`) or cell by cell in an editor that knows `# %%`.
# It needs no network access and writes into a temporary folder alone.

# %% A network on an accelerator: names in, a Report out
import tempfile
from dataclasses import replace
from pathlib import Path

from hwsim import simulate

report = simulate("resnet18", "systolic", policy="w8a8")
print(f"{report.cycles:,} cycles, {1e3 * report.latency_s:.2f} ms, {report.fps:.0f} images/s")
print(f"{report.energy_pj / 1e9:.2f} mJ, {report.tops_per_w:.2f} TOPS/W, {report.area_um2 / 1e6:.2f} mm2")

# %% One row a layer, as a pandas DataFrame
frame = report.to_frame()
print(frame[["name", "op", "macs", "cycles", "utilization", "bound", "dram_read_bits"]].head(8).to_string(index=False))

# %% Every cycle is accounted for once
stalls = report.stall_cycles()
compute = sum(cost.stats.compute_cycles for cost in report.layers)
assert compute + sum(stalls.values()) == report.cycles
print({"compute": compute, **stalls})

# %% An accelerator is a value: derive others from it
from hwsim.archs.registry import find_arch

base = find_arch("systolic", "base")
flows = {flow: simulate("resnet18", replace(base, dataflow=flow, preset="base+")) for flow in ("os", "ws", "is")}
for flow, found in flows.items():
    utilization = found.macs / (base.rows * base.cols * found.cycles)
    print(f"{flow}: {found.cycles:>10,} cycles, {found.energy_pj / 1e9:.2f} mJ, {100 * utilization:.1f} % utilization")
assert len({found.cycles for found in flows.values()}) == 3

# %% Energy depends on bits; on this array narrow operands save traffic and energy, its cells stay as fast
energies = []
for bits in (8, 6, 4, 2):
    found = simulate("resnet18", "systolic", policy=f"w{bits}a{bits}")
    energies.append(found.energy_pj)
    print(f"w{bits}a{bits}: {found.energy_pj / 1e9:.2f} mJ, {found.cycles:,} cycles")
assert energies == sorted(energies, reverse=True)

# %% Bits by layer: keep the first and the last layer at 8
mixed = simulate("resnet18", "systolic", policy="w4a4,conv1=w8a8,fc=w8a8")
print(f"w4a4 with conv1 and fc at 8 bits: {mixed.energy_pj / 1e9:.2f} mJ")

# %% Where a figure comes from
from hwsim.report.explain import explain

print(explain(report, "layer3.0.conv2", "cycles"))
print(explain(report, "layer3.0.conv2", "energy"))

# %% A real memory behind the same array
from hwsim.archs.overrides import choose_memory

slow = simulate("resnet8", choose_memory(base, "lpddr4-3200"))
flat = simulate("resnet8", base)
print(f"resnet8: flat memory {flat.cycles:,} cycles, LPDDR4-3200 {slow.cycles:,} cycles")

# %% An accelerator whose time depends on data: synthetic tensors, and the report says so
data = simulate("resnet8", "smartdeal", preset="small")
print(f"resnet8 on smartdeal small: {data.cycles:,} cycles; weights: {data.provenance.weights}")

# %% Plots and JSON
from hwsim.report.folder import write_folder

with tempfile.TemporaryDirectory() as folder:
    write_folder(report, Path(folder) / "out")
    for path in sorted((Path(folder) / "out").iterdir()):
        print(f"{path.name}: {path.stat().st_size:,} bytes")
    assert {"report.json", "layers.csv"} <= {path.name for path in (Path(folder) / "out").iterdir()}
