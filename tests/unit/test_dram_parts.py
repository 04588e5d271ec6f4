import dataclasses

import numpy as np
import pytest

from hwsim.core.dram_parts import DEFAULT_MAPPING, PARTS, VECTOR_FIELDS, DramController, find_part, timing_vector
from hwsim.core.errors import SpecError, UnknownName
from hwsim.engine import kernel_dram_channel
from tests.naive_dram import decode_address
from tests.reference import reference


def test_unknown_part_names_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        find_part("ddr4-2440")
    assert str(caught.value) == "unknown DRAM part 'ddr4-2440': did you mean ddr4-2400 or lpddr4-3200?"


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("banks", 12, "dram.banks: got 12, expected a power of two"),
        ("tRCD", 0, "dram.tRCD: got 0, expected a positive integer below 2**32"),
        ("tRP", 17.0, "dram.tRP: got 17.0, expected a positive integer below 2**32"),
        ("tCCD_L", 3, "dram.tCCD_L: got 3, expected at least tCCD_S = 4"),
        ("bank_groups", 32, "dram.bank_groups: got 32, expected at most banks = 16"),
        ("row_bytes", 32, "dram.row_bytes: got 32, expected at least burst_bytes = 64"),
        ("ranks", 8, "dram.ranks: got 8, expected at most 4"),
        ("tREFI", 500, "dram.tREFI: got 500, expected more than 542, the longest time that one refresh takes"),
    ],
)
def test_bad_field_is_named(field: str, value: object, text: str) -> None:
    with pytest.raises(SpecError) as caught:
        dataclasses.replace(find_part("ddr4-2400"), **{field: value})
    assert str(caught.value) == text


@pytest.mark.parametrize("mapping", ["", "rorababg", "rorababgcoco", "rorababgcochch", "rorababgcoch "])
def test_bad_mapping_is_named(mapping: str) -> None:
    with pytest.raises(SpecError, match=r"dram\.mapping: .*each of ro ra ba bg co ch once"):
        dataclasses.replace(find_part("hbm2"), mapping=mapping)


@pytest.mark.parametrize(
    ("field", "value"), [("bank_queue", 65), ("read_queue", 0), ("hit_cap", 1.5), ("write_low", -1)]
)
def test_bad_controller_is_named(field: str, value: object) -> None:
    with pytest.raises(SpecError, match=rf"dram\.controller\.{field}"):
        DramController(**{field: value})


def test_kernel_and_vector_name_the_same_places() -> None:
    places = {name[2:].lower(): at for name, at in vars(kernel_dram_channel).items() if name.startswith("V_")}
    assert places == {name: at for at, name in enumerate(VECTOR_FIELDS)}
    for part in PARTS:
        vector = timing_vector(part)
        assert vector.shape == (len(VECTOR_FIELDS),)
        assert vector.dtype == np.int64


def test_parts_are_hashable_and_distinct() -> None:
    assert len({*PARTS}) == len({part.name for part in PARTS}) == 3


# Columns of the table; tCL of LPDDR4 is RL plus the latest tDQSCK, tRTP of HBM2 the longer of two.
COLUMNS = {
    "lpddr4-3200": "LPDDR4-3200 x16 ch (JEDEC, DRAMSys)",
    "ddr4-2400": "DDR4-2400 8Gb x8 64b ch (DRAMsim3)",
    "hbm2": "HBM2 8Gb 128b ch (DRAMsim3)",
}
FIELDS = {
    "bytes per burst": ("burst_bytes",),
    "banks / bank groups": ("banks", "bank_groups"),
    "page (row) bytes per channel": ("row_bytes",),
    "WL/CWL": ("tCWL",),
    "tRCD": ("tRCD",),
    "tRAS": ("tRAS",),
    "tRC": ("tRC",),
    "tRRD S/L": ("tRRD_S", "tRRD_L"),
    "tFAW": ("tFAW",),
    "tWTR S/L": ("tWTR_S", "tWTR_L"),
    "tWR": ("tWR",),
    "tREFI": ("tREFI",),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_preset_agrees_with_the_table(name: str) -> None:
    lines = [line.split(",") for line in reference("tables", "dram_params.csv").read_text().splitlines()]
    # The name of the LPDDR4 column holds a comma, so columns are counted from the right in the header only.
    at = 1 + list(COLUMNS).index(name)
    table = {cells[0]: cells[at] for cells in lines[1:] if len(cells) >= 5}
    part = find_part(name)
    for row, fields in FIELDS.items():
        values = [int(x) for x in table[row].replace(" ", "").split("/")]
        values *= len(fields) // len(values)
        assert [getattr(part, field) for field in fields] == values, row
    assert part.tRP == int(table["tRP"].split()[0])
    assert part.tRFC == int(table["tRFC"].split()[0])
    assert part.tck_ps == float(table["tCK"]) * 1000
    assert part.peak_bits_per_second / 8e9 / part.channels == pytest.approx(
        float(table["peak BW per channel"]), rel=0.001
    )


def test_default_mapping_puts_bank_groups_just_above_the_burst() -> None:
    part = find_part("ddr4-2400")
    assert part.mapping == DEFAULT_MAPPING
    assert [decode_address(part, 64 * i)["bg"] for i in range(6)] == [0, 1, 2, 3, 0, 1]
    assert decode_address(part, part.capacity_bytes - 64) == {
        "ch": 0,
        "bg": 3,
        "co": 127,
        "ba": 3,
        "ra": 1,
        "ro": 65535,
    }
