"""A progress bar on stderr, for work that takes more than a second on a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

PATIENCE_S = 1.0
"""Work below this stays silent."""


class Progress:
    """Shows how far the work is: called with what is at work, how many steps are done and how many there are.

    Nothing is drawn when stderr is no terminal, nor in the first second. Use it in a ``with`` block: the bar goes
    when the block ends.
    """

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, name: str, done: int, total: int) -> None:
        if not sys.stderr.isatty() or time.monotonic() - self._begin < PATIENCE_S:
            return
        if self._bar is None:
            self._start(total)
        self._bar.update(self._task, description=name, completed=done, total=total)

    def _start(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bar = Bar(*columns, console=Console(file=sys.stderr), transient=True)
        self._bar.start()
        self._task = self._bar.add_task("", total=total)
