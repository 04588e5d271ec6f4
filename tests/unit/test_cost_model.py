"""`CostModel`: its tables, what it refuses, and policies that tables do not cover."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from hwsim import CostModel, simulate
from hwsim.archs.registry import find_arch
from hwsim.core.errors import HwsimError, Infeasible, InputError, SpecError, UnknownName
from hwsim.core.policy import LayerFormat, Policy
from hwsim.search import book
from hwsim.search.store import Entry

NET, ARCH = "resnet8", "bismo:small"


@cache
def shared_model() -> CostModel:
    return CostModel(NET, ARCH, cache=False)


def draw(model: CostModel, count: int, least: int = 1, most: int = 8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(least, most + 1, (count, len(model.layers), 2), dtype=np.int8)


def forbid(*_args: object) -> Entry:
    raise AssertionError("a price was computed")


# what is asked


def test_forms_of_a_policy_agree(tmp_path):
    model = shared_model()
    row = draw(model, 1)[0]
    policy = model.to_policy(row)
    assert np.array_equal(model.to_array(policy), row)
    text = ",".join(["w8a8", *(f"{name}=w{w}a{a}" for name, (w, a) in zip(model.layers, row.tolist(), strict=True))])
    expected = model.price(row)
    for form in (row.astype(np.int64), row.tolist(), policy, text):
        assert model.price(form) == expected
    mixed = model.latency_cycles([row, "w4a4", policy])
    assert mixed.tolist() == [expected.latency_cycles, model.latency_cycles("w4a4"), expected.latency_cycles]
    many = model.latency_cycles([policy, "w4a4", text])
    assert many.tolist() == [expected.latency_cycles, model.latency_cycles("w4a4"), expected.latency_cycles]
    assert model.latency_cycles(row[None]).tolist() == [expected.latency_cycles]
    assert model.latency_cycles(row[None][:0]).tolist() == []


def test_policy_file_is_read(tmp_path):
    (tmp_path / "strategy.json").write_text(str([[4, 5]] * 10))
    model = shared_model()
    report = simulate(NET, ARCH, policy=str(tmp_path / "strategy.json"))
    assert model.latency_cycles(str(tmp_path / "strategy.json")) == report.cycles


def test_arrays_of_any_stride_and_order_are_read():
    model = shared_model()
    rows = draw(model, 6)
    expected = model.latency_cycles(rows)
    assert np.array_equal(model.latency_cycles(rows[::2]), expected[::2])
    assert np.array_equal(model.latency_cycles(np.asfortranarray(rows)), expected)
    assert np.array_equal(model.latency_cycles(rows.astype(np.uint16)), expected)


def test_base_gives_what_arrays_leave_open():
    for base in ("w8a3", LayerFormat(w_bits=2, a_bits=12)):
        model = CostModel(NET, ARCH, cache=False, base=base)
        row = draw(model, 1, seed=4)[0]
        policy = model.to_policy(row)
        assert policy.default.a_bits == model.base.a_bits
        report = simulate(NET, ARCH, policy=policy)
        assert (model.latency_cycles(row), model.energy_pj(row)) == (report.cycles, report.energy_pj)


@pytest.mark.parametrize("a_bits", [(4, 8), (4, 6), (9, 12)])  # the default of additions is 8 bits
def test_build_leaves_nothing_to_compute(monkeypatch, a_bits):
    model = CostModel(NET, ARCH, cache=False)
    model.build(range(3, 6), a_bits)
    monkeypatch.setattr(book, "price", forbid)
    rng = np.random.default_rng(1)
    rows = np.stack([rng.integers(3, 6, (50, 10)), rng.choice(a_bits, (50, 10))], axis=2)
    assert (model.latency_cycles(rows) > 0).all()
    assert (model.energy_pj(rows) > 0).all()


def test_weights_alone_can_be_asked_first():
    model = CostModel(NET, ARCH, cache=False)
    row = draw(model, 1, seed=9)[0]
    sizes = [layer.weights for layer in model.network.mac_layers]
    assert model.weight_bits(row) == sum(int(w) * size for (w, _), size in zip(row, sizes, strict=True))


def test_dram_memory_and_fpga_clock():
    from hwsim.archs.overrides import choose_memory

    arch = choose_memory(find_arch("systolic", "small"), "ddr4-2400")
    found = CostModel("mlp", arch, cache=False).price("w8a4")
    report = simulate("mlp", arch, policy="w8a4")
    assert (found.latency_cycles, found.energy_pj, found.edp) == (report.cycles, report.energy_pj, report.edp)
    measured = CostModel("mlp", "systolic:small", cache=False, fpga="ecp5-85k")
    report = simulate("mlp", "systolic:small", policy="w8a8", fpga="ecp5-85k")
    assert (measured.latency_s("w8a8"), measured.energy_pj("w8a8")) == (report.latency_s, report.energy_pj)


# tables


def test_table_is_the_layers_row_at_uniform_bits():
    model = shared_model()
    cycles, energy, size = (
        model.table("conv2d_4", metric) for metric in ("latency_cycles", "energy_pj", "weight_bits")
    )
    assert (cycles.dtype, energy.dtype, size.dtype) == (np.int64, np.float64, np.int64)
    assert cycles.shape == energy.shape == size.shape == (8, 8)
    for w, a in ((1, 1), (3, 7), (8, 2)):
        row = next(one for one in simulate(NET, ARCH, policy=f"w{w}a{a}").layers if one.name == "conv2d_4")
        assert cycles[w - 1, a - 1] == row.cycles
        assert energy[w - 1, a - 1] == row.energy_pj
        assert size[w - 1, a - 1] == row.weight_bits


def test_table_at_given_bits_of_input_and_output():
    """conv2d_1 reads what conv2d_3's addition reads too (8 bits of the default), conv2d_2 alone reads its output."""
    model = shared_model()
    table = model.table("conv2d_1", in_bits=8, out_bits=3)
    policy = "w8a8,conv2d_1=w5a6,conv2d_2=w8a3"
    row = next(one for one in simulate(NET, ARCH, policy=policy).layers if one.name == "conv2d_1")
    assert (row.out_bits, table[4, 5]) == (3, row.cycles)
    assert model.table("conv2d_1", in_bits=1)[4, 5] == model.table("conv2d_1")[4, 5]


def test_expected_cost_is_a_product_of_arrays():
    model = shared_model()
    table = model.table("dense", "energy_pj")
    w, a = np.full(8, 1 / 8), np.eye(8)[3]
    assert w @ table @ a == pytest.approx(table[:, 3].mean())


def test_lut_has_all_layers():
    model = shared_model()
    lut = model.lut(most_bits=4)
    assert (lut.shape, lut.dtype) == ((10, 4, 4), np.int64)
    for row, name in enumerate(model.layers):
        assert np.array_equal(lut[row], model.table(name, most_bits=4))
    report = simulate(NET, ARCH, policy="w3a2")
    assert lut[:, 2, 1].sum() == sum(one.cycles for one in report.layers if one.w_bits)
    assert model.lut("energy_pj", 2).dtype == np.float64


def test_accepted_bits_are_those_that_run():
    model = CostModel("mlp", "systolic:small", cache=False)
    accepted = model.accepts()
    assert accepted.shape == (len(model.layers), 16, 16)
    for w, a in ((1, 1), (8, 8), (9, 8), (8, 9), (16, 16)):
        try:
            model.latency_cycles(f"w{w}a{a}")
        except SpecError:
            assert not accepted[:, w - 1, a - 1].any()
        else:
            assert accepted[:, w - 1, a - 1].all()
    table = model.table(model.layers[0], most_bits=16)
    assert np.array_equal(table > 0, accepted[0])
    assert np.array_equal(table == -1, ~accepted[0])
    assert np.array_equal(np.isnan(model.table(model.layers[0], "energy_pj", most_bits=16)), ~accepted[0])


# what tables do not cover


@pytest.mark.parametrize(
    "policy",
    [
        Policy(default=LayerFormat(w_bits=4, a_bits=3, operator="multiply")),
        Policy(layers=(("conv2d_3", LayerFormat(w_bits=3, scale="shift")),)),
        Policy(default=LayerFormat(codec="dense"), layers=(("dense", LayerFormat(w_bits=2, a_bits=5)),)),
    ],
)
def test_policies_of_other_fields_equal_simulate(policy):
    found, report = shared_model().price(policy), simulate(NET, ARCH, policy=policy)
    assert (found.latency_cycles, found.energy_pj, found.edp) == (report.cycles, report.energy_pj, report.edp)
    assert found.peak_activation_bits == report.peak_activation_bits
    assert found.weight_bits == sum(row.weight_bits for row in report.layers)


@pytest.mark.parametrize("policy", ["w2a2g2", "w2a3g4,conv2d_3=w8a8"])
def test_groups_of_a_policy_widen_the_network(policy):
    found, report = CostModel(NET, "palquant", cache=False).price(policy), simulate(NET, "palquant", policy=policy)
    assert report.network.name.startswith("resnet8-g")
    assert (found.latency_cycles, found.energy_pj, found.edp) == (report.cycles, report.energy_pj, report.edp)
    assert found.peak_activation_bits == report.peak_activation_bits
    assert found.weight_bits == sum(row.weight_bits for row in report.layers)


def test_layer_of_many_precisions_is_priced_without_a_table():
    from hwsim.core.layer import Layer
    from hwsim.core.network import Network, TensorSpec

    def conv(name: str, source: str) -> Layer:
        return Layer(name=name, op="conv", inputs=(source,), K=4, C=4, P=4, Q=4, H=4, W=4)

    heads = [conv(f"head{i}", "image") for i in range(4)]
    total = Layer(name="sum", op="add", inputs=tuple(head.name for head in heads), G=4, P=4, Q=4, H=4, W=4)
    readers = [conv(f"reader{i}", head.name) for i, head in enumerate((*heads, total))]
    network = Network(
        name="star", inputs=(TensorSpec(name="image", shape=(1, 4, 4, 4)),), layers=(*heads, total, *readers),
        outputs=tuple(reader.name for reader in readers), source="made up",
    )  # fmt: skip
    model = CostModel(network, ARCH, cache=False, base="w8a2")
    rows = draw(model, 3, seed=2)
    for row, found in zip(rows, model.latency_cycles(rows), strict=True):
        assert found == simulate(network, ARCH, policy=model.to_policy(row)).cycles
    with pytest.raises(HwsimError, match="star has no tables: a layer's price depends on more than 4 precisions"):
        model.build()


def test_cycles_that_depend_on_data_are_simulated_as_a_whole():
    model = CostModel("mlp", "smartdeal:small", seed=5)
    policy = "w8a8" if len(model.layers) == 1 else f"w8a8,{model.layers[-1]}=w8a6"
    found, report = model.price(policy), simulate("mlp", "smartdeal:small", policy=policy, seed=5)
    assert (found.latency_cycles, found.energy_pj) == (report.cycles, report.energy_pj)
    assert found.peak_activation_bits == report.peak_activation_bits
    rows = model.to_array(policy)[None]
    assert model.latency_cycles(rows).tolist() == [report.cycles]
    for ask in (model.build, model.lut, lambda: model.table(model.layers[0])):
        with pytest.raises(HwsimError, match="smartdeal has no tables: its cycles depend on the tensors"):
            ask()


# what is refused


def test_shape_and_type_of_an_array_are_checked():
    model = shared_model()
    for bad, text in (
        (np.zeros((3, 9, 2), np.int8), r"policies.shape: got \(3, 9, 2\), expected \[10, 2\] or \[B, 10, 2\]"),
        (np.zeros(20, np.int8), r"policies.shape"),
        (np.full((10, 2), 8.0), r"policies.dtype: got 'float64', expected integers"),
        ([[8, 8]] * 9 + [[8]], r"policies.shape: got 'rows of different lengths', expected \[10, 2\]"),
    ):
        with pytest.raises(SpecError, match=text):
            model.latency_cycles(bad)


@pytest.mark.parametrize("bits", [0, 17, -1, 1000, -129, 300])
def test_bits_out_of_range_name_policy_and_layer(bits):
    model = shared_model()
    rows = np.full((4, 10, 2), 8)
    rows[2, 3, 1] = bits
    for ask in (model.latency_cycles, model.energy_pj, model.weight_bits, model.peak_activation_bits):
        with pytest.raises(SpecError, match=f"policy 2, layer conv2d_3: a_bits: got {bits}, expected 1 to 16"):
            ask(rows)
    with pytest.raises(SpecError, match=f"policy 0, layer conv2d_3: a_bits: got {bits}, expected 1 to 16"):
        model.to_policy(rows[2])


def test_bits_out_of_range_are_named_where_there_are_no_tables():
    model = CostModel("mlp", "smartdeal:small")
    rows = np.full((2, len(model.layers), 2), 8)
    rows[1, -1, 0] = 300
    with pytest.raises(SpecError, match=f"policy 1, layer {model.layers[-1]}: w_bits: got 300, expected 1 to 16"):
        model.latency_cycles(rows)
    assert model.latency_cycles(rows[:0]).dtype == np.int64


def test_several_policies_are_no_single_one():
    model = shared_model()
    with pytest.raises(SpecError, match=r"policy.shape: got \(2, 10, 2\), expected \[10, 2\]"):
        model.to_policy(draw(model, 2))


@pytest.mark.parametrize("policy", ["w4a8-codebook", "w4a4g2", "w8a8,conv2d_1=w4a8-codebook"])
def test_array_of_a_policy_of_more_than_bits_is_refused(policy):
    model = CostModel(NET, "simd:small", cache=False)
    with pytest.raises(SpecError, match="an array holds bits alone"):
        model.to_array(policy)


def test_what_the_accelerator_refuses_is_refused_in_the_same_words():
    model = CostModel(NET, "systolic:small", cache=False)
    policy = f"w8a8,{model.layers[4]}=w16a16"
    with pytest.raises(SpecError) as expected:
        simulate(NET, "systolic:small", policy=policy)
    for form in (policy, model.to_array(policy), model.to_array(policy)[None]):
        for _ in range(2):
            with pytest.raises(SpecError, match=re.escape(str(expected.value))):
                model.latency_cycles(form)
    assert model.latency_cycles("w8a8") == simulate(NET, "systolic:small", policy="w8a8").cycles


def test_what_does_not_fit_is_refused_in_the_same_words():
    arch = find_arch(ARCH)
    tight = replace(arch, shell=replace(arch.shell, obuf_bits=512))
    model = CostModel(NET, tight, cache=False)
    with pytest.raises(Infeasible) as expected:
        simulate(NET, tight, policy="w8a8")
    with pytest.raises(Infeasible, match=re.escape(str(expected.value))):
        model.latency_cycles("w8a8")


def test_unknown_names():
    model = shared_model()
    with pytest.raises(UnknownName, match=r"conv2d_33.*conv2d_3"):
        model.latency_cycles("w8a8,conv2d_33=w4a4")
    with pytest.raises(UnknownName, match="conv2d_3"):
        model.latency_cycles(Policy(layers=(("conv2d_33", LayerFormat()),)))
    with pytest.raises(UnknownName):
        model.table("conv2d_33")
    with pytest.raises(SpecError, match=r"layer: got 'add', expected a convolution or gemm"):
        model.table("add")
    with pytest.raises(SpecError, match="metric: got 'watts'"):
        model.table("dense", "watts")
    with pytest.raises(InputError, match="expected integers from 1 to 16"):
        model.build(range(3))
    for bits in ((4.5,), ("4",), (float("nan"),), ()):
        with pytest.raises(InputError, match=r"a_bits: got .*, expected integers from 1 to 16"):
            model.build((4,), bits)
    with pytest.raises(InputError, match="out_bits"):
        model.table("dense", out_bits=17)
    with pytest.raises(SpecError, match="base: got 'w8a8,x=w4a4'"):
        CostModel(NET, ARCH, cache=False, base="w8a8,x=w4a4")
    with pytest.raises(SpecError, match=r"base.groups: got 2, expected 1 \(give the widened network"):
        CostModel(NET, ARCH, cache=False, base="w2a2g2")
    with pytest.raises(UnknownName):
        CostModel("resnet88", ARCH)
    with pytest.raises(UnknownName):
        CostModel(NET, ARCH, energy_table="horowitz46")
    with pytest.raises(SpecError, match="objective"):
        CostModel(NET, ARCH, objective="speed", cache=False).latency_cycles("w8a8")


def test_import_is_light():
    code = "import sys, hwsim, hwsim.search; print([m for m in ('numba', 'numpy', 'sqlite3') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
