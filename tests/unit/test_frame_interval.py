"""Cycles from one frame to the next where engines work side by side: those of the busiest engine, or of the memory's port."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hwsim.archs.nasa.spec import PRESETS
from hwsim.archs.overrides import override
from hwsim.core.layer import Layer
from hwsim.core.network import Network, TensorSpec
from hwsim.core.policy import LayerFormat, Policy
from hwsim.core.shell import Memory
from hwsim.core.stats import LayerStats, Traffic
from hwsim.pipeline import simulate
from hwsim.pipeline.nasa_map import auto_map
from hwsim.pipeline.simulate import count_port_cycles
from tests.cli.fake import make_report


def make_rows(cycles: dict[str, tuple[int, ...]], port_cycles: int):
    """Return a report whose engines have layers of these cycles."""
    report = make_report()
    row = report.layers[0]
    found = [
        replace(row, engine=engine, stats=replace(row.stats, cycles=count, compute_cycles=count, stall_cycles=()))
        for engine, counts in cycles.items()
        for count in counts
    ]
    return replace(report, layers=tuple(found), port_cycles=port_cycles, clock_hz=1000.0)


@pytest.mark.parametrize(
    ("cycles", "port", "interval"),
    [
        ({"clp": (60, 40), "slp": (90,)}, 80, 100),  # engine
        ({"clp": (60, 40), "slp": (90,)}, 101, 101),  # port
        ({"clp": (60, 40), "slp": (90,), "alp": (30, 170)}, 201, 201),
        ({"clp": (60, 40), "slp": (90,)}, 170, 170),
        ({"clp": (60, 40)}, 170, 100),  # one engine: frames do not overlap
    ],
)
def test_the_interval_is_that_of_the_busiest_engine_or_port(cycles, port, interval):
    report = make_rows(cycles, port)
    assert report.interval_cycles == interval
    assert report.throughput_fps == 1000 / interval
    assert report.cycles == sum(map(sum, cycles.values()))


def test_port_cycles_are_those_of_the_busiest_channel():
    def move(**bits: tuple[int, int]) -> LayerStats:
        traffic = (Traffic(level="dram", operand=name, read_bits=r, write_bits=w) for name, (r, w) in bits.items())
        own = Traffic(level="ibuf", operand="I", read_bits=10**6, write_bits=10**6)
        return LayerStats(
            cycles=1, compute_cycles=1, stall_cycles=(), macs=1, peak_macs_per_cycle=1.0, traffic=(*traffic, own), actions=(),
        )  # fmt: skip

    layers = [move(W=(700, 0), I=(100, 0), O=(20, 300)), move(W=(1, 0), I=(450, 0), O=(0, 401))]
    assert count_port_cycles(Memory(bits_per_cycle=64), layers) == 31  # 1,972 bits
    assert count_port_cycles(Memory(bits_per_cycle=64, channels="per-operand"), layers) == 12  # 721 of outputs
    assert count_port_cycles(Memory(bits_per_cycle=7, channels="per-operand"), layers) == 103


NETWORK = Network(
    name="chain", inputs=(TensorSpec(name="image", shape=(1, 8, 6, 6)),), outputs=("c",), source="made up",
    layers=tuple(
        Layer(name=name, op="conv", inputs=(source,), K=16, C=8 if source == "image" else 16, P=6, Q=6, H=6, W=6)
        for name, source in (("a", "image"), ("b", "a"), ("c", "b"))
    ),
)  # fmt: skip
POLICY = Policy(
    default=LayerFormat(),
    layers=(("b", LayerFormat(w_bits=4, operator="shift")), ("c", LayerFormat(w_bits=6, a_bits=6, operator="add"))),
)


@pytest.mark.parametrize("bits", [8, 128])
def test_chunks_wait_for_a_narrow_port(bits):
    arch = override(PRESETS["paper"], {"memory.bits_per_cycle": bits})
    report = simulate(NETWORK, arch, policy=POLICY)
    assert [row.engine for row in report.layers] == ["clp", "slp", "alp"]
    moved = sum(row.stats.moved_bits("dram", way) for row in report.layers for way in ("read", "write"))
    assert report.interval_cycles == max(-(-moved // bits), *(row.cycles for row in report.layers))
    assert (report.interval_cycles == -(-moved // bits)) == (bits == 8)
    mapped = auto_map(NETWORK, arch, policy=POLICY)
    moved = sum(row.stats.moved_bits("dram", way) for row in mapped.rows for way in ("read", "write"))
    assert mapped.interval_cycles == max(-(-moved // bits), *(row.cycles for row in mapped.rows))
