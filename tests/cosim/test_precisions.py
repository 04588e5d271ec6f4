"""Random layers on arrays of other widths than 8 x 8 bits: every bit and every cycle."""

from __future__ import annotations

import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

from cosim.run import run_chunk
from tests.cosim.accelerators import make_accelerator, tell

pytestmark = pytest.mark.slow

WIDTHS = ((4, 4), (2, 8), (16, 16))


@pytest.mark.parametrize(("w_width", "a_width"), WIDTHS)
def test_random_layers_of_other_widths_equal_the_simulator(w_width, a_width):
    arch = make_accelerator("systolic", ("rows=2", "cols=2", f"w_width={w_width}", f"a_width={a_width}"))
    results = run_chunk(arch, 15, range(30), None)
    assert len(results) == 30
    assert not tell(results)
    assert all(result.equal_elements == result.elements for result in results)
    assert sum(result.text.startswith("conv") for result in results) >= 8
