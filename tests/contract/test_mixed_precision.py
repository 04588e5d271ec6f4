"""Bits of any width: fewer never cost more under the same mapping, by layer and by channel; what arrays of bits refuse."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.archs.registry import find_arch, list_presets
from hwsim.core.arch import Arch
from hwsim.core.errors import SpecError, UnknownName
from hwsim.core.policy import LayerFormat
from hwsim.pipeline.layer import run_layer
from hwsim.pipeline.prices import choose_prices
from tests.contract.architecture_cases import ENTRIES, LAYERS, count_moved, cut, measure_costs
from tests.naive_cases import workload_of

WIDTHS = range(1, 17)


@cache
def list_taken(arch: Arch) -> tuple[tuple[int, int], ...]:
    """Return the bits of weights and activations that an architecture takes."""
    taken = []
    for w_bits in WIDTHS:
        for a_bits in WIDTHS:
            try:
                arch.check(workload_of(LAYERS[-1], w_bits, a_bits))
            except SpecError:
                continue
            taken.append((w_bits, a_bits))
    return tuple(taken)


def list_machines() -> dict[str, Arch]:
    """Return the presets that take several widths and whose time depends on no data, multipliers of other widths besides."""
    found = {name: find_arch(name) for name in ENTRIES}
    for preset in list_presets("palquant"):
        for native in (3, 4):
            name = f"palquant:{preset} of {native} bits"
            found[name] = replace(find_arch(f"palquant:{preset}"), native_bits=native, preset="other+")
    return {name: arch for name, arch in found.items() if not arch.needs_data and len(list_taken(arch)) > 1}


MACHINES = list_machines()


@pytest.mark.parametrize("name", MACHINES)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(layer=st.sampled_from(LAYERS), parts=st.integers(1, 3), data=st.data())
def test_fewer_bits_never_cost_more_under_the_same_mapping(name, layer, parts, data):
    """Beside every format of the machine the next wider one of weights and of activations."""
    arch, mapping = MACHINES[name], cut(layer, parts)
    prices, taken = choose_prices(arch, None), list_taken(arch)
    w, a = data.draw(st.sampled_from(taken))
    wider = [min((x for x in taken if x[1] == a and x[0] > w), default=None)]
    wider += [min((x for x in taken if x[0] == w and x[1] > a), default=None)]
    costs = measure_costs(arch, arch.bind(workload_of(layer, w, a)), mapping, prices)
    for more in filter(None, wider):
        other = measure_costs(arch, arch.bind(workload_of(layer, *more)), mapping, prices)
        costs.check_below(other, f"{layer.name} at {w, a} and {more}")


def measure_mixed(layer, pairs, mapping):
    """Return engine cycles, moved bits, stored bits and energy of a layer with bits by channel on `mpic`."""
    arch = find_arch("mpic")
    fmt = LayerFormat(w_bits=pairs[0][0], channel_bits=pairs)
    datapath = arch.bind(replace(workload_of(layer), fmt=fmt))
    stats, _ = run_layer(datapath, arch, mapping)
    energy = sum(term.energy_pj for term in choose_prices(arch, None).price_layer(stats)[0])
    return stats.compute_cycles, count_moved(stats), datapath.weight_storage_bits(), energy


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("parts", [1, 2])
def test_narrower_channels_never_cost_more(layer, parts):
    """From eight bits everywhere to two and pruned ones, four filters at a time: every step saves storage, traffic and energy."""
    filters = layer.G * layer.K
    unit = 4 if layer.G == 1 else max(1, filters // 4)
    steps = [((8, filters),)]
    steps += [((8, filters - unit), (bits, unit)) for bits in (4, 2, 0)]
    steps += [((8, unit), (2, filters - 2 * unit), (0, unit)), ((8, unit), (0, filters - unit))]
    found = [measure_mixed(layer, pairs, cut(layer, parts)) for pairs in steps]
    for before, after in pairwise(found):
        assert all(new <= old for new, old in zip(after[1:], before[1:], strict=True))
    assert found[-1][0] < found[0][0]
    assert found[-1][2] == found[0][2] * unit // filters


@pytest.mark.parametrize(
    ("name", "codecs"), [("bismo", "dense or bit-planes"), ("bitfusion", "dense"), ("palquant", "dense")]
)
def test_what_is_no_multiplication_of_dense_integers_is_refused(name, codecs):
    arch = find_arch(name)
    for fmt, said in (
        (LayerFormat(operator="shift"), f"operator: got 'shift', expected multiply on {name}"),
        (LayerFormat(operator="add"), f"operator: got 'add', expected multiply on {name}"),
        (LayerFormat(codec="decomposed"), f"codec: got 'decomposed', expected {codecs} on {name}"),
        (LayerFormat(codec="codebook"), f"codec: got 'codebook', expected {codecs} on {name}"),
        (LayerFormat(groups=2), "groups: got 2, expected 1: the network is widened"),
    ):
        with pytest.raises(SpecError) as caught:
            arch.bind(replace(workload_of(LAYERS[-1]), fmt=fmt))
        assert f"policy for layer fc: {said}" in str(caught.value)


@pytest.mark.parametrize(("field", "value"), [("rows", 0), ("word_bits", 48), ("depth_words", 8)])
def test_sizes_that_cannot_be_are_told(field, value):
    with pytest.raises(SpecError, match=f"bismo.{field}"):
        replace(find_arch("bismo"), **{field: value})


def test_an_architecture_and_a_preset_may_be_joined_by_a_hyphen():
    assert find_arch("bismo-cloud") is find_arch("bismo", "cloud")
    assert find_arch("bitfusion-8x8") is find_arch("bitfusion:8x8")
    assert find_arch("bismo").preset == find_arch("bismo-edge").preset == "edge"
    with pytest.raises(UnknownName, match="unknown architecture 'bismo-clowd'"):
        find_arch("bismo-clowd")
