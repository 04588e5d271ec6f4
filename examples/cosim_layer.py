# %% [markdown]
# # An accelerator in hardware, and one layer on it
#
# Needs the extra `rtl` (`pip install -e '.[rtl]'`) and g++. Runs as a script (`python examples/cosim_layer.py`) or cell by
# cell; the first run takes a minute, what was generated and compiled is kept in the user's cache.

# %% A small array: 4 x 4 cells, otherwise the preset `small`
import tempfile
from dataclasses import replace
from pathlib import Path

from hwsim.archs.registry import find_arch

arch = replace(find_arch("systolic", "small"), rows=4, cols=4, preset="small+")

# %% Verilog, register map, constraints and build scripts: what `hwsim rtl` writes
from accel_rtl.package import build_package

package = build_package(arch)
with tempfile.TemporaryDirectory() as folder:
    for name, text in package.files:
        (Path(folder) / name).write_text(text)
        print(f"{name}: {len(text):,} characters")
for reason in package.left_out:
    print(f"left out: {reason}")

# %% A network with tensors and an input; here both are drawn, `hwsim cosim --weights` shows where else they come from
from cosim.plan import NetworkRun
from hwsim.core.policy import parse_policy
from hwsim.nets.load import load_network
from hwsim.nets.synthetic import synthesize_input, synthesize_tensors

network = load_network("resnet8").network
layer = NetworkRun(
    network=network, arch=arch, policy=parse_policy("w8a8"), tensors=synthesize_tensors(network, 0),
    image=synthesize_input(network, 0), layer="conv2d_1",
)  # fmt: skip

# %% The layer on a compiled model of the hardware: every output element and every cycle against the simulator
from cosim.harness.model import open_harness
from cosim.run import drive

(found,) = drive(layer.plan(), open_harness(arch))
print(f"{found.name}: {found.text}")
print(f"{found.cycles:,} cycles, the simulator says {found.expected_cycles:,}")
print(f"{found.equal_elements:,} of {found.elements:,} output elements equal")
print(
    f"{found.host_cycles / found.rtl_seconds:,.0f} cycles/s of RTL; ratio {found.rtl_seconds / found.simulator_seconds:,.0f}"
)
assert found.mismatches == ()

# %% What the hardware cannot do is refused with the field
from accel_rtl.accelerator import find_engine
from hwsim.core.errors import SpecError

try:
    find_engine(replace(arch, cols=3))
except SpecError as error:
    print(error)
