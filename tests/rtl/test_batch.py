"""The compiled model against Amaranth's own simulator, and its handling of ports."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extras import require

require("amaranth", "pyosys", "g++")

from amaranth.hdl import Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from accel_rtl.blocks.index_select import IndexSelect
from accel_rtl.blocks.requantize import Requantize
from cosim import batch, eval_parts
from cosim.batch import BatchModel
from hwsim.core.errors import HwsimError, SpecError

ITEM = data.StructLayout(
    {
        "flag": unsigned(1),
        "wide": signed(61),
        "list": data.ArrayLayout(signed(7), 9),
        "pairs": data.ArrayLayout(data.StructLayout({"x": unsigned(3), "y": signed(64)}), 2),
        "huge": unsigned(100),
    }
)


class Echo(wiring.Component):
    """Gives what it gets, at once and a cycle later, and counts the cycles in which ``i_valid`` was high."""

    def __init__(self) -> None:
        super().__init__(
            {"i_valid": In(1), "item": In(ITEM), "now": Out(ITEM), "then": Out(ITEM), "count": Out(8, init=250)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.now.eq(self.item)
        m.d.sync += [self.then.eq(self.item), self.count.eq(self.count + self.i_valid)]
        return m


class Ripple(wiring.Component):
    """A net whose bits depend on others of its own, and a memory of 4 words."""

    def __init__(self) -> None:
        super().__init__({"i": In(8), "o": Out(8), "read": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.kept = kept = memory.Memory(shape=unsigned(8), depth=4, init=[9])
        write, read = kept.write_port(), kept.read_port(domain="comb")
        parity = Signal(8)
        m.d.comb += [parity[k].eq(self.i[k] ^ (parity[k - 1] if k else 0)) for k in range(8)]
        m.d.comb += [self.o.eq(~parity), read.addr.eq(self.i[:2]), self.read.eq(read.data)]
        m.d.comb += [write.addr.eq(self.i[:2]), write.data.eq(parity), write.en.eq(self.i[7])]
        return m


class Xor(wiring.Component):
    """Has no register."""

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(unsigned(40))), "o": Out(40)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        turned = Signal(40)
        m.d.comb += [turned.eq(Cat(reversed(list(self.i.payload)))), self.o.eq(turned ^ self.i.payload)]
        m.d.comb += self.i.ready.eq(self.i.valid)
        return m


def test_structured_ports_are_packed_and_unpacked() -> None:
    rng = np.random.default_rng(0)
    cycles = 500
    given = {
        "flag": rng.integers(0, 2, cycles),
        "wide": rng.integers(-(1 << 60), 1 << 60, cycles),
        "list": rng.integers(-64, 64, (cycles, 9)),
        "pairs.0.x": rng.integers(0, 8, cycles),
        "pairs.0.y": rng.integers(-(1 << 62), 1 << 62, cycles) * 2,
        "pairs.1.y": rng.integers(-9, 9, cycles),
        "huge": rng.integers(0, 1 << 32, (cycles, 4)) % np.array([1 << 32, 1 << 32, 1 << 32, 1 << 4]),
    }
    out = BatchModel(Echo()).run({**{f"item.{name}": value for name, value in given.items()}, "i_valid": 1})
    for name, value in given.items():
        np.testing.assert_array_equal(out[f"now.{name}"], value, err_msg=name)
        np.testing.assert_array_equal(out[f"then.{name}"][1:], value[:-1], err_msg=name)
    assert out["count"].tolist() == ((250 + np.arange(cycles)) % 256).tolist()


def test_every_run_begins_at_reset() -> None:
    model = BatchModel(Echo())
    first, second = (model.run({"i_valid": 1}, cycles=4)["count"].tolist() for _ in range(2))
    assert first == second == [250, 251, 252, 253]
    again = model.run({"i_valid": 1, "rst": [0, 0, 1, 0, 0]})["count"].tolist()
    assert again == [250, 251, 252, 250, 251]


def test_component_without_registers() -> None:
    values = np.random.default_rng(1).integers(0, 1 << 40, 300)
    out = BatchModel(Xor()).run({"i__payload": values, "i__valid": np.arange(300) % 2})
    turned = [int(format(v, "040b")[::-1], 2) for v in values.tolist()]
    np.testing.assert_array_equal(out["o"], values ^ np.array(turned))
    np.testing.assert_array_equal(out["i__ready"], np.arange(300) % 2)


def test_equals_amaranths_simulator_cycle_by_cycle() -> None:
    """The sampling rule: what a testbench reads just before each clock edge."""
    spec = IndexSelect(rows=5)
    rng = np.random.default_rng(2)
    cycles = 400
    stimulus = {
        "i__valid": rng.integers(0, 2, cycles),
        "i__payload.coefficients": rng.integers(0, 32, cycles),
        "i__payload.activations": rng.integers(0, 32, cycles),
        "o__ready": rng.integers(0, 2, cycles),
    }
    unit = spec.create()
    seen: dict[str, list[int]] = {}

    async def bench(ctx) -> None:  # type: ignore[no-untyped-def]
        payload = unit.i.payload
        inputs = (unit.i.valid, payload.coefficients, payload.activations, unit.o.ready)
        item = unit.o.payload
        outputs = {"i__ready": unit.i.ready, "o__valid": unit.o.valid}
        outputs |= {f"o__payload.{name}": getattr(item, name) for name in ("row", "some", "last")}
        for cycle in range(cycles):
            for port, values in zip(inputs, stimulus.values(), strict=True):
                ctx.set(port, int(values[cycle]))
            for name, port in outputs.items():
                seen.setdefault(name, []).append(int(ctx.get(port)))
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    out = BatchModel(spec.create()).run(stimulus)
    assert {name: out[name].tolist() for name in seen} == seen


@pytest.mark.parametrize("split", [(), batch.SPLIT])
@pytest.mark.parametrize("lines", [1, 7, 10**6])
def test_parts_and_feedback_change_nothing(split, lines, tmp_path, monkeypatch) -> None:
    """Every cut gives the same, whether cycles are evaluated once or until nothing changes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(batch, "SPLIT", split)
    cut, counts = eval_parts.split_eval, []

    def count(text: str, top: str) -> str:
        found = cut(text, top, lines)
        counts.append((text.count("bool converged = true"), found.count("__attribute__((noinline))")))
        return found

    monkeypatch.setattr(eval_parts, "split_eval", count)
    values = np.random.default_rng(4).integers(0, 256, 200)
    out = BatchModel(Ripple()).run({"i": values})
    parities = [sum((bin(v & (2 << k) - 1).count("1") & 1) << k for k in range(8)) for v in range(256)]
    kept, read = [9, 0, 0, 0], []
    for value in values.tolist():
        read.append(kept[value % 4])
        if value >> 7:
            kept[value % 4] = parities[value]
    assert out["o"].tolist() == [255 - parities[v] for v in values.tolist()]
    assert out["read"].tolist() == read
    ((once, parts),) = counts
    assert once == bool(split)
    assert (parts == 1) == (lines > 1000)


def test_a_model_written_in_another_way_is_left_whole() -> None:
    assert eval_parts.split_eval("bool p_top::eval(performer *performer) {\n\treturn true;\n}\n", "p_top") == (
        "bool p_top::eval(performer *performer) {\n\treturn true;\n}\n"
    )


def test_unknown_port_and_wrong_length_are_named() -> None:
    model = BatchModel(IndexSelect(rows=5).create())
    with pytest.raises(SpecError, match=r"stimulus\.ready: got 'ready', expected one of i__payload\.activations, "):
        model.run({"ready": [1]})
    with pytest.raises(SpecError, match=r"stimulus\.i__valid: got \(2,\), expected 3 cycles"):
        model.run({"i__valid": [1, 0], "o__ready": [1, 1, 1]})
    with pytest.raises(SpecError, match=r"stimulus\.i\.acc: got \(4, 2\), expected \[cycles, 1\]"):
        BatchModel(Requantize(rounding="half_away").create()).run({"i.acc": np.zeros((4, 2))})


def test_absent_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    batch.find_compiler.cache_clear()
    monkeypatch.setattr(batch.shutil, "which", lambda name: None)
    with pytest.raises(HwsimError, match="needs a C\\+\\+ compiler: install g\\+\\+"):
        BatchModel(Xor())
    batch.find_compiler.cache_clear()
