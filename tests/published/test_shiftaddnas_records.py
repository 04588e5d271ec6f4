"""DNN-Chip-Predictor's equations against every record of ShiftAddNAS's two stored networks: 206 layers, 12 figures each."""

from __future__ import annotations

import csv
from functools import lru_cache

import pytest

from hwsim.core.errors import SpecError
from hwsim.published.eyeriss import PREDICTOR, SHIFTADDNAS, Operation, predict
from hwsim.published.eyeriss_networks import ENCODINGS, list_operations
from tests.reference import reference

FILES = {"bossnet_T0_mix_v4_distilled_Q": {"shift": "shfit_q"}}
"""Records under another name than their kind's (the spelling is theirs)."""
predict_once = lru_cache(maxsize=None)(predict)


def read_records(network: str, kind: str) -> list[tuple[float, ...]]:
    """Return the rows of a record file: computation pJ, energy mJ, latency s, operands, levels."""
    name = FILES.get(network, {}).get(kind, kind)
    with open(reference("shiftaddnas", f"{network}-224", f"{name}.csv"), newline="") as file:
        return [tuple(float(cell) for cell in row[1:]) for row in csv.reader(file)]


CASES = [(network, kind) for network in ENCODINGS for kind, found in list_operations(network).items() if found]


@pytest.mark.parametrize(("network", "kind"), CASES)
def test_every_record_is_equal_to_the_last_digit(network, kind):
    rows, operations = read_records(network, kind), list_operations(network)[kind]
    assert len(rows) == len(operations)
    for number, (row, operation) in enumerate(zip(rows, operations, strict=True), 1):
        assert predict_once(operation).row == row, f"{network} {kind} {number}: {operation}"


def test_all_records_are_covered():
    assert sum(len(list_operations(network)[kind]) for network, kind in CASES) == 206


def test_the_released_limits_are_not_those_of_the_records():
    """hw_utils.py as released allows 16 x 12 elements: then layers with 3 x 3 windows and a few others are faster than recorded."""
    differs = 0
    for network, kind in CASES:
        for row, operation in zip(read_records(network, kind), list_operations(network)[kind], strict=True):
            found = predict_once(operation, SHIFTADDNAS)
            differs += found.row != row
            assert found.latency_s <= row[2] or operation.kernel == 1
    assert differs == 66


def test_known_mistakes_are_there():
    """All elements may not be used: 3 rows x 14 x 4 sets are 168, so half of them idle; an add layer moves nothing from memory."""
    layer = Operation(kind="conv", C=256, M=256, H=14, W=14, E=14, F=14, kernel=3)
    record = predict(layer, PREDICTOR)
    used = record.tiling[3] * record.tiling[7] * record.tiling[10] * 3
    assert used == 84
    assert record.cycles == layer.C * layer.M * 14 * 14 * 9 // used
    added = predict(Operation(kind="add", C=256, M=256, H=14, W=14, E=14, F=14, kernel=3))
    assert added.levels_mj[1:4] == (0.0, 0.0, 0.0)
    assert sum(added.levels_mj) == pytest.approx(added.energy_mj)
    assert sum(added.operands_mj) + added.levels_mj[0] == pytest.approx(added.energy_mj)


def test_a_layer_without_a_tiling_is_refused():
    with pytest.raises(SpecError, match="a tiling that keeps"):
        predict(Operation(kind="conv", C=4, M=4, H=32, W=32, E=18, F=18, kernel=15))
