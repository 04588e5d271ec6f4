"""Types shared by every part: values, their invariants, their errors."""

from __future__ import annotations

import time

BEGAN_S = time.time()
"""When this process began to import the model: sources written later are not what it runs."""
