"""The simulation of `bitfusion` against the equations of its authors on the 61 layers of their sweep, batch 16, 16 x 32 units.

Compute cycles are equal but for one thing: the equations' tiles are powers of two and a ragged one counts as whole (13 pixels as
16, 3,600 inputs as 4,096). What comes on top: issue, the first load, the last store, and waiting where the memory is slower.
What is less: outputs of 32 bits that the equations read and write for every tile, the first included, are written once here.
"""

from __future__ import annotations

from math import prod

import pytest

from hwsim.archs.registry import find_arch
from hwsim.core.datapath import Workload
from hwsim.core.layer import Layer
from hwsim.core.policy import LayerFormat
from hwsim.core.stats import LayerStats
from hwsim.pipeline.layer import run_layer
from hwsim.published.bitfusion import BATCH, OUT_BITS, Shape, count_layer
from hwsim.published.bitfusion_networks import MACHINES, NETWORKS
from mappers.search import find_mapping

EQUATIONS = MACHINES["16x32@192"]


def simulate(shape: Shape, out_bits: int) -> LayerStats:
    """Return the statistics of a layer under the best mapping; padding is part of the input, as in the equations."""
    size = (shape.out - 1) * shape.stride + shape.kernel
    layer = Layer(
        name="layer", op="conv", inputs=("x",), N=BATCH, K=shape.out_channels, C=shape.in_channels, P=shape.out, Q=shape.out,
        R=shape.kernel, S=shape.kernel, H=size, W=size, stride=(shape.stride, shape.stride),
    )  # fmt: skip
    workload = Workload(
        layer=layer, fmt=LayerFormat(w_bits=shape.w_bits, a_bits=shape.a_bits), out_bits=out_bits,
        operand_bits=(shape.a_bits,), operand_shapes=(layer.in_shape,),
    )  # fmt: skip
    arch = find_arch("bitfusion:E")
    datapath = arch.bind(workload)
    return run_layer(datapath, arch, find_mapping(datapath, arch))[0]


def count_compute(shape: Shape) -> int:
    """Return the equations' compute cycles of the whole layer as one tile, nothing rounded up."""
    lanes = EQUATIONS.rows * EQUATIONS.count_products(shape.a_bits, shape.w_bits)
    window = shape.kernel**2
    steps = -(-shape.in_channels * window // lanes) if shape.im2col else window * -(-shape.in_channels // lanes)
    return BATCH * shape.out**2 * -(-shape.out_channels // EQUATIONS.cols) * steps


def is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0


@pytest.mark.parametrize("network", NETWORKS)
def test_compute_cycles_are_those_of_the_equations(network):
    for name, shape in NETWORKS[network].items():
        wanted = count_layer(shape, EQUATIONS)
        found = simulate(shape, OUT_BITS)
        compute = count_compute(shape)
        assert found.compute_cycles == compute, name
        theirs = wanted.cycles - wanted.stall_cycles
        assert theirs >= compute, name
        if all(is_power_of_two(x) for x in (shape.out, shape.in_channels, shape.out_channels)):
            assert theirs == compute, name
        assert found.cycles == compute + sum(cycles for _, cycles in found.stall_cycles)
        moved = [
            sum(getattr(x, side) for x in found.traffic if x.level == "dram") for side in ("read_bits", "write_bits")
        ]
        assert found.cycles >= max(compute, sum(moved) // EQUATIONS.port_bits)
        assert 0.6 < found.cycles / wanted.cycles < 1.25, name


def test_outputs_at_the_next_layer_s_bits_are_written_sooner():
    shapes = [shape for layers in NETWORKS.values() for shape in layers.values()]
    pairs = [
        (simulate(shape, OUT_BITS).cycles, simulate(shape, shape.a_bits).cycles) for shape in dict.fromkeys(shapes)
    ]
    assert all(narrow <= wide * 1.005 for wide, narrow in pairs)
    assert prod(narrow / wide for wide, narrow in pairs) < 1


def test_sixteen_products_of_two_bits_in_the_time_of_one_of_eight():
    eight = Shape(kernel=1, out=1, stride=1, in_channels=4096, out_channels=64, a_bits=8, w_bits=8)
    two = Shape(kernel=1, out=1, stride=1, in_channels=4096, out_channels=64, a_bits=2, w_bits=2)
    assert simulate(eight, 8).compute_cycles == 16 * simulate(two, 2).compute_cycles
