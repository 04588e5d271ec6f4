"""`CostModel`: its cache, its tables, what it refuses, and policies that tables do not cover."""

from __future__ import annotations

import multiprocessing
import re
import shutil
import sqlite3
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from energy_models import load_table
from hwsim import CostModel, simulate
from hwsim.archs.registry import find_arch
from hwsim.core.errors import HwsimError, Infeasible, InputError, SpecError, UnknownName
from hwsim.core.policy import LayerFormat, Policy
from hwsim.nets.registry import find_network
from hwsim.pipeline.prices import choose_prices
from hwsim.quant.calibrate import choose_tensor_bits
from hwsim.search import book, version
from hwsim.search.kernel_lookup import sum_energies
from hwsim.search.store import Entry, Store
from hwsim.search.structure import describe_structure

NET, ARCH = "resnet8", "bismo:small"


@cache
def shared_model() -> CostModel:
    return CostModel(NET, ARCH, cache=False)


def draw(model: CostModel, count: int, least: int = 1, most: int = 8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(least, most + 1, (count, len(model.layers), 2), dtype=np.int8)


def forbid(*_args: object) -> Entry:
    raise AssertionError("a price was computed")


# the cache


def test_prices_come_back_from_disk(tmp_path, monkeypatch):
    first = CostModel(NET, ARCH, cache=tmp_path / "prices.sqlite").price("w4a3")
    monkeypatch.setattr(book, "price", forbid)
    assert CostModel(NET, ARCH, cache=tmp_path / "prices.sqlite").price("w4a3") == first


def test_prices_lie_beside_the_mappings(empty_cache):
    CostModel("mlp", ARCH).latency_cycles("w2a2")
    assert (empty_cache / "prices.sqlite").stat().st_size > 0


def test_empty_cache_folder_keeps_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("HWSIM_CACHE_DIR", "")
    monkeypatch.chdir(tmp_path)
    CostModel("mlp", ARCH).latency_cycles("w2a2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("hwsim.core.datapath.VECTOR_PIPELINE_CYCLES", 500),
        ("hwsim.archs.bismo.datapath.PIPELINE_CYCLES", 90),
        ("hwsim.engine.run.WRITE_LATENCY_CYCLES", 70),
        ("energy_models.pricing.PJ_PER_MW_S", 2e9),
    ],
)
def test_changed_constant_never_returns_a_stale_price(tmp_path, monkeypatch, place, value):
    path = tmp_path / "prices.sqlite"
    before = CostModel(NET, ARCH, cache=path).price("w4a4")
    monkeypatch.setattr(place, value)
    after = CostModel(NET, ARCH, cache=path).price("w4a4")
    assert after == CostModel(NET, ARCH, cache=False).price("w4a4")
    assert (after.latency_cycles, after.energy_pj) != (before.latency_cycles, before.energy_pj)
    monkeypatch.undo()
    monkeypatch.setattr(book, "price", forbid)
    assert CostModel(NET, ARCH, cache=path).price("w4a4") == before


def test_changed_energy_table_never_returns_a_stale_price(tmp_path, monkeypatch):
    path = tmp_path / "prices.sqlite"
    before = CostModel(NET, ARCH, cache=path).price("w4a4")
    other = CostModel(NET, ARCH, cache=path, energy_table="bitfusion45").price("w4a4")
    assert other.energy_pj != before.energy_pj

    def load_dearer(name: str) -> object:
        table = load_table(name)
        return replace(table, entries=tuple(replace(one, energy_pj=2 * one.energy_pj) for one in table.entries))

    monkeypatch.setattr("hwsim.pipeline.prices.load_table", load_dearer)
    dearer = CostModel(NET, ARCH, cache=path).price("w4a4")
    assert dearer.energy_pj > before.energy_pj
    assert dearer == CostModel(NET, ARCH, cache=False).price("w4a4")


@pytest.mark.parametrize(
    "change",
    [
        lambda arch: replace(arch, rows=8),
        lambda arch: replace(arch, clock_hz=2 * arch.clock_hz),
        lambda arch: replace(arch, memory=replace(arch.memory, latency_cycles=200)),
        lambda arch: replace(arch, shell=replace(arch.shell, obuf_bits=2 * arch.shell.obuf_bits)),
    ],
)
def test_changed_field_never_returns_a_stale_price(tmp_path, change):
    arch, path = find_arch(ARCH), tmp_path / "prices.sqlite"
    before = CostModel(NET, arch, cache=path).price("w4a4")
    after = CostModel(NET, change(arch), cache=path).price("w4a4")
    assert after != before
    assert after == CostModel(NET, change(arch), cache=False).price("w4a4")


def test_names_and_remarks_of_an_accelerator_do_not_count(tmp_path, monkeypatch):
    arch, path = find_arch(ARCH), tmp_path / "prices.sqlite"
    before = CostModel("mlp", arch, cache=path).latency_cycles("w4a4")
    monkeypatch.setattr(book, "price", forbid)
    renamed = replace(arch, preset="mine", source="me", unverified=("rows",))
    assert CostModel("mlp", renamed, cache=path).latency_cycles("w4a4") == before


def test_objective_counts(tmp_path):
    path = tmp_path / "prices.sqlite"
    for objective in ("cycles", "energy", "edp"):
        found = CostModel(NET, "systolic", objective=objective, cache=path).price("w8a4")
        report = simulate(NET, "systolic", objective=objective, policy="w8a4")
        assert (found.latency_cycles, found.energy_pj) == (report.cycles, report.energy_pj)


def test_changed_source_changes_the_key(tmp_path, monkeypatch):
    for name in version.PACKAGES:
        shutil.copytree(version.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    module = type(find_arch(ARCH)).__module__
    before = version.hash_sources(module)
    monkeypatch.setattr(version, "ROOT", tmp_path)

    def rehash() -> str:
        version.list_modules.cache_clear()
        version.hash_sources.cache_clear()
        return version.hash_sources(module)

    assert rehash() == before
    for file, moves in (
        ("mappers/space.py", True),
        ("hwsim/engine/kernel_shell.py", True),
        ("hwsim/archs/bismo/kernel_passes.py", True),
        ("hwsim/pipeline/simulate.py", True),
        ("hwsim/archs/systolic/datapath.py", False),
        ("hwsim/report/text.py", False),
    ):
        with open(tmp_path / file, "a") as text:
            text.write("# one more line\n")
        found = rehash()
        assert (found != before) == moves, file
        before = found
    with open(tmp_path / "energy_models/data/sram_cacti7.csv", "a") as text:
        text.write("\n")
    assert rehash() != before
    version.list_modules.cache_clear()
    version.hash_sources.cache_clear()


def test_modules_of_a_price_are_those_that_a_price_imports():
    """In a process of its own: what pricing loads of the model, but for what only names or reports it, counts."""
    code = (
        "import sys; from hwsim.search import book; from hwsim.pipeline.prices import choose_prices\n"
        "from hwsim.archs.registry import find_arch; from hwsim.pipeline.workloads import list_workloads\n"
        "from hwsim.nets.registry import find_network; from hwsim.core.policy import Policy\n"
        "arch = find_arch('bismo:small'); prices = choose_prices(arch, None)\n"
        "loads = list_workloads(find_network('resnet8'), Policy()).values(); before = set(sys.modules)\n"
        "for load in loads: book.price(load, prices, 'cycles')\n"
        "from hwsim.search.version import list_modules\n"
        "own = [m for m in set(sys.modules) - before if m.split('.')[0] in ('hwsim', 'mappers', 'energy_models')]\n"
        "print(sorted(set(own) - set(list_modules(type(arch).__module__)) - {'hwsim.search.version'}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_broken_file_is_a_warning_and_no_error(tmp_path):
    path = tmp_path / "prices.sqlite"
    path.write_bytes(b"this is no database" * 1000)
    with pytest.warns(RuntimeWarning, match=r"the cache of prices .*prices.sqlite is not used: file is not a database"):
        model = CostModel("mlp", ARCH, cache=path)
    assert model.latency_cycles("w4a4") == simulate("mlp", ARCH, policy="w4a4").cycles


def test_folder_that_cannot_be_made_is_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(RuntimeWarning, match="is not used"):
        model = CostModel("mlp", ARCH, cache=tmp_path / "file" / "prices.sqlite")
    assert model.latency_cycles("w4a4") == simulate("mlp", ARCH, policy="w4a4").cycles


def test_file_that_is_read_only_is_read(tmp_path, monkeypatch):
    path = tmp_path / "prices.sqlite"
    expected = CostModel("mlp", ARCH, cache=path).latency_cycles("w4a4")
    connect = sqlite3.connect

    def refuse(place: object, *args: object, **options: object) -> sqlite3.Connection:
        if not options.get("uri"):
            raise sqlite3.OperationalError("attempt to write a readonly database")
        return connect(place, *args, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(sqlite3, "connect", refuse)
    with pytest.warns(RuntimeWarning, match="is not written to: attempt to write a readonly database"):
        model = CostModel("mlp", ARCH, cache=path)
    with monkeypatch.context() as inner:
        inner.setattr(book, "price", forbid)
        assert model.latency_cycles("w4a4") == expected
    assert model.latency_cycles("w5a5") == simulate("mlp", ARCH, policy="w5a5").cycles


def test_changed_row_is_computed_again(tmp_path):
    path = tmp_path / "prices.sqlite"
    expected = CostModel("mlp", ARCH, cache=path).price("w4a4")
    with sqlite3.connect(path) as disk:
        disk.execute("update prices set cycles = cycles + 1")
    assert CostModel("mlp", ARCH, cache=path).price("w4a4") == expected


def test_file_that_breaks_later_is_a_warning(tmp_path):
    path = tmp_path / "prices.sqlite"
    store = Store(path)
    with sqlite3.connect(path) as disk:
        disk.execute("drop table prices")
    with pytest.warns(RuntimeWarning, match="is not written to: no such table"):
        store.write([(b"key", (1, 1, 1, 1), Entry(1, 1.0, 1))])
    with pytest.warns(RuntimeWarning, match="is not used: no such table"):
        assert store.read(b"key") == {}


def test_processes_at_once_leave_a_whole_file(tmp_path):
    path = tmp_path / "prices.sqlite"
    code = (
        "import sys, warnings; warnings.simplefilter('error'); from hwsim import CostModel\n"
        "model = CostModel('mlp', 'bismo:small', cache=sys.argv[1], workers=1)\n"
        "model.build(range(2, 5), range(2, 5)); print(model.lut(most_bits=4).sum())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    printed = {process.communicate(timeout=120)[0] for process in running}
    assert all(process.returncode == 0 for process in running)
    assert printed == {f"{CostModel('mlp', ARCH, cache=False).lut(most_bits=4).sum()}\n"}
    with sqlite3.connect(path) as disk:
        assert disk.execute("pragma integrity_check").fetchone() == ("ok",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f"{CostModel('mlp', ARCH, cache=path).lut(most_bits=4).sum()}\n" in printed


def test_forked_processes_price_alike(monkeypatch):
    monkeypatch.setattr(book, "may_fork", lambda: "fork" in multiprocessing.get_all_start_methods())
    alone, several = (CostModel(NET, ARCH, cache=False, workers=workers) for workers in (1, 3))
    assert np.array_equal(alone.lut(most_bits=4), several.lut(most_bits=4))


def test_a_thread_beside_keeps_it_in_one_process(monkeypatch):
    monkeypatch.setattr(book.threading, "active_count", lambda: 2)
    assert not book.may_fork()


# the structure


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x1_0", "resnet18", "squeezenet1_1"]
)
def test_slots_say_what_tensor_bits_are(name):
    network = find_network(name)
    structure = describe_structure(network)
    rng = np.random.default_rng(3)
    row = rng.integers(1, 17, (len(structure.macs), 2)).tolist()
    formats = (LayerFormat(w_bits=w, a_bits=a) for w, a in row)
    policy = Policy(default=LayerFormat(a_bits=5), layers=tuple(zip(structure.macs, formats, strict=True)))
    slots = [bits for pair in row for bits in pair] + [5]
    slots += [max(slots[part] for part in parts) for parts in structure.widest]
    bits = choose_tensor_bits(network, policy)
    for one in structure.layers:
        given = [bits[source] for source in one.layer.inputs] + [bits[one.layer.name]]
        assert [slots[slot] for slot in one.slots[2:]] == given, one.layer.name


def test_sum_of_energies_is_pythons():
    """Plain before Python 3.12, Neumaier's from then on: checked against both, on terms that cancel."""
    rng = np.random.default_rng(0)
    values = np.ldexp(rng.random(50), rng.integers(-60, 60, 50))

    def neumaier(items: list[float]) -> float:
        total, lost = 0.0, 0.0
        for x in items:
            both = total + x
            lost += (total - both) + x if abs(total) >= abs(x) else (x - both) + total
            total = both
        return total + lost

    def plain(items: list[float]) -> float:
        total = 0.0
        for x in items:
            total += x
        return total

    layers = np.array([(i, 3, 3) for i in range(50)], np.uint64)  # slot 3 is always zero
    policies = np.ones((1, 2), np.uint8)
    starts, parts, pairs = np.zeros(1, np.uint64), np.zeros(0, np.uint64), np.zeros((0, 2), np.uint64)
    for compensated, expected in ((0, plain), (1, neumaier)):
        sums = np.zeros(1)
        unknown = sum_energies(
            policies,
            7,
            starts,
            parts,
            pairs,
            layers,
            compensated,
            np.ones(50, np.int64),
            values,
            np.zeros(50, np.uint8),
            sums,
        )
        assert (unknown, sums[0]) == (0, expected(values.tolist()))
    assert plain(values.tolist()) != neumaier(values.tolist())


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


def test_build_leaves_nothing_to_compute(monkeypatch):
    model = CostModel(NET, ARCH, cache=False)
    model.build(range(3, 6), (4, 8))
    monkeypatch.setattr(book, "price", forbid)
    rng = np.random.default_rng(1)
    rows = np.stack([rng.integers(3, 6, (50, 10)), rng.choice((4, 8), (50, 10))], axis=2)
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
    with pytest.raises(InputError, match="out_bits"):
        model.table("dense", out_bits=17)
    with pytest.raises(SpecError, match="base: got 'w8a8,x=w4a4'"):
        CostModel(NET, ARCH, cache=False, base="w8a8,x=w4a4")
    with pytest.raises(UnknownName):
        CostModel("resnet88", ARCH)
    with pytest.raises(UnknownName):
        CostModel(NET, ARCH, energy_table="horowitz46")
    with pytest.raises(SpecError, match="objective"):
        CostModel(NET, ARCH, objective="speed", cache=False).latency_cycles("w8a8")


def test_prices_are_those_of_the_accelerator():
    arch = find_arch(ARCH)
    assert version.hash_price(arch, choose_prices(arch, None), "cycles") == version.hash_price(
        arch, choose_prices(arch, None), "cycles"
    )


def test_import_is_light():
    code = "import sys, hwsim, hwsim.search; print([m for m in ('numba', 'numpy', 'sqlite3') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    assert Path(version.ROOT / "hwsim").is_dir()
