"""Discovery of architectures, and overriding their fields."""

from __future__ import annotations

import sys
import textwrap

import pytest

import hwsim.archs
from hwsim.archs.overrides import arch_from_toml, arch_to_toml, choose_memory, list_fields, override, parse_settings
from hwsim.archs.registry import decode_arch, encode_arch, find_arch, list_archs, list_presets
from hwsim.core.errors import InputError, SpecError, UnknownName

TOY = """
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar, Literal
from hwsim.core.arch import Arch
from hwsim.core.shell import Memory, Shell

@dataclass(frozen=True, slots=True, kw_only=True)
class Toy(Arch):
    name: ClassVar[str] = "toy-chip"
    title: ClassVar[str] = "a toy"
    rows: int = 8
    gain: float = 0.5
    flow: Literal["os", "ws"] = "os"
    fast: bool = False
    widths: tuple[int, ...] = (4, 8)
    limit: int | None = None
    issue_cycles: int = 3

    def check_mac(self, workload): ...
    def bind_mac(self, workload, data): ...
    def list_area(self): return ()

ARCH = Toy
PRESETS = {
    "small": Toy(preset="small", shell=Shell(wbuf_bits=4096, ibuf_bits=4096, obuf_bits=4096), memory=Memory(), clock_hz=1e8,
                 unverified=("rows", "shell.wbuf_bits"), source="made up"),
    "paper": Toy(preset="paper", shell=Shell(wbuf_bits=8192, ibuf_bits=4096, obuf_bits=4096), memory=Memory(),
                 clock_hz=1e9, rows=32),
}
DEFAULT = "paper"
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Put packages beside the shipped architectures: one good, three broken, one hidden."""
    packages = {
        "toy_chip": TOY,
        "broken": "raise RuntimeError('no\\nluck')",
        "empty": "",
        "misnamed": "from hwsim.archs.toy_chip import ARCH, DEFAULT, PRESETS",
        "_hidden": "raise RuntimeError",
    }
    for name, text in packages.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(textwrap.dedent(text))
    (tmp_path / "module.py").write_text("raise RuntimeError")
    monkeypatch.setattr(hwsim.archs, "__path__", [*hwsim.archs.__path__, str(tmp_path)])
    yield
    for name in packages:
        sys.modules.pop(f"hwsim.archs.{name}", None)
        if hasattr(hwsim.archs, name):
            delattr(hwsim.archs, name)


def test_discovery_lists_the_good_and_the_broken_with_reasons(toy):
    found = {entry.name: entry for entry in list_archs()}
    assert "systolic" in found
    assert "hidden" not in found
    assert "module" not in found
    assert found["toy-chip"].presets == ("small", "paper")
    assert (found["toy-chip"].default, found["toy-chip"].title, found["toy-chip"].error) == ("paper", "a toy", "")
    assert found["broken"].error == "cannot be used, RuntimeError: no luck"
    assert found["empty"].error == "cannot be used, AttributeError: module 'hwsim.archs.empty' has no attribute 'ARCH'"
    assert found["misnamed"].error == "ARCH.name is 'toy-chip', its package is called 'misnamed'"


def test_shipped_architectures_work_and_have_a_small_preset():
    for entry in list_archs():
        assert entry.error == ""
        assert "small" in entry.presets, entry.name
        assert find_arch(entry.name).preset == entry.default


def test_find_by_name_and_preset(toy):
    assert find_arch("toy-chip").preset == "paper"
    assert find_arch("toy-chip", "small").preset == "small"
    assert find_arch("toy-chip:small").preset == "small"
    assert list(list_presets("toy-chip")) == ["small", "paper"]


@pytest.mark.parametrize(
    ("args", "kind", "text"),
    [
        (("toy-chp",), UnknownName, "unknown architecture 'toy-chp': did you mean toy-chip?"),
        (("toy_chip",), UnknownName, "unknown architecture 'toy_chip': did you mean toy-chip?"),
        (
            ("toy-chip-smal",),
            UnknownName,
            "unknown architecture 'toy-chip-smal': did you mean toy-chip-small or toy-chip?",
        ),
        (
            ("toy-chp-smal",),
            UnknownName,
            "unknown architecture 'toy-chp-smal': did you mean toy-chip-small or toy-chip?",
        ),
        (
            ("toy-chp:papr",),
            UnknownName,
            "unknown architecture 'toy-chp:papr': did you mean toy-chip:paper or toy-chip?",
        ),
        (("toy-chip:smal",), UnknownName, "unknown preset of toy-chip 'smal': did you mean small?"),
        (("toy-chip-xyz",), UnknownName, "unknown architecture 'toy-chip-xyz': did you mean toy-chip?"),
        (("bismo-clud",), UnknownName, "unknown architecture 'bismo-clud': did you mean bismo-cloud or bismo?"),
        (("bismo:clud",), UnknownName, "unknown preset of bismo 'clud': did you mean cloud?"),
        (
            ("bitfusion-e",),
            UnknownName,
            "unknown architecture 'bitfusion-e': did you mean bitfusion-E or bitfusion or bismo?",
        ),
        (("toy-chip", "smal"), UnknownName, "unknown preset of toy-chip 'smal': did you mean small?"),
        (("broken",), InputError, "architecture broken: cannot be used, RuntimeError: no luck"),
        (("../etc",), UnknownName, None),
    ],
)
def test_what_cannot_be_found_is_told(toy, args, kind, text):
    with pytest.raises(kind) as caught:
        find_arch(*args)
    assert text is None or str(caught.value) == text


def test_json_round_trip(toy):
    for arch in (find_arch("toy-chip"), find_arch("systolic:small"), override(find_arch("toy-chip"), {"rows": "3"})):
        assert decode_arch(encode_arch(arch)) == arch


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "x: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("[]", "x: an object with the field 'arch' is expected"),
        ('{"arch": "systolic", "rowz": 1}', "x: systolic has no field 'rowz'"),
        ('{"arch": "systolic"}', "x: Object missing required field `preset`"),
    ],
)
def test_bad_json_is_told(text, message):
    with pytest.raises(InputError) as caught:
        decode_arch(text, source="x")
    assert str(caught.value) == message


def test_override_reads_text_by_type(toy):
    changes = {
        "rows": "0x10", "gain": "2", "flow": "ws", "fast": "yes", "widths": "1, 2,3", "limit": "7", "shell.wbuf_bits": "65_536",
        "obuf_bits": "128", "bits_per_cycle": "32", "memory.channels": "per-operand", "clock_hz": "2e8",
    }  # fmt: skip
    found = override(find_arch("toy-chip:small"), changes)
    assert (found.rows, found.gain, found.flow, found.fast, found.widths, found.limit) == (
        16,
        2.0,
        "ws",
        True,
        (1, 2, 3),
        7,
    )
    assert (found.shell.wbuf_bits, found.shell.ibuf_bits, found.shell.obuf_bits) == (65536, 4096, 128)
    assert (found.memory.bits_per_cycle, found.memory.channels, found.clock_hz) == (32, "per-operand", 2e8)
    assert found.preset == "small+"
    assert override(found, {"limit": "none"}).limit is None
    assert override(found, {"rows": "5"}).preset == "small+"


def test_override_with_the_same_value_changes_nothing(toy):
    arch = find_arch("toy-chip:small")
    assert override(arch, {"rows": "8"}) is arch


def test_an_overridden_field_is_no_longer_unverified(toy):
    arch = find_arch("toy-chip:small")
    assert override(arch, {"rows": "9"}).unverified == ("shell.wbuf_bits",)
    assert override(arch, {"wbuf_bits": "128"}).unverified == ("rows",)
    assert override(arch, {"gain": "9"}).unverified == arch.unverified


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"row": "1"}, "field of toy-chip: got 'row', expected one of its fields (did you mean rows"),
        ({"shell.rows": "1"}, "field of toy-chip: got 'shell.rows', expected one of its fields (did you mean "),
        ({"preset": "x"}, "field of toy-chip: got 'preset', expected a field that can be set (preset describes the preset itself)"),
        ({"wbuf": "1"}, "field of toy-chip: got 'wbuf', expected one of its fields (did you mean wbuf_bits"),
        ({"rows": "many"}, "toy-chip.rows: got 'many', expected an integer"),
        ({"rows": 1.5}, "toy-chip.rows: got 1.5, expected an integer"),
        ({"rows": True}, "toy-chip.rows: got True, expected an integer"),
        ({"gain": "much"}, "toy-chip.gain: got 'much', expected a number"),
        ({"fast": "maybe"}, "toy-chip.fast: got 'maybe', expected true or false"),
        ({"flow": "wx"}, "toy-chip.flow: got 'wx', expected one of os, ws (did you mean ws?)"),
        ({"widths": "1,b"}, "toy-chip.widths: got 'b', expected an integer"),
        ({"energy_table": 5}, "toy-chip.energy_table: got 5, expected a text"),
        ({"wbuf_bits": "1", "shell.wbuf_bits": "2"}, "toy-chip.shell.wbuf_bits: got '2', expected each field set once"),
        ({"wbuf_bits": "1"}, "shell.wbuf_bits: got 1, expected an integer of at least 64"),
        ({"clock_hz": "nan"}, "arch.clock_hz: got nan, expected a finite number above zero"),
    ],
)  # fmt: skip
def test_bad_overrides_are_told(toy, changes, text):
    with pytest.raises(SpecError) as caught:
        override(find_arch("toy-chip:small"), changes)
    assert str(caught.value).startswith(text)


def test_a_name_of_the_arch_wins_over_the_same_name_of_the_shell(toy):
    found = override(find_arch("toy-chip"), {"issue_cycles": "9"})
    assert (found.issue_cycles, found.shell.issue_cycles) == (9, 2)
    assert override(found, {"shell.issue_cycles": "5"}).shell.issue_cycles == 5


def test_settings_are_read_from_text():
    assert parse_settings(["rows=4", " cols = a=b "]) == {"rows": "4", "cols": "a=b"}
    with pytest.raises(SpecError):
        parse_settings(["=4"])


@pytest.mark.parametrize("name", [entry.name for entry in list_archs()])
def test_every_architecture_runs_behind_dram(name):
    found = choose_memory(find_arch(name), "lpddr4-3200")
    assert (found.memory.kind, found.memory.on_chip_bits) == ("dram", 0)


def test_memory_by_name():
    arch = find_arch("systolic:small")
    found = choose_memory(arch, "hbm2")
    assert (found.memory.kind, found.memory.part, found.preset) == ("dram", "hbm2", "small+")
    assert found.memory.bits_per_cycle == arch.memory.bits_per_cycle
    assert choose_memory(found, "flat").memory == arch.memory
    assert choose_memory(arch, "flat") is arch
    with pytest.raises(SpecError, match=r"did you mean ddr4-2400"):
        choose_memory(arch, "ddr4")


@pytest.mark.parametrize("changes", [{}, {"rows": "3"}, {"rows": "3", "shell.wbuf_bits": "128", "bits_per_cycle": "8"}])
def test_toml_round_trip(toy, tmp_path, changes):
    for name in ("toy-chip:small", "systolic"):
        arch = override(find_arch(name), changes)
        (tmp_path / "a.toml").write_text(arch_to_toml(arch))
        assert arch_from_toml(tmp_path / "a.toml") == arch
    assert [field.path for field in list_fields(find_arch("toy-chip"))][:3] == ["clock_hz", "node_nm", "energy_table"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows = 3", 'the first line should be arch = "NAME", then preset = "NAME" if wanted'),
        ("arch = ", "no TOML: "),
        ('arch = "systolix"', "unknown architecture 'systolix': did you mean systolic?"),
        ('arch = "systolic"\nrow = 3', "field of systolic: got 'row', expected one of its fields (did you mean rows?)"),
        ('arch = "systolic"\n[shell]\nrows = 3', "field of systolic: got 'shell.rows', expected one of its fields"),
        ('arch = "systolic"\nrows = "x"', "systolic.rows: got 'x', expected an integer"),
    ],
)
def test_bad_toml_names_the_file(tmp_path, text, message):
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        arch_from_toml(path)
    assert str(caught.value).startswith(f"{path}: {message}")
