"""What holds of every layer on every chunk and dataflow: roofs, prices with sources, bits, sizes that cannot be, the command."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hwsim.archs.nasa.spec import CHUNKS, DATAFLOWS, PRESETS
from hwsim.archs.overrides import override
from hwsim.archs.registry import decode_arch, encode_arch
from hwsim.cli import main
from hwsim.core.datapath import Workload
from hwsim.core.errors import SpecError
from hwsim.core.layer import Layer
from hwsim.core.policy import LayerFormat
from hwsim.pipeline.layer import run_layer
from hwsim.pipeline.prices import choose_prices
from mappers.search import find_mapping
from tests.contract.architecture_cases import LAYERS, check_layer, cut, measure_costs

WIDEST = {"multiply": (8, 8), "shift": (6, 16), "add": (6, 6)}


def load_of(layer, operator="multiply", w=None, a=None, **changes):
    w, a = w or WIDEST[operator][0], a or WIDEST[operator][1]
    fmt = LayerFormat(w_bits=w, a_bits=a, operator=operator, **changes)
    return Workload(layer=layer, fmt=fmt, out_bits=8, operand_bits=(a,), operand_shapes=(layer.in_shape,))


def with_dataflow(arch, dataflow):
    return override(arch, {f"{chunk}_dataflow": dataflow for chunk in CHUNKS.values()})


@pytest.mark.parametrize("operator", CHUNKS)
@pytest.mark.parametrize("preset", PRESETS)
def test_layers_stand_above_both_roofs_and_every_price_has_a_source(preset, operator):
    for dataflow in DATAFLOWS:
        whole = with_dataflow(PRESETS[preset], dataflow)
        for layer in LAYERS:
            load = load_of(layer, operator)
            arch = whole.part_for(load)
            datapath = arch.bind(load)
            mapping = find_mapping(datapath, arch)
            assert mapping.proven
            stats = check_layer(arch, datapath, mapping, choose_prices(arch, None))
            assert run_layer(datapath, arch, mapping)[0] == stats
    assert decode_arch(encode_arch(whole)) == whole
    assert all(item.source and item.area_um2 is not None for item in choose_prices(whole, None).price_area())


@pytest.mark.parametrize(("operator", "bits"), [(o, b) for o in CHUNKS for b in ((2, 2), (3, 5), (4, 4), (5, 6))])
def test_fewer_bits_never_cost_more_under_the_same_mapping(operator, bits):
    for dataflow in DATAFLOWS:
        arch = with_dataflow(PRESETS["small"], dataflow)
        prices = choose_prices(arch, None)
        for layer in LAYERS:
            mapping = cut(layer, 2)
            costs = measure_costs(arch, arch.bind(load_of(layer, operator, *bits)), mapping, prices)
            for more in ((min(bits[0] + 1, 6), bits[1]), (bits[0], min(bits[1] + 1, WIDEST[operator][1]))):
                other = measure_costs(arch, arch.bind(load_of(layer, operator, *more)), mapping, prices)
                costs.check_below(other, f"{layer.name}, {dataflow}, {bits} and {more}")
                assert costs.cycles <= other.cycles


def test_dataflows_trade_buffer_accesses_for_each_other():
    """On a layer that fills the arrays: outputs stay, weights stay, inputs stay, or all of them a little."""
    layer = Layer(name="x", op="conv", inputs=("x",), K=24, C=24, P=12, Q=12, R=3, S=3, H=14, W=14)
    read = {}
    for dataflow in DATAFLOWS:
        arch = override(with_dataflow(PRESETS["small"], dataflow), {"clp_rows": 6, "clp_cols": 12})
        totals = arch.bind(load_of(layer)).sum_tiles(np.array([[1, 1, 24, 24, 12, 12]]))
        read[dataflow] = {
            name: int(getattr(totals, name)[0]) for name in ("wbuf_read_bits", "ibuf_read_bits", "psum_bits")
        }
    once = layer.weights * 8
    assert read["ws"]["wbuf_read_bits"] == read["rs"]["wbuf_read_bits"] == once
    assert read["os"]["wbuf_read_bits"] == 24 * once  # for every block of 6 pixels
    assert read["is"]["wbuf_read_bits"] == 12 * once  # for every block of 12
    assert read["is"]["ibuf_read_bits"] == layer.P * layer.Q * 24 * 9 * 8  # each window's element once
    assert read["os"]["ibuf_read_bits"] == read["ws"]["ibuf_read_bits"] == 2 * read["is"]["ibuf_read_bits"]
    assert read["rs"]["ibuf_read_bits"] < 0.9 * read["is"]["ibuf_read_bits"]  # windows overlap
    assert read["os"]["psum_bits"] == layer.out_elements * 40
    assert read["ws"]["psum_bits"] == read["is"]["psum_bits"] == (2 * 36 - 1) * layer.out_elements * 40
    assert read["rs"]["psum_bits"] == (2 * 12 - 1) * layer.out_elements * 40


def test_a_chunk_has_its_share_of_the_buffers():
    arch = override(PRESETS["small"], {"clp_share": 2})
    shell = arch.shell
    for operator, share in (("multiply", 0.5), ("shift", 0.25), ("add", 0.25)):
        part = arch.part_for(load_of(LAYERS[0], operator)).shell
        assert (part.wbuf_bits, part.ibuf_bits, part.obuf_bits, part.stage_bits) == tuple(
            share * bits for bits in (shell.wbuf_bits, shell.ibuf_bits, shell.obuf_bits, shell.staging_bits)
        )
    pool = Layer(name="pool", op="maxpool", inputs=("x",), G=4, P=2, Q=2, R=2, S=2, H=4, W=4, stride=(2, 2))
    load = Workload(layer=pool, fmt=LayerFormat(), out_bits=8, operand_bits=(8,), operand_shapes=(pool.in_shape,))
    assert arch.engine_of(load) == "clp"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clp_rows": 0}, r"nasa\.clp_rows"),
        ({"alp_dataflow": "xs"}, r"nasa\.alp_dataflow: got 'xs', expected"),
        ({"slp_share": 0}, r"nasa\.slp_share"),
        ({"row_words": 0}, r"nasa\.row_words"),
        ({"shift_bits": 17}, r"nasa\.shift_bits"),
    ],
)
def test_sizes_that_cannot_be_are_told(change, said):
    with pytest.raises(SpecError, match=said):
        replace(PRESETS["small"], **change)


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (load_of(LAYERS[-1], "multiply", 9, 8), "layer fc: w_bits: got 9, expected 1 to 8 bits with the operator multiply"),
        (load_of(LAYERS[-1], "shift", 7, 8), "layer fc: w_bits: got 7, expected 2 to 6 bits with the operator shift"),
        (load_of(LAYERS[-1], "add", 1, 8), "layer fc: w_bits: got 1, expected 2 to 8 bits with the operator add"),
        (load_of(LAYERS[-1], codec="power-of-two"), "codec: got 'power-of-two', expected dense with the operator multiply"),
        (
            load_of(replace(LAYERS[0], S=13, Q=11), "multiply"),
            "layer first: S: got 13, expected filter rows that span at most 12 columns with clp_dataflow=rs (another dataflow "
            "(--set clp_dataflow=ws) or --set row_words=13 would help)",
        ),
    ],
)  # fmt: skip
def test_what_does_not_run_is_told(load, said):
    with pytest.raises(SpecError) as caught:
        with_dataflow(PRESETS["small"], "rs").bind(load)
    assert said in str(caught.value)


def test_the_command_allots_and_maps(capsys):
    network = ("--net", "resnet8", "--preset", "small")
    assert main(["allot", *network, "--budget", "60000", "--map", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["area_um2"] <= found["budget_um2"] == 60000
    assert [one["elements"] for one in found["chunks"]][1:] == [1, 1]  # it multiplies alone
    assert len(found["combinations"]) == 4
    assert found["combinations"][0]["cycles"] > 0
    assert main(["allot", *network, "--keep", "--map"]) == 0
    assert "--set clp_dataflow=" in capsys.readouterr().out
    assert main(["allot", *network, "--budget", "10"]) == 2
    assert "expected at least" in capsys.readouterr().err
    assert main(["allot", "--arch", "systolic", "--net", "resnet8"]) == 2
    assert "expected nasa, which has chunks" in capsys.readouterr().err
