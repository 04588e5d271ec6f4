"""Prices on disk: what they are found by, what makes them stale, files that are broken, processes beside each other."""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from energy_models import load_table
from hwsim import CostModel, simulate
from hwsim.archs.registry import find_arch
from hwsim.core import sources
from hwsim.pipeline.prices import choose_prices
from hwsim.search import book, version
from hwsim.search.store import Entry, Store
from mappers import cache

NET, ARCH = "resnet8", "bismo:small"


def forbid(*_args: object) -> Entry:
    raise AssertionError("a price was computed")


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
    for name in sources.PACKAGES:
        shutil.copytree(sources.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    module = type(find_arch(ARCH)).__module__
    before, _ = version.hash_sources(module)
    monkeypatch.setattr(sources, "ROOT", tmp_path)

    def rehash() -> str:
        sources.list_modules.cache_clear()
        version.hash_sources.cache_clear()
        return version.hash_sources(module)[0]

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
    assert not version.hash_sources(module)[1]
    sources.list_modules.cache_clear()
    version.hash_sources.cache_clear()


def test_constant_changed_in_a_process_leaves_no_mapping_to_others(empty_cache, monkeypatch):
    """What was mapped with it, on disk and in memory, is not what the model without it finds, nor the other way round."""
    right = simulate(NET, ARCH, policy="w4a4")
    with monkeypatch.context() as changed:
        changed.setattr("hwsim.archs.bismo.datapath.PIPELINE_CYCLES", 400)
        wrong = simulate(NET, ARCH, policy="w4a4")
        assert wrong.cycles == CostModel(NET, ARCH, cache=False).latency_cycles("w4a4") > right.cycles
    assert simulate(NET, ARCH, policy="w4a4") == right
    code = f"from hwsim import simulate; print(simulate({NET!r}, {ARCH!r}, policy='w4a4').cycles)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) == right.cycles


def test_sources_written_while_a_process_runs_keep_it_from_the_disk(empty_cache, tmp_path, monkeypatch):
    """It runs what it imported, which the files do not say any more."""
    path = tmp_path / "prices.sqlite"
    monkeypatch.setattr("hwsim.core.began_s", 0.0)
    version.hash_sources.cache_clear()
    cache.hash_sources.cache_clear()
    try:
        cycles = CostModel(NET, ARCH, cache=path).latency_cycles("w4a4")
        assert simulate(NET, ARCH, policy="w4a4").cycles == cycles
        assert not path.exists()
        assert sqlite3.connect(cache.cache_path()).execute("select count(*) from mappings").fetchone() == (0,)
    finally:
        version.hash_sources.cache_clear()
        cache.hash_sources.cache_clear()


def test_threads_that_share_a_model_get_its_prices(tmp_path):
    """Prices on disk and prices to be simulated, asked for by eight threads at once."""
    model = CostModel(NET, ARCH, cache=tmp_path / "prices.sqlite")
    layers = len(model.layers)
    policies = np.random.default_rng(0).integers(1, 4, (40, layers, 2), dtype=np.int8)
    wanted = list(zip(model.latency_cycles(policies).tolist(), model.energy_pj(policies).tolist(), strict=True))
    for _ in range(4):
        shared = CostModel(NET, ARCH, cache=tmp_path / "prices.sqlite")

        def ask(policy, shared=shared):
            energy = shared.energy_pj(policy)
            return shared.latency_cycles(policy), energy

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, policies)) == wanted


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
        "print(sorted(set(own) - set(list_modules(type(arch).__module__)) - {'hwsim.search.version', 'hwsim.core.sources'}))"
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

    def refuse(place: Any, *args: Any, **options: Any) -> sqlite3.Connection:
        if not options.get("uri"):
            raise sqlite3.OperationalError("attempt to write a readonly database")
        return connect(place, *args, **options)

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


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system forks no processes")
def test_forked_processes_price_alike(monkeypatch):
    forked, fan_out = [], book._fan_out

    def note(work: Any, jobs: Any, many: int) -> Any:
        forked.append((len(jobs), many))
        return fan_out(work, jobs, many)

    monkeypatch.setattr(book, "may_fork", lambda: True)
    monkeypatch.setattr(book, "_fan_out", note)
    alone = CostModel(NET, ARCH, cache=False, workers=1).lut(most_bits=4)
    assert not forked
    assert np.array_equal(CostModel(NET, ARCH, cache=False, workers=3).lut(most_bits=4), alone)
    ((count, many),) = forked
    assert (count > book.FEWEST_FORKED, many) == (True, 3)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system forks no processes")
@pytest.mark.parametrize(("threads", "daemon", "expected"), [(1, False, True), (2, False, False), (1, True, False)])
def test_a_process_of_one_thread_that_may_have_children_forks(monkeypatch, threads, daemon, expected):
    monkeypatch.setattr(book.threading, "active_count", lambda: threads)
    monkeypatch.setattr(book.multiprocessing, "current_process", lambda: SimpleNamespace(daemon=daemon))
    assert book.may_fork() == expected


def test_damaged_pages_are_a_warning_and_no_error(tmp_path):
    path = tmp_path / "prices.sqlite"
    CostModel(NET, ARCH, cache=path).build((4,), (2, 4))
    with sqlite3.connect(path) as disk:
        disk.execute("pragma wal_checkpoint(truncate)")
        size = disk.execute("pragma page_size").fetchone()[0]
    disk.close()
    whole = path.read_bytes()
    assert len(whole) > size
    path.write_bytes(whole[:size] + b"\x5a" * (len(whole) - size))
    with pytest.warns(RuntimeWarning, match=r"prices.sqlite is not used: .*malformed"):
        assert CostModel(NET, ARCH, cache=path).latency_cycles("w4a4") == simulate(NET, ARCH, policy="w4a4").cycles


def test_digest_is_of_accelerator_table_and_objective():
    arch = find_arch(ARCH)
    prices = choose_prices(arch, None)
    digests = [
        version.hash_price(arch, prices, "cycles"),
        version.hash_price(arch, prices, "energy"),
        version.hash_price(arch, choose_prices(arch, "bitfusion45"), "cycles"),
        version.hash_price(replace(arch, rows=8), prices, "cycles"),
        version.hash_price(find_arch("systolic:small"), prices, "cycles"),
    ]
    assert len(set(digests)) == len(digests)
    assert version.hash_price(find_arch(ARCH), choose_prices(arch, None), "cycles") == digests[0]
