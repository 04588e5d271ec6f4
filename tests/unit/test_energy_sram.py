"""SRAM: the sweep is reproduced, what lies between is near, what lies beyond is monotone and noted."""

import csv
import statistics

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from energy_models.sram import SWEEP, build_sweep, evaluate_sram, load_sweep, sram_cost
from hwsim.core.errors import SpecError
from tests.reference import reference

KB = 8192
FIGURES = {
    "read_pJ": lambda cost: cost.read_pj,
    "write_pJ": lambda cost: cost.write_pj,
    "area_mm2": lambda cost: cost.area_um2 / 1e6,
    "leak_total_mW": lambda cost: cost.leak_mw,
    "access_ns": lambda cost: cost.access_ns,
}


def shipped_rows():
    with SWEEP.open(newline="") as file:
        return list(csv.DictReader(file))


def cost_of(row, sweep=None):
    return evaluate_sram(
        sweep or load_sweep(),
        int(row["node_nm"]),
        row["device"],
        8 * int(row["capacity_B"]),
        int(row["width_bits"]),
        ports=row["ports"],
        temp_k=int(row["temp_K"]),
    )


def test_shipped_sweep_is_the_reference_sweep():
    names = {"1rw0r0w": "1rw", "0rw1r1w": "1r1w"}
    with reference("tables", "sram_cacti7.csv").open(newline="") as file:
        wanted = {
            tuple({**row, "ports": names[row["ports"]]}[c] for c in shipped_rows()[0]) for row in csv.DictReader(file)
        }
    assert {tuple(row.values()) for row in shipped_rows()} == wanted
    assert len(wanted) == 1140


@pytest.mark.parametrize("name", FIGURES)
def test_grid_points_are_exact_but_where_the_sweep_falls(name):
    # The running maximum lifts 4 steps in which CACTI's figure falls while the capacity doubles; nothing is ever lowered.
    lifted = 0
    for row in shipped_rows():
        got, wanted = FIGURES[name](cost_of(row)), float(row[name])
        assert got >= wanted * (1 - 1e-9)
        lifted += got > wanted * (1 + 1e-9)
    assert lifted <= 6


def test_smartexchange_range_is_a_64_to_256_kb_sram():
    # SmartExchange quotes 1.36 to 2.45 pJ per 8 bits; CACTI at 28 nm LSTP with a 64-bit port spans it.
    per_byte = [8 * sram_cost(28, "itrs-lstp", size * KB, 64).read_pj_per_bit for size in (64, 128, 256)]
    assert per_byte == pytest.approx([1.19, 1.55, 2.47], abs=0.006)


def test_horowitz_caches_are_within_two_of_cacti():
    for size, cache_pj, cacti_pj in ((8, 10, 6.1), (32, 20, 17.0), (1024, 100, 93.5)):
        cost = sram_cost(45, "itrs-lstp", size * KB, 64)
        assert cost.read_pj == pytest.approx(cacti_pj, rel=0.01)
        assert 0.5 < cost.read_pj / cache_pj < 1


@pytest.mark.parametrize(
    ("name", "bound"),
    [("read_pJ", 0.052), ("write_pJ", 0.051), ("area_mm2", 0.044), ("leak_total_mW", 0.025), ("access_ns", 0.028)],
)
def test_withheld_capacities_are_near(name, bound):
    # Every inner point of a line is priced from a sweep that lacks it and keeps its two neighbours, at a half and twice the
    # capacity: a gap of 4, where real use has 2.
    groups = {}
    for row in shipped_rows():
        if row["ports"] == "1rw" and row["temp_K"] == "300":
            groups.setdefault((row["node_nm"], row["device"], row["width_bits"]), []).append(row)
    errors = []
    for parity in (0, 1):
        kept, withheld = [], []
        for line in groups.values():
            line.sort(key=lambda row: int(row["capacity_B"]))
            for i, row in enumerate(line):
                (withheld if 0 < i < len(line) - 1 and i % 2 == parity else kept).append(row)
        sweep = build_sweep(kept)
        errors += [abs(FIGURES[name](cost_of(row, sweep)) / float(row[name]) - 1) for row in withheld]
    assert len(errors) == 720
    assert round(statistics.median(errors), 3) <= bound


@settings(max_examples=300, deadline=None)
@given(
    node=st.sampled_from((7, 16, 22, 28, 40, 45, 65, 90)),
    device=st.sampled_from(("itrs-lstp", "itrs-hp")),
    width=st.integers(1, 4096),
    small=st.integers(1, 1 << 28),
    more=st.integers(0, 1 << 28),
)
@example(node=28, device="itrs-lstp", width=512, small=1, more=1)
@example(node=45, device="itrs-lstp", width=64, small=4 << 23, more=1)
def test_more_capacity_never_costs_less(node, device, width, small, more):
    cheap, dear = sram_cost(node, device, small, width), sram_cost(node, device, small + more, width)
    for field in ("read_pj", "write_pj", "leak_mw", "area_um2", "access_ns", "cycle_ns"):
        assert 0 < getattr(cheap, field) <= getattr(dear, field) * (1 + 1e-12), field


@settings(max_examples=200, deadline=None)
@given(capacity=st.integers(2048, 1 << 25), narrow=st.integers(1, 512), more=st.integers(0, 512))
def test_a_wider_word_never_costs_less_to_write(capacity, narrow, more):
    cheap, dear = (sram_cost(28, "itrs-lstp", capacity, width) for width in (narrow, min(narrow + more, 512)))
    assert cheap.write_pj <= dear.write_pj * (1 + 1e-12)


@pytest.mark.parametrize(
    ("node", "capacity", "width", "note"),
    [
        (45, 64 * KB, 64, ""),
        (40, 64 * KB, 64, "interpolated between 32 and 45 nm"),
        (45, 512, 64, "64 B priced as the smallest macro swept at this width, 256 B: unverified"),
        (45, 4096, 512, "512 B priced as the smallest macro swept at this width, 2048 B: unverified"),
        (45, 64 * KB, 8, "8-bit words priced as 16 bits, the narrowest swept"),
        (45, 64 * KB, 1024, "1024-bit words by 2 macros of 512 bits side by side"),
        (45, 16 << 23, 64, "4 macros of 4 MiB, wires between them not modelled"),
    ],
)
def test_every_rule_beyond_interpolation_is_noted(node, capacity, width, note):
    cost = sram_cost(node, "itrs-lstp", capacity, width)
    assert cost.note == note
    assert cost.source == f"CACTI 7 sweep (data/sram_cacti7.csv), {node} nm itrs-lstp 1rw 300 K"


def test_smaller_than_the_sweep_is_the_smallest_macro():
    small, smallest = sram_cost(45, "itrs-lstp", 512, 64), sram_cost(45, "itrs-lstp", 2048, 64)
    assert (small.read_pj, small.area_um2) == (smallest.read_pj, smallest.area_um2)


def test_larger_than_the_sweep_is_several_macros():
    one, four = sram_cost(45, "itrs-lstp", 4 << 23, 64), sram_cost(45, "itrs-lstp", 16 << 23, 64)
    assert four.read_pj == one.read_pj
    assert four.leak_mw == pytest.approx(4 * one.leak_mw)
    assert four.area_um2 == pytest.approx(4 * one.area_um2)


def test_wide_word_is_macros_side_by_side():
    half, whole = sram_cost(45, "itrs-lstp", 32 * KB, 512), sram_cost(45, "itrs-lstp", 64 * KB, 1024)
    assert whole.read_pj == pytest.approx(2 * half.read_pj)
    assert whole.area_um2 == pytest.approx(2 * half.area_um2)
    assert whole.read_pj_per_bit == pytest.approx(half.read_pj_per_bit)


def test_interpolated_node_lies_between_its_neighbours():
    low, mid, high = (sram_cost(node, "itrs-lstp", 64 * KB, 64) for node in (32, 40, 45))
    assert low.read_pj < mid.read_pj < high.read_pj
    assert low.area_um2 < mid.area_um2 < high.area_um2


def test_leakage_beyond_the_sweep_is_not_scaled_as_energy():
    edge, beyond = (sram_cost(node, "itrs-lstp", 64 * KB, 64) for node in (22, 16))
    assert beyond.leak_mw == edge.leak_mw
    assert beyond.read_pj < edge.read_pj
    assert beyond.note.endswith("from 22 to 16 nm (Stillmaker and Baas 2017); leakage and times of 22 nm")


def test_device_type_decides_the_leakage():
    hp, lstp = (sram_cost(45, device, 64 * KB, 64).leak_mw for device in ("itrs-hp", "itrs-lstp"))
    assert hp == pytest.approx(31, rel=0.02)
    assert hp / lstp == pytest.approx(18000, rel=0.05)


def test_ports_and_heat_beyond_64_bits_take_the_ratio():
    plain, dual = (sram_cost(28, "itrs-lstp", 64 * KB, 128, ports=p) for p in ("1rw", "1r1w"))
    base, swept = (sram_cost(28, "itrs-lstp", 64 * KB, 64, ports=p) for p in ("1rw", "1r1w"))
    assert dual.area_um2 / plain.area_um2 == pytest.approx(swept.area_um2 / base.area_um2)
    assert dual.note == "1r1w by its ratio at 64 bits"
    hot = sram_cost(28, "itrs-lstp", 64 * KB, 128, temp_k=350)
    assert hot.leak_mw > plain.leak_mw
    assert hot.read_pj == pytest.approx(plain.read_pj)


@pytest.mark.parametrize(
    ("args", "options", "text"),
    [
        ((45, "lstp", KB, 64), {}, "sram.device: got 'lstp', expected one of itrs-lstp, itrs-hp"),
        ((45, "itrs-lstp", 0, 64), {}, "sram.capacity_bits: got 0, expected an integer of at least 1"),
        ((45, "itrs-lstp", KB, 0), {}, "sram.width_bits: got 0, expected an integer from 1 to 1048576"),
        ((45, "itrs-lstp", KB, 64), {"ports": "2rw"}, "sram.ports: got '2rw', expected one of 1rw, 1r1w"),
        ((45, "itrs-lstp", KB, 64), {"temp_k": 400}, "sram.temp_k: got 400, expected 300 or 350"),
        ((3, "itrs-lstp", KB, 64), {}, "node_nm: got 3, expected a node from 7 to 130 nm"),
    ],
)
def test_bad_argument_is_named(args, options, text):
    with pytest.raises(SpecError) as error:
        sram_cost(*args, **options)
    assert str(error.value) == text
