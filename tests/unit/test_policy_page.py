"""Policies that docs/policies.md names run on the architecture beside them, and on none where it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwsim.archs.registry import find_arch, list_archs
from hwsim.core.errors import HwsimError
from hwsim.core.policy import parse_policy
from hwsim.nets.load import load_network
from hwsim.pipeline.workloads import list_workloads

PAGE = Path(__file__).parents[2] / "docs" / "policies.md"
CELLS = [
    [cell.strip() for cell in line.split("|")[1:3]] for line in PAGE.read_text().splitlines() if line.count("|") == 9
]
ROWS = [(policy.split(" (")[0], arch.strip("`")) for policy, arch in CELLS if policy[:1] in "wf" and "," not in policy]


def check(arch: str, policy: str) -> None:
    network = load_network("resnet8").network
    for load in list_workloads(network, parse_policy(policy)).values():
        if load.layer.kind == "mac":
            find_arch(arch).check(load)


def test_rows_are_found():
    assert len(ROWS) >= 12
    assert ("w6a8-shift-power-of-two", "nasa") in ROWS


@pytest.mark.parametrize(("policy", "arch"), ROWS)
def test_policies_of_the_page_run_where_it_says(policy, arch):
    if arch != "none":
        check(arch, policy)
        return
    for entry in list_archs():
        with pytest.raises(HwsimError):
            check(entry.name, policy)
