"""The low-bit array's closed forms against a machine of lanes, cells, trees and accumulators, cycle by cycle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.palquant.datapath import PIPELINE_CYCLES
from hwsim.archs.palquant.spec import PRESETS, PalQuant
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, Mapping, list_boxes
from tests.naive_cases import conv, windowed_layers, workload_of
from tests.naive_palquant import Machine, count_steps, list_sharings, run_tile, share_out

POWERS = st.sampled_from([1, 2, 4, 8])


@st.composite
def machines(draw) -> Machine:
    rows, cols = draw(POWERS), draw(st.sampled_from([1, 2, 4]))
    return Machine(
        rows, cols, draw(st.sampled_from([2, 3, 4])), draw(st.sampled_from([x for x in (1, 2, 4, 8) if x <= rows])),
        draw(st.sampled_from([x for x in (1, 2, 4) if x <= cols])),
    )  # fmt: skip


def make_arch(machine: Machine) -> PalQuant:
    return replace(
        PRESETS["small"], preset="small+", rows=machine.rows, cols=machine.cols, native_bits=machine.native,
        segment_lanes=machine.segment_lanes, column_blocks=machine.column_blocks,
    )  # fmt: skip


def cut_windows(layer: Layer, image: np.ndarray) -> np.ndarray:
    """Return what every output pixel multiplies, [groups, pixels, depth]; padding is 0."""
    top, left, bottom, right = layer.padding
    padded = np.pad(image, ((0, 0), (0, 0), (top, bottom), (left, right)))
    found = np.zeros((layer.G, layer.N * layer.P * layer.Q, layer.C * layer.R * layer.S), np.int64)
    for g, n, p, q, c, r, s in np.ndindex(layer.G, layer.N, layer.P, layer.Q, layer.C, layer.R, layer.S):
        y, x = p * layer.stride[0] + r * layer.dilation[0], q * layer.stride[1] + s * layer.dilation[1]
        pixel = (n * layer.P + p) * layer.Q + q
        found[g, pixel, (c * layer.R + r) * layer.S + s] = padded[n, g * layer.C + c, y, x]
    return found


def draw_integers(rng: np.random.Generator, bits: int, signed: bool, shape) -> np.ndarray:
    low = -(1 << (bits - 1)) if signed else 0
    return rng.integers(low, low + (1 << bits), shape)


def check_layer(machine: Machine, layer: Layer, w: int, a: int, signed: tuple[bool, bool], seed: int) -> None:
    """Run a layer as one tile on the machine and hold results, places, cycles and counts against the model."""
    rng = np.random.default_rng(seed)
    arch = make_arch(machine)
    datapath = arch.bind(workload_of(layer, w, a))
    tile = tuple(getattr(layer, dim) for dim in TILE_DIMS)
    size = np.array(tile)
    weight = draw_integers(rng, w, signed[0], (layer.G * layer.K, layer.C, layer.R, layer.S))
    if w == 1:
        weight = np.zeros_like(weight)  # one-bit weights are -1 and +1, or none: tested by executed Programs
    image = draw_integers(rng, a, signed[1], layer.in_shape)
    windows = cut_windows(layer, image)
    bits = datapath.pack_weights(weight, np.zeros(6, np.int64), size)
    assert len(bits) == int(datapath.weight_tile_bits(list_boxes(layer, tile))[0])
    depth = layer.C * layer.R * layer.S
    sharing = share_out(machine, layer.G, layer.K, depth)
    found = run_tile(windows.tolist(), bits.tolist(), layer.K, w, a, machine, sharing, signed)
    kernels = weight.reshape(layer.G, layer.K, depth)
    exact = np.einsum("gxe,gke->gkx", windows, kernels)
    for (g, k, x), place in found.places.items():
        assert found.obuf[place] == exact[g, k, x]
    assert len(found.places) == exact.size
    # places of accumulators, as (word, tap, column)
    wanted = np.array([
        np.ravel_multi_index(found.places[g, k, (n * layer.P + p) * layer.Q + q], (1 << 30, arch.taps, arch.cols))
        for n, g, k, p, q in np.ndindex(layer.N, layer.G, layer.K, layer.P, layer.Q)
    ])  # fmt: skip
    np.testing.assert_array_equal(datapath.psum_places(size), wanted)
    slots = int(datapath.psum_slots(size[None])[0])
    assert slots == (max(word for word, _, _ in found.obuf) + 1) * arch.taps * arch.cols
    times = datapath.exec_times(list_boxes(layer, tile))
    assert (int(times.busy[0]), int(times.fill[0])) == (found.cycles, 0)
    assert int(times.tail[0]) == PIPELINE_CYCLES + arch.tree_levels
    check_counts(datapath, Mapping(tile=tile, order="MKC"), found, a)


def check_counts(datapath, mapping: Mapping, found, a: int) -> None:
    arch, counts = datapath.arch, found.counts
    actions: dict = {}
    for action in datapath.count_actions(mapping):
        key = (action.component, action.verb, action.bits)
        actions[key] = actions.get(key, 0) + action.count
    digit, psum = arch.native_bits + 1, arch.shell.psum_bits
    assert actions["mac", "mult", (digit, digit)] == counts["products"]
    assert actions["mac", "shift_add", (psum,)] == counts["results"]
    trees = {key[1]: n for key, n in counts.items() if isinstance(key, tuple) and n}
    assert {key[2][0] - arch.product_bits: n for key, n in actions.items() if key[1] == "add"} == trees
    assert actions["ibuf", "read", ()] == counts["ibuf"] * a
    assert actions["wbuf", "read", ()] == counts["wbuf"]
    held = datapath.layer.macs * datapath.w_digits
    registers = [n for key, n in actions.items() if key[1] == "register"]
    assert sum(registers) == held + counts["results"] + counts["ibuf"]
    outputs = datapath.layer.out_elements
    assert actions["obuf", "write", ()] == outputs * psum
    assert actions["obuf", "read", ()] == 0


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    machine=machines(), layer=windowed_layers("conv", 4, 2), w=st.integers(2, 6), a=st.integers(1, 6),
    signed=st.tuples(st.booleans(), st.booleans()), seed=st.integers(0, 99),
)  # fmt: skip
def test_random_layers(machine, layer, w, a, signed, seed):
    check_layer(machine, layer, w, a, signed, seed)


LAYERS = {
    "depthwise": conv(size=(4, 4), window=(3, 3), padding=(1, 1, 1, 1), G=11),
    "grouped": conv(size=(3, 3), window=(3, 3), padding=(1, 1, 1, 1), G=3, K=5, C=4),
    "two groups": conv(size=(2, 3), window=(1, 1), G=2, K=8, C=8),
    "strided": conv(size=(7, 7), window=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1), K=9, C=3),
    "points": conv(size=(3, 2), window=(1, 1), N=2, K=7, C=21),
    "fully connected": Layer(name="layer", op="gemm", inputs=("x",), N=3, K=10, C=37),
    "grouped fully connected": Layer(name="layer", op="gemm", inputs=("x",), N=2, G=4, K=3, C=9),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    "machine", [Machine(8, 4, 2, 2, 2), Machine(16, 4, 2, 4, 4), Machine(4, 4, 3, 4, 1), Machine(2, 8, 4, 1, 8)]
)
@pytest.mark.parametrize(("w", "a"), [(2, 2), (4, 4), (3, 5)])
def test_kinds_of_layers(name, machine, w, a):
    check_layer(machine, LAYERS[name], w, a, (True, False), 7)


def test_eight_bits_on_two_take_sixteen_passes():
    layer = conv(size=(2, 2), window=(1, 1), K=3, C=5)
    check_layer(Machine(4, 2, 2, 2, 1), layer, 8, 8, (True, True), 3)
    arch = make_arch(Machine(4, 2, 2, 2, 1))
    busy = [
        int(arch.bind(workload_of(layer, b, b)).sum_tiles(np.array([[1, 1, 3, 5, 2, 2]])).busy[0]) for b in (2, 4, 8)
    ]
    assert busy == [busy[0], 4 * busy[0], 16 * busy[0]]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    machine=machines(), g=st.integers(2, 20), k=st.integers(1, 9), c=st.integers(1, 9), r=st.integers(1, 3)
)  # fmt: skip
def test_groups_are_shared_out_in_the_fewest_steps(machine, g, k, c, r):
    layer = conv(size=(r, r), window=(r, r), G=g, K=k, C=c)
    datapath = make_arch(machine).bind(workload_of(layer, 2, 2))
    chosen = tuple(int(one[0]) for one in datapath.share_out(np.array([g])))
    assert chosen == share_out(machine, g, k, c * r * r)
    every = [count_steps(machine, g, k, c * r * r, *one) for one in list_sharings(machine)]
    assert int(datapath.count_steps(np.array([g]), np.array([k]), np.array([c]))[0]) == min(every)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("native_bits", 1, "palquant.native_bits: got 1, expected an integer from 2 to 4"),
        ("native_bits", 5, "palquant.native_bits: got 5, expected an integer from 2 to 4"),
        ("rows", 12, "palquant.rows: got 12, expected a power of two"),
        ("segment_lanes", 32, "palquant.segment_lanes: got 32, expected an integer from 1 to 16"),
        ("column_blocks", 16, "palquant.column_blocks: got 16, expected an integer from 1 to 8"),
    ],
)
def test_sizes_that_cannot_be_are_told(field, value, said):
    with pytest.raises(SpecError) as caught:
        replace(PRESETS["small"], **{field: value})
    assert said in str(caught.value)
