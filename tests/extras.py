"""Optional packages that tests read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hwsim.core.errors import MissingExtra


@contextmanager
def skip_without_extra() -> Iterator[None]:
    """Skip the test where what runs inside lacks an optional package (in CI that fails); any other error is one."""
    try:
        yield
    except MissingExtra as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
