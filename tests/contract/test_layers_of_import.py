"""Who may import whom: the layers of the design, read from the sources (imports inside functions count too)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("hwsim", "mappers", "energy_models", "accel_rtl", "cosim")
LAYERS = (
    ("hwsim.cli", "hwsim.commands"),
    ("hwsim.published.systems",),
    ("cosim", "hwsim.search", "hwsim.report"),
    ("hwsim.pipeline",),
    ("mappers", "energy_models"),
    ("hwsim.engine", "accel_rtl"),
    ("hwsim.policies",),
    ("hwsim.archs", "hwsim.nets", "hwsim.quant"),
    ("hwsim.core",),
)
"""From the top; each may import its own layer and those below."""
PUBLIC_API = "hwsim"
"""The package itself re-exports the API by lazy imports; nothing below the commands imports through it."""
APART = "hwsim.published"
"""Equations of others: for tests and `hwsim reproduce` alone."""
SYSTEMS = "hwsim.published.systems"
"""These run the model beside the equations; no equation imports them."""


def read_module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def list_imports(source: str, module: str, is_package: bool) -> set[str]:
    """Return the absolute names of everything that a module imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, *([base] if base else [])])
            found.update({base} | {f"{base}.{alias.name}" for alias in node.names})
    return found


def find_layer(name: str) -> int | None:
    for level, members in enumerate(LAYERS):
        if any(name == member or name.startswith(member + ".") for member in members):
            return level
    return None


def list_files() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def find_violations(module: str, imports: set[str]) -> list[str]:
    own = find_layer(module)
    found = []
    for name in sorted(imports):
        if name.split(".")[0] == "tests":
            found.append(f"{module} imports {name}")
        level = find_layer(name)
        if own is not None and level is not None and level < own:
            found.append(f"{module} imports {name}")
        apart = name == APART or name.startswith(APART + ".")
        if apart and not module.startswith((APART, "hwsim.commands.reproduce")):
            found.append(f"{module} imports {name}")
        alone = module.startswith(APART) and not module.startswith(SYSTEMS)
        if alone and level is not None and not name.startswith("hwsim.core"):
            found.append(f"{module} imports {name}")
    return found


@pytest.mark.parametrize("path", list_files(), ids=lambda path: read_module_name(path))
def test_imports_point_downwards(path):
    module = read_module_name(path)
    imports = list_imports(path.read_text(), module, path.name == "__init__.py")
    assert find_violations(module, imports) == []


@pytest.mark.parametrize("path", [p for p in list_files() if p.name.startswith("kernel")], ids=read_module_name)
def test_kernels_import_numpy_numba_and_kernels_alone(path):
    imports = list_imports(path.read_text(), read_module_name(path), False)
    modules = {name for name in imports if name.split(".")[0] not in ("numpy", "numba", "__future__", "math")}
    strange = [name for name in modules if not name.startswith("hwsim.core.jit") and ".kernel_" not in name]
    assert not [name for name in strange if not any(other.startswith(name + ".") for other in modules - {name})]


def test_no_module_outside_jit_names_numba():
    users = {
        read_module_name(p)
        for p in list_files()
        if "numba" in {n.split(".")[0] for n in list_imports(p.read_text(), "x", False)}
    }
    assert {name for name in users if ".kernel" not in name} <= {"hwsim.core.jit"}


def test_the_reader_of_imports_sees_every_kind():
    source = "import a.b\nfrom c import d\nfrom . import e\nfrom ..f import g\ndef h():\n    import i\n"
    found = list_imports(source, "p.q.r", False)
    assert found == {"a.b", "c", "c.d", "p.q", "p.q.e", "p.f", "p.f.g", "i"}


def test_the_contract_can_fail():
    assert find_violations("hwsim.core.layer", {"hwsim.engine.run"}) == ["hwsim.core.layer imports hwsim.engine.run"]
    assert find_violations("hwsim.archs.x", {"hwsim.published.scalesim"}) == [
        "hwsim.archs.x imports hwsim.published.scalesim"
    ]
    assert find_violations("hwsim.report.text", {"hwsim.core.layer", "hwsim.report.units"}) == []
