"""BitFusion's closed forms against an enumeration of every product."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.bitfusion.datapath import PIPELINE_CYCLES
from hwsim.archs.bitfusion.spec import PRESETS
from hwsim.core.layer import Layer
from hwsim.core.mapping import TILE_DIMS, Mapping, list_boxes
from tests.naive_bitfusion import run
from tests.naive_cases import workload_of

SIDES = st.integers(1, 4)
BITS = st.integers(1, 16)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    rows=SIDES,
    cols=SIDES,
    w=BITS,
    a=BITS,
    g=st.integers(1, 2),
    k=st.integers(1, 6),
    c=st.integers(1, 40),
    r=st.integers(1, 2),
)
def test_every_product_is_made_once_in_the_cycles_of_the_model(rows, cols, w, a, g, k, c, r):
    arch = replace(PRESETS["small"], preset="small+", rows=rows, cols=cols)
    layer = Layer(name="layer", op="conv", inputs=("x",), G=g, K=k, C=c, R=r, S=r, P=2, Q=1, H=r + 1, W=r)
    tile = tuple(getattr(layer, dim) for dim in TILE_DIMS)
    datapath = arch.bind(workload_of(layer, w, a))
    found = run(rows, cols, w, a, g, k, c, r * r, 2, im2col=c < rows)
    assert set(found.products.values()) == {1}
    assert sum(found.products.values()) == layer.macs
    times = datapath.exec_times(list_boxes(layer, tile))
    assert (int(times.busy[0]), int(times.fill[0])) == (found.cycles, 0)
    assert int(times.tail[0]) == rows + cols - 2 + PIPELINE_CYCLES
    units = [x.count for x in datapath.count_actions(Mapping(tile=tile, order="MKC")) if x.verb == "fusion_unit"]
    assert units == [found.unit_cycles]


@pytest.mark.parametrize(
    ("w", "a", "products"),
    [(2, 2, 16), (1, 2, 16), (4, 4, 4), (3, 3, 4), (8, 2, 4), (4, 2, 8), (8, 4, 2), (8, 8, 1),
     (16, 8, 1 / 2), (16, 16, 1 / 4), (16, 2, 2)],
)  # fmt: skip
def test_products_of_a_unit_in_a_cycle(w, a, products):
    """ISCA 2018: 16 at 2 x 2 bits, 4 at 4 x 4 and 8 x 2, 1 at 8 x 8."""
    layer = Layer(name="layer", op="gemm", inputs=("x",), K=4, C=64)
    assert PRESETS["small"].bind(workload_of(layer, w, a)).peak_macs_per_cycle() == 16 * products
