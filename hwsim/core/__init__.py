"""Types shared by every part: values, their invariants, their errors."""

from __future__ import annotations

import time

began_s = time.time()
"""When this process began to import the model: sources written later are not what it runs. No constant of the model: lower case."""
