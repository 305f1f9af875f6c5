"""A profile of a process: every second is counted once, for the innermost activity."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds by activity."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._seconds: dict[str, float] = {}
        self._doing: list[str] = []
        self._since = clock()

    def begin(self, what: str) -> None:
        """Count for ``what`` from now on, until the matching :meth:`end`."""
        self._count()
        self._doing.append(what)

    def end(self) -> None:
        """Go on with the activity before."""
        self._count()
        self._doing.pop()

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Count for ``what`` within this context."""
        self.begin(what)
        try:
            yield
        finally:
            self.end()

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each activity until now, largest first."""
        self._count()
        return dict(sorted(self._seconds.items(), key=lambda item: -item[1]))

    def _count(self) -> None:
        now = self._clock()
        what = self._doing[-1] if self._doing else "other"
        self._seconds[what] = self._seconds.get(what, 0.0) + now - self._since
        self._since = now


PROCESS = Stopwatch()  # of this process, from its import on
