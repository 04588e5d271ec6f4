"""``hwsim allot``: what it prints can be given back as options, and what it refuses."""

from __future__ import annotations

import json
import re

import pytest

NET = ("--net", "resnet8", "--preset", "small")


def test_options_that_it_prints_make_the_same_accelerator(hwsim):
    found = hwsim("allot", *NET, "--budget", "60000")
    assert (found.code, found.err) == (0, "")
    options = re.search(r"as options: (.*)", found.out)[1].split()
    fields = [one for one in options if one != "--set"]
    rows = dict(re.findall(r"^ *([csa]lp) .*? (\d+x\d+) ", found.out, re.MULTILINE))
    sizes = {chunk: dict(zip(("rows", "cols"), array.split("x"), strict=True)) for chunk, array in rows.items()}
    assert fields == [f"{chunk}_{side}={size}" for chunk, own in sizes.items() for side, size in own.items()]
    assert rows["clp"] != "1x1"
    again = json.loads(hwsim("allot", *NET, *options, "--keep", "--map", "--json").out)
    mapped = json.loads(hwsim("allot", *NET, "--budget", "60000", "--map", "--json").out)
    assert again["combinations"] == mapped["combinations"]


def test_mapping_that_it_prints_runs_at_its_cycles(hwsim):
    found = hwsim("allot", *NET, "--keep", "--map")
    assert (found.code, found.err) == (0, "")
    options = re.search(r"as options: (.*)", found.out)[1].split()
    best, cycles = re.search(r"^ *(clp \w+, slp \w+, alp \w+) +([\d,]+) .* 1\.000", found.out, re.MULTILINE).groups()
    assert [one.split("=")[1] for one in options[1:6:2]] == [one.split()[1] for one in best.split(", ")]
    report = json.loads(hwsim("run", "--arch", "nasa", *NET, *options, "--json").out)
    assert report["totals"]["cycles"] == int(cycles.replace(",", ""))
    shown = re.findall(r"^ *clp (\w+), ", found.out, re.MULTILINE)
    assert sorted(shown) == ["is", "os", "rs", "ws"]


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--budget", "nan"), "nasa.area_budget_um2: got nan, expected a finite number above zero"),
        (("--budget", "-3"), "nasa.area_budget_um2: got -3.0, expected a finite number above zero"),
        (("--budget", "10"), "nasa.area_budget_um2: got 10.0, expected at least"),
        (("--budget", "wide"), "--budget: got 'wide', expected an area in um2"),
        (("--keep",), "--keep leaves nothing to do: give --map beside it"),
        (("--keep", "--map", "--budget", "9e4"), "--budget: got '9e4', expected no budget beside --keep"),
        (("--arch", "systolic"), "--arch: got 'systolic', expected nasa, which has chunks"),
        (("--batch", "0"), "argument --batch: '0' is not an integer from 1 to 4096"),
        (("--batch", "9" * 5000), f"argument --batch: '{'9' * 37}...' is not an integer from 1 to 4096"),
        (("--policy", ""), "policy: got ''"),
        (("--fpga", "ecp5-85k"), "unrecognized arguments: --fpga"),
    ],
)
def test_errors_take_one_line(hwsim, args, text):
    found = hwsim("allot", "--net", "resnet8", *args)
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert text in found.err
