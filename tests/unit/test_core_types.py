"""The frozen types: what they refuse and in which words, hashing, JSON there and back."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
from hypothesis import given, settings

from hwsim.archs.systolic.spec import PRESETS, Systolic
from hwsim.core.actions import Action
from hwsim.core.datapath import Workload
from hwsim.core.errors import HwsimError, InputError, SpecError, UnknownName
from hwsim.core.jsonio import from_json, to_json
from hwsim.core.layer import OPS, Layer
from hwsim.core.mapping import ORDERS, Mapping
from hwsim.core.network import Network, TensorSpec
from hwsim.core.policy import LayerFormat, Policy, parse_policy
from hwsim.core.program import INSTRUCTION
from hwsim.core.shell import Memory, Shell
from hwsim.core.stats import LayerCost, LayerStats, Traffic
from hwsim.engine.lower import lower
from tests.naive_cases import cases, workload_of, workloads

CONV = Layer(
    name="c", op="conv", inputs=("x",), G=2, K=3, C=4, P=8, Q=8, R=3, S=3, H=8, W=8, padding=(1, 1, 1, 1), activation="relu",
    attrs=(("low", 0.0), ("shape", (1, 2))),
)  # fmt: skip
MAPPING = Mapping(tile=(1, 1, 3, 2, 4, 8), order="CKM")
STATS = LayerStats(
    cycles=10, compute_cycles=4, stall_cycles=(("fill", 1), ("weights", 5)), macs=32, peak_macs_per_cycle=16.0,
    traffic=(Traffic(level="dram", operand="W", read_bits=8), Traffic(level="dram", operand="O", write_bits=16)),
    actions=(Action(component="mac", verb="mac", count=32, bits=(8, 8, 32)),),
)  # fmt: skip
COST = LayerCost(
    name="c",
    op="conv",
    w_bits=8,
    a_bits=8,
    out_bits=8,
    weight_bits=64,
    act_bits=128,
    stats=STATS,
    energy=(),
    mapping=MAPPING,
)
NET = Network(
    name="net", inputs=(TensorSpec(name="x", shape=(1, 8, 8, 8)),), layers=(CONV,), outputs=("c",), source="by hand",
)  # fmt: skip
POLICY = Policy(default=LayerFormat(w_bits=4), layers=(("c", LayerFormat(a_bits=16)),))
PROGRAM = lower(PRESETS["small"].bind(workload_of(CONV)), PRESETS["small"], MAPPING)
VALUES = (
    CONV,
    MAPPING,
    STATS,
    COST,
    NET,
    POLICY,
    PROGRAM,
    PRESETS["base"],
    PRESETS["small"],
    Memory(),
    workload_of(CONV),
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_json_there_and_back_gives_an_equal_value_with_an_equal_hash(value):
    again = from_json(to_json(value), type(value))
    assert again == value
    assert hash(again) == hash(value)
    assert type(again) is type(value)
    assert to_json(again) == to_json(value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_frozen(value):
    for field in fields(value):
        with pytest.raises(FrozenInstanceError):
            setattr(value, field.name, None)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(cases())
def test_drawn_values_survive_json(case):
    datapath, arch, mapping = case
    for value in (datapath.workload, arch, mapping, lower(datapath, arch, mapping)):
        assert from_json(to_json(value), type(value)) == value


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": ""}, "layer.name: got '', expected a non-empty string"),
        ({"op": "konv"}, "layer c.op: got 'konv', expected one of " + ", ".join(OPS)),
        ({"K": 0}, "layer c.K: got 0, expected an integer from 1 to 16777216"),
        ({"K": True}, "layer c.K: got True, expected an integer from 1 to 16777216"),
        ({"K": 2.0}, "layer c.K: got 2.0, expected an integer from 1 to 16777216"),
        ({"P": 9}, "layer c.P: got 9, expected 8 by its input, window, stride and padding"),
        ({"Q": 7}, "layer c.Q: got 7, expected 8 by its input, window, stride and padding"),
        ({"stride": (0, 1)}, "layer c.stride: got 0, expected an integer from 1 to 65536"),
        ({"padding": (1, 1, -1, 1)}, "layer c.padding: got -1, expected an integer from 0 to 65536"),
        ({"inputs": ()}, "layer c.inputs: got (), expected at least one producer"),
        ({"op": "gemm"}, "layer c.op: got 'gemm', expected P = Q = R = S = 1 for a gemm"),
        (
            {"N": 1 << 24, "K": 1 << 24},
            f"layer c: got {2 * 4 * 64 * 9 << 48}, expected fewer than 2**53 multiply-accumulates",
        ),
    ],
)
def test_layer_refuses(change, text):
    with pytest.raises(SpecError) as caught:
        replace(CONV, **change)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: replace(MAPPING, order="KKC"), "mapping.order: got 'KKC', expected one of " + ", ".join(ORDERS)),
        (lambda: replace(MAPPING, tile=(1, 1, 0, 1, 1, 1)), "mapping.tile.K: got 0, expected an integer of at least 1"),
        (lambda: LayerFormat(w_bits=17), "policy.w_bits: got 17, expected an integer from 1 to 16"),
        (
            lambda: LayerFormat(operator="xor"),
            "policy.operator: got 'xor', expected one of native, multiply, shift, add",
        ),
        (
            lambda: parse_policy("w4a8,oops"),
            "policy: got 'oops', expected a string like w4a8, w2a2g2, f8, w6a6-add, w4a8-codebook or layer=w4a8",
        ),
        (lambda: parse_policy("w4,c=w8,c=a8"), "policy.layers: got ['c'], expected each layer named once"),
        (lambda: Memory(kind="tape"), "memory.kind: got 'tape', expected one of flat, dram"),
        (lambda: Memory(bits_per_cycle=0), "memory.bits_per_cycle: got 0, expected an integer from 1 to 1048576"),
        (
            lambda: Memory(kind="dram", part="ddr4-2400", align_bits=12),
            "memory.align_bits: got 12, expected a multiple of 8 with dram",
        ),
        (
            lambda: Shell(wbuf_bits=0, ibuf_bits=64, obuf_bits=64),
            "shell.wbuf_bits: got 0, expected an integer of at least 64",
        ),
        (lambda: replace(PRESETS["small"], rows=0), "systolic.rows: got 0, expected an integer from 1 to 4096"),
        (lambda: replace(PRESETS["small"], dataflow="rs"), "systolic.dataflow: got 'rs', expected one of os, ws, is"),
        (
            lambda: replace(PRESETS["small"], clock_hz=float("nan")),
            "arch.clock_hz: got nan, expected a finite number above zero",
        ),
        (
            lambda: replace(PRESETS["small"], sram_device="hp"),
            "arch.sram_device: got 'hp', expected itrs-lstp or itrs-hp",
        ),
        (
            lambda: TensorSpec(name="x", shape=(1, 2, 3)),
            "input x.shape: got (1, 2, 3), expected four positive integers N, C, H, W",
        ),
        (
            lambda: PRESETS["small"].bind(workload_of(CONV, w_bits=16)),
            "policy for layer c: w_bits: got 16, expected 1 to 8 bits (--set w_width=16)",
        ),
        (
            lambda: PRESETS["small"].bind(replace(workload_of(CONV), fmt=LayerFormat(operator="shift"))),
            "policy for layer c: operator: got 'shift', expected multiply on systolic",
        ),
    ],
)
def test_specifications_refuse(build, text):
    with pytest.raises(SpecError) as caught:
        build()
    assert str(caught.value) == text
    assert isinstance(caught.value, HwsimError)


def test_unknown_dram_part_offers_the_nearest():
    with pytest.raises(UnknownName, match=r"ddr4-2400"):
        Memory(kind="dram", part="ddr4-2401")


def test_policy_for_a_layer_that_is_not_there():
    with pytest.raises(UnknownName, match=r"^unknown layer in the policy 'cc': did you mean c\?$"):
        parse_policy("w4a8,cc=w8a8").check(NET)


def test_policy_strings():
    assert parse_policy("w4a8") == Policy(default=LayerFormat(w_bits=4, a_bits=8))
    assert parse_policy("w2,c=w8a16").of("c") == LayerFormat(w_bits=8, a_bits=16)
    assert parse_policy("w2,c=w8a16").of("other").short == "w2a8"
    assert parse_policy("w2,c=w8a16").short == "w2a8 with 1 exceptions"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("w4a4,c=w8", LayerFormat(w_bits=8, a_bits=4)),
        ("c=a8,w4a6", LayerFormat(w_bits=4, a_bits=8)),
        ("w2a2g2,c=w8a8", LayerFormat(groups=2)),
        ("w6a6-add,c=w8", LayerFormat(w_bits=8, a_bits=6, operator="add")),
        ("w6a6-add,c=w8a8-multiply", LayerFormat(operator="multiply")),
        ("w4a8-codebook,c=w6", LayerFormat(w_bits=6, codec="codebook")),
        ("w4a8-codebook,c=w8-dense", LayerFormat(codec="dense")),
        ("f8,c=w6a6", LayerFormat(w_bits=6, a_bits=6, scale="shift")),
        ("w4a4,c=f8", LayerFormat(scale="shift")),
        ("c=w4", LayerFormat(w_bits=4)),
    ],
)
def test_what_a_layer_leaves_open_is_the_default(text, wanted):
    assert parse_policy(text).of("c") == wanted


def test_network_lists_every_problem_at_once():
    bad = (
        replace(CONV, name="a"),
        replace(CONV, name="a", inputs=("nobody",)),
        replace(CONV, name="b", inputs=("a",)),
    )
    with pytest.raises(InputError) as caught:
        replace(NET, layers=bad, outputs=("z",))
    assert caught.value.problems == (
        "the name 'a' is used twice",
        "layer a reads nobody, which no earlier layer produces",
        "layer b (conv) expects an input of (1, 8, 8, 8), its producer gives (1, 6, 8, 8)",
        "output 'z' is no layer",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "Input data was truncated"),
        ('{"name": "c", "op": "conv"}', "Object missing required field `inputs`"),
        ('{"name": "c", "op": "conv", "inputs": ["x"], "K": "3"}', "Expected `int`, got `str` - at `$.K`"),
    ],
)
def test_malformed_json_is_an_input_error_with_its_path(text, problem):
    with pytest.raises(InputError) as caught:
        from_json(text, Layer, "layer.json")
    assert str(caught.value) == f"layer.json: {problem}"


def test_json_of_an_invalid_value_is_refused_on_reading():
    text = to_json(CONV).replace('"K":3', '"K":0')
    with pytest.raises(HwsimError, match=r"layer c\.K: got 0, expected an integer from 1 to 16777216"):
        from_json(text, Layer)


def test_an_unknown_field_in_json_is_an_error_with_its_name():
    text = to_json(MAPPING).replace('"order"', '"colour":1,"order"')
    with pytest.raises(InputError, match="colour"):
        from_json(text, Mapping)


def test_layer_counts():
    assert CONV.kind == "mac"
    assert CONV.macs == 2 * 3 * 4 * 64 * 9
    assert CONV.weights == 2 * 3 * 4 * 9
    assert CONV.out_shape == (1, 6, 8, 8)
    assert CONV.in_shape == (1, 8, 8, 8)
    assert CONV.attr("shape") == (1, 2)
    assert CONV.attr("nothing", 7) == 7
    assert CONV.with_batch(3).macs == 3 * CONV.macs
    assert replace(CONV, K=1, C=1).is_depthwise
    assert not CONV.is_depthwise


def test_equal_shapes_have_equal_keys_whatever_their_names():
    other = replace(CONV, name="d", inputs=("c",), activation="none")
    assert CONV.shape_key() == other.shape_key()
    assert workload_of(CONV).key() == workload_of(other).key()
    assert workload_of(CONV).key() != workload_of(other, w_bits=4).key()
    assert CONV.shape_key() != replace(CONV, K=4).shape_key()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(workloads())
def test_keys_of_drawn_workloads_keep_all_that_moves_cost(workload):
    key = workload.key()
    assert isinstance(key, Workload)
    assert key.key() == key
    assert (key.layer.macs, key.layer.out_shape, key.operand_shapes) == (
        workload.layer.macs, workload.layer.out_shape, workload.operand_shapes,
    )  # fmt: skip


def test_network_finds_layers_and_consumers():
    second = replace(CONV, name="d", C=3, G=2, inputs=("c",))
    net = replace(NET, layers=(CONV, second), outputs=("d",))
    assert net.consumers == {"x": ("c",), "c": ("d",), "d": ()}
    assert net.macs == CONV.macs + second.macs
    assert net.weights == CONV.weights + second.weights
    assert net.shape_of("x") == (1, 8, 8, 8)
    assert net.with_batch(2).layer("d").N == 2
    with pytest.raises(UnknownName, match=r"^unknown layer 'e': known: c, d$"):
        net.layer("e")


def test_stats_derive_ratios_and_refuse_cycles_that_do_not_add_up():
    assert STATS.utilization == 32 / 160
    assert STATS.bound == "weights"
    assert STATS.moved_bits("dram", "read") == 8
    assert STATS.moved_bits("dram", "write") == 16
    assert replace(STATS, compute_cycles=5, stall_cycles=(("weights", 5),)).bound == "compute"
    with pytest.raises(ValueError, match=r"^11 cycles accounted for, 10 run$"):
        replace(STATS, compute_cycles=5)


def test_program_table_is_read_only_and_has_its_length():
    assert len(PROGRAM) == len(PROGRAM.table) == len(PROGRAM.instructions) // INSTRUCTION.itemsize
    assert not PROGRAM.table.flags.writeable
    assert PROGRAM.table.dtype == INSTRUCTION
    with pytest.raises(ValueError, match="read-only"):
        PROGRAM.table["bits"] = np.int64(0)


def test_mapping_counts_tiles_and_knows_when_it_is_proven():
    assert MAPPING.tile_counts(CONV) == (1, 2, 1, 2, 2, 1)
    assert replace(MAPPING, value=5.0, lower_bound=5.0).proven
    assert not replace(MAPPING, value=5.0, lower_bound=4.0).proven


def test_presets_name_themselves_and_halve_their_buffers_into_banks():
    for name, arch in PRESETS.items():
        assert isinstance(arch, Systolic)
        assert arch.preset == name
        assert arch.source
        assert arch.shell.bank_bits("wbuf") * 2 == arch.shell.wbuf_bits
