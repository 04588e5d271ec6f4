"""The project's own files agree with each other and with what they promise."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("hwsim", "accel_rtl", "mappers", "energy_models", "cosim")
PYPROJECT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(PYPROJECT)["project"]


def list_sources() -> list[Path]:
    """Return the Python files that ship."""
    return sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))


def clean_environment() -> dict[str, str]:
    """Return the environment without what steers numba or pytest."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "PYTEST_", "COV_"))}


def read_make_targets() -> dict[str, str]:
    """Return the recipe of each target of the Makefile."""
    found: dict[str, list[str]] = {}
    target = ""
    for line in (ROOT / "Makefile").read_text().splitlines():
        if match := re.match(r"([a-z]+):(?!=)", line):
            target = match[1]
            found[target] = []
        elif line.startswith("\t") and target:
            found[target].append(line.strip())
        else:
            target = ""
    return {name: "\n".join(lines) for name, lines in found.items()}


def test_versions_agree():
    from hwsim.core.version import VERSION

    assert PROJECT["version"] == VERSION
    assert metadata.version("hwsim") == VERSION
    assert re.search(rf"^## \[{re.escape(VERSION)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_every_dependency_has_its_reason_beside_it():
    listed = [*PROJECT["dependencies"], *(d for extra in PROJECT["optional-dependencies"].values() for d in extra)]
    for requirement in listed:
        lines = [line for line in PYPROJECT.splitlines() if line.strip().startswith(f'"{requirement}"')]
        assert lines, f"{requirement} does not stand on a line of its own"
        for line in lines:
            assert re.search(r'",\s+# \S.{10,}', line), f"no reason beside {requirement}"


def test_every_import_of_the_shipped_code_is_declared():
    declared = {re.split(r"[^\w.-]", d)[0].lower() for d in PROJECT["dependencies"]}
    extras = {re.split(r"[^\w.-]", d)[0].lower() for e in PROJECT["optional-dependencies"].values() for d in e}
    names = {
        "PIL": "pillow",
        "ai_edge_litert": "ai-edge-litert",
        "google": "onnx",
        "cocotb_tools": "cocotb",
    }  # protobuf is onnx's own requirement
    for path in list_sources():
        for node in ast.walk(ast.parse(path.read_text())):
            found = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                found = [node.module or ""]
            for top in {name.partition(".")[0] for name in found}:
                if top in sys.stdlib_module_names or top in PACKAGES:
                    continue
                assert names.get(top, top).lower() in declared | extras, f"{path.name} imports {top}"


def test_shipped_code_has_no_loose_ends():
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|\bbreakpoint\(|\bpdb\b")
    files = [*list_sources(), *(p for name in PACKAGES for p in (ROOT / name).rglob("*.toml"))]
    found = [str(path.relative_to(ROOT)) for path in files if marks.search(path.read_text())]
    assert not found


def test_library_never_prints_nor_exits():
    allowed = {"hwsim/cli.py"}
    found = []
    for path in list_sources():
        name = path.relative_to(ROOT).as_posix()
        if name in allowed or name.startswith("hwsim/commands/"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("print", "exit", "quit", "sys.exit", "os._exit"):
                found.append(f"{name}:{node.lineno} {called}")
    assert not found


def test_readme_commands_exist():
    targets = read_make_targets()
    text = "\n".join((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))
    code = "\n".join(block or inline for block, inline in re.findall(r"```\w*\n(.*?)```|`([^`\n]+)`", text, re.DOTALL))
    named = set(re.findall(r"(?:^|[;&] )make ([a-z]+)", code, re.MULTILINE))
    assert {"run", "test"} <= named
    assert named <= set(targets), f"no such target: {sorted(named - set(targets))}"
    assert "hwsim $(RUN)" in targets["run"].replace("$(BIN)/", "")
    assert "RUN := run --arch smartdeal --net resnet18" in (ROOT / "Makefile").read_text()

    from hwsim.cli import build_parser, find_commands

    commands = find_commands()
    shown = set(re.findall(r"^(?:\$ )?hwsim ([a-z]+)", code, re.MULTILINE))
    assert "run" in shown
    assert shown <= set(commands), f"no such command: {sorted(shown - set(commands))}"
    parser = build_parser(commands)
    for line in re.findall(r"^(?:\$ )?hwsim ([a-z][^\n#|>]* [^\n#|>]+)", code, re.MULTILINE):
        parser.parse_args(line.split())


README_SAMPLES = re.findall(
    r"<!-- sample -->\n```text\n\$ (hwsim [^\n]+)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
)


@pytest.mark.parametrize(("command", "shown"), README_SAMPLES, ids=[command for command, _ in README_SAMPLES])
def test_readme_samples_are_what_the_commands_print(command, shown, capsys):
    from hwsim.cli import main

    assert main(command.split()[1:]) == 0
    printed = iter(capsys.readouterr().out.splitlines())
    assert shown.strip(), "the sample is empty: make readme"
    for line in shown.rstrip().splitlines():
        if line.strip() != "...":
            assert any(_same_line(line, other) for other in printed), (
                f"make readme; not printed, or not in this place: {line}"
            )


def _same_line(shown: str, printed: str) -> bool:
    """Return whether two lines are the same but for the last digits: tensors are drawn and run in floating point first."""
    number = re.compile(r"\d[\d,]*\.?\d*(?:e[-+]\d+)?")
    if number.sub("#", " ".join(shown.split())) != number.sub("#", " ".join(printed.split())):
        return False
    pairs = zip(number.findall(shown), number.findall(printed), strict=True)
    return all(_near(float(a.replace(",", "")), float(b.replace(",", ""))) for a, b in pairs)


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= 0.02 * max(abs(a), abs(b)) + 0.11


def read_walkthrough() -> dict[str, str]:
    """Return the files that CONTRIBUTING.md spells out, by their path."""
    blocks = re.findall(r"```python\n# (\S+\.py)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    return dict(blocks)


def test_architecture_of_the_walkthrough_runs_as_it_stands(tmp_path, monkeypatch):
    import hwsim.archs
    from hwsim import simulate
    from hwsim.archs.registry import find_arch, list_archs
    from hwsim.core.errors import SpecError
    from hwsim.core.mapping import list_boxes

    (tmp_path / "dotrow").mkdir()
    for name, text in read_walkthrough().items():
        if name.startswith("dotrow/"):
            (tmp_path / name).write_text(text)
    monkeypatch.setattr(hwsim.archs, "__path__", [*hwsim.archs.__path__, str(tmp_path)])
    try:
        assert "dotrow" in {entry.name for entry in list_archs() if not entry.error}
        arch = find_arch("dotrow", "small")
        report = simulate("resnet8", arch)
        narrow = simulate("resnet8", arch, policy="w4a4")
        with pytest.raises(SpecError, match="at most w8a8 on dotrow"):
            simulate("resnet8", arch, policy="w16a8")
        conv = next(row for row in report.layers if row.op == "conv")
        layer = report.network.layer(conv.name)
        boxes = list_boxes(layer, conv.mapping.tile)
        dots = [int(n * g * p * q * -(-k // 8)) * -(-int(c) * 9 // 8) for n, g, k, c, p, q in boxes.size]
        assert conv.stats.compute_cycles == sum(dots)
        assert narrow.energy_pj < report.energy_pj
    finally:
        for name in [name for name in sys.modules if name.startswith("hwsim.archs.dotrow")]:
            del sys.modules[name]


def test_network_of_the_walkthrough_builds():
    space: dict[str, object] = {}
    exec(read_walkthrough()["toy.py"], space)
    (entry,) = space["NETWORKS"]
    assert [layer.op for layer in entry.build().layers] == ["conv", "maxpool", "flatten", "gemm"]


def test_documents_link_to_files_that_exist():
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
            if not re.match(r"[a-z]+:", target):
                assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_ci_runs_what_make_test_runs():
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    for needed in ("make test", "make lint", "make types", "make bench", "make run", "NUMBA_BOUNDSCHECK=1"):
        assert needed in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_import_contracts_hold():
    script = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-500:]
    assert "0 broken" in found.stdout


def test_kernel_files_import_numpy_numba_and_kernels_alone():
    # Also what the import contract's graph does not see: relative imports and imports inside functions of any depth.
    for path in list_sources():
        if not path.name.startswith("kernel"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            found = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path.name}: relative import"
                found = [node.module or ""]
            for name in found:
                fine = name.partition(".")[0] in ("numpy", "numba", "__future__") or name == "hwsim.core.jit"
                assert fine or name.rpartition(".")[2].startswith("kernel"), f"{path.name} imports {name}"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the folder that setuptools lays out for the wheel, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    copy.mkdir()
    for name in (*PACKAGES, "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    subprocess.run(
        [sys.executable, "-c", "from setuptools import setup; setup()", "-q", "build", "--build-base", str(folder)],
        cwd=copy,
        check=True,
        capture_output=True,
        env=clean_environment(),
    )
    return folder / "lib"


def test_wheel_holds_the_five_packages_with_their_data_and_no_tests(built):
    assert {path.name for path in built.iterdir() if path.is_dir()} == set(PACKAGES)
    for name in PACKAGES:
        sources = {
            p.relative_to(ROOT) for p in (ROOT / name).rglob("*") if p.is_file() and "__pycache__" not in p.parts
        }
        wanted = {p for p in sources if p.suffix in (".py", ".toml", ".csv", ".json") or p.name == "py.typed"}
        missing = sorted(str(p) for p in wanted if not (built / p).exists())
        assert not missing, f"not in the wheel: {missing}"
    assert any(built.glob("energy_models/tables/*.toml"))
    assert any(built.glob("energy_models/data/*.csv"))
