"""What one process keeps on disk another one finds; what a constant holds counts, however deep it stands."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from dataclasses import dataclass, replace

import numpy as np
import pytest

from hwsim import CostModel, simulate
from hwsim.archs.overrides import choose_memory
from hwsim.archs.registry import find_arch
from hwsim.core import dram_parts, sources

DIGESTS = """
from hwsim.archs.registry import find_arch, list_archs
from hwsim.pipeline.prices import choose_prices
from hwsim.search.version import hash_price
from mappers.cache import hash_model
for entry in list_archs():
    arch = find_arch(entry.name)
    print(entry.name, hash_price(arch, choose_prices(arch, None), "cycles"), hash_model(type(arch).__module__))
"""
PRICE = """
from hwsim import CostModel, simulate
model = CostModel("mlp", "bismo:small", workers=1)
print(model.lut(most_bits=3).tolist(), simulate("mlp", "systolic").cycles)
"""
FORBID = """
import mappers.cache
from hwsim.search import book
def forbid(*_):
    raise AssertionError("computed again")
book.price = mappers.cache.find_mapping = forbid
"""


def run_python(code: str, seed: int, **environment: str) -> str:
    """Return what a process of its own prints; sets and dictionaries lie in another order for each ``seed``."""
    variables = os.environ | {"PYTHONHASHSEED": str(seed)} | environment
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=variables
    ).stdout


def test_digests_are_those_of_other_processes():
    first, second = (run_python(DIGESTS, seed) for seed in (1, 2))
    assert len(first.splitlines()) >= 14
    assert first == second


def test_another_process_computes_nothing_again(tmp_path):
    folder = str(tmp_path)
    first = run_python(PRICE, 1, HWSIM_CACHE_DIR=folder)
    assert run_python(FORBID + PRICE, 2, HWSIM_CACHE_DIR=folder) == first
    with pytest.raises(subprocess.CalledProcessError):  # what is forbidden is what computes
        run_python(FORBID + PRICE, 2, HWSIM_CACHE_DIR=str(tmp_path / "empty"))


@dataclass(frozen=True)
class Part:
    """A constant with fields."""

    clocks: int
    rules: tuple[object, ...] = ()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Part(1), Part(2)),
        ((Part(1), Part(1)), (Part(1), Part(2))),
        ({"a": Part(1)}, {"a": Part(2)}),
        (types.MappingProxyType({"a": 1}), types.MappingProxyType({"a": 2})),
        (np.int64(1), np.int64(2)),
        (Part(1, (Part(1),)), Part(1, (Part(2),))),
        (np.array([1, 2]), np.array([1, 3])),
        (0.1, 0.1 + 1e-16),
    ],
)
def test_values_within_constants_count(monkeypatch, before, after):
    module = types.ModuleType("made_up")
    monkeypatch.setitem(sys.modules, "made_up", module)
    module.PART = before
    first = sources.list_constants(["made_up"])
    module.PART = after
    assert sources.list_constants(["made_up"]) != first


def test_changed_timing_of_a_memory_never_returns_a_stale_price(tmp_path, monkeypatch):
    arch, path = choose_memory(find_arch("bismo:small"), "lpddr4-3200"), tmp_path / "prices.sqlite"
    before = CostModel("resnet8", arch, cache=path).latency_cycles("w4a4")
    slower = tuple(replace(part, tRCD=2 * part.tRCD, tRP=2 * part.tRP, tRC=2 * part.tRC) for part in dram_parts.PARTS)
    monkeypatch.setattr(dram_parts, "PARTS", slower)
    after = CostModel("resnet8", arch, cache=path).latency_cycles("w4a4")
    assert after == simulate("resnet8", arch, policy="w4a4").cycles > before
