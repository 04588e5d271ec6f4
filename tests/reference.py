"""Where the reference data of others lies: read by tests, never shipped."""

from __future__ import annotations

import os
from pathlib import Path

from tests.extras import give_up

ROOT = Path(os.environ.get("HWSIM_REFERENCE", Path(__file__).resolve().parents[2] / "shared" / "reference"))


def reference(*parts: str) -> Path:
    """Return a reference file, or skip the test with the reason (in CI a missing file fails)."""
    path = ROOT.joinpath(*parts)
    if not path.exists():
        give_up(f"reference data absent: {path} (set HWSIM_REFERENCE)")
    return path
