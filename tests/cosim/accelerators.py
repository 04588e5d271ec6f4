"""Accelerators that the tests co-simulate: small arrays, so that their models are built in seconds."""

from __future__ import annotations

from hwsim.archs.overrides import choose_memory, override, parse_settings
from hwsim.archs.registry import find_arch
from hwsim.core.arch import Arch
from hwsim.core.errors import HwsimError
from tests.extras import give_up

SETTINGS = {
    "systolic-os": ("systolic", ("rows=4", "cols=4")),
    "systolic-ws": ("systolic", ("rows=3", "cols=2", "dataflow=ws")),
    "systolic-is": ("systolic", ("rows=2", "cols=4", "dataflow=is", "fold_overlap=skewed")),
    "fixed8": ("fixed8", ("rows=4", "cols=4")),
    "smartdeal": ("smartdeal", ("slices=2", "lines=2", "macs=2")),
}


def make_arch(name: str, memory: str = "") -> Arch:
    """Return an accelerator of `SETTINGS`; see `make_accelerator`."""
    return make_accelerator(*SETTINGS[name], memory)


def make_accelerator(base: str, settings: tuple[str, ...], memory: str = "") -> Arch:
    """Return a changed ``small`` preset; skips (in CI: fails) where its RTL cannot be built here."""
    arch = override(find_arch(base, "small"), parse_settings(list(settings)))
    if memory:
        arch = choose_memory(arch, memory)
    from accel_rtl.accelerator import find_engine

    try:
        find_engine(arch)
    except HwsimError as error:
        give_up(str(error))
    return arch


def tell(results) -> str:
    """Return what differs, for a failed assertion."""
    wrong = [result for result in results if result.mismatches]
    return "\n".join(f"{r.name}: {r.text}: " + "; ".join(one.text for one in r.mismatches) for r in wrong)
