"""The page of a running search, written again from time to time."""

from __future__ import annotations

import threading
import time

from spquant_search.errors import UserError
from spquant_search.report.run_summary import summarize_run
from spquant_search.report.search_progress import Clock
from spquant_search.report.writing import PAGE, write_run_page
from spquant_search.runs.events import SearchPlan, Watcher
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.results import EpochMetrics, TrialResult
from spquant_search.runs.work import Part

PAUSE_SECONDS = 30.0  # at least, between two pages
# Of the coordinator's time, which must not wait for a page: a page that takes a second is written every 20.
SHARE = 0.05


class LivePage:
    """Another watcher, and beside it a page of the run, which a thread of its own writes after trials that end.

    A page that cannot be written is one note, whatever the reason: the search goes on, and its end writes the page.
    """

    def __init__(self, shown: Watcher, folder: RunFolder, *, clock: Clock = time.monotonic) -> None:
        self._shown = shown
        self._folder = folder
        self._clock = clock
        self._next = clock() + PAUSE_SECONDS
        self._thread: threading.Thread | None = None
        self._note = ""  # of a page that failed, to be told by the thread that everything else is told by
        self._is_told = False

    def plan(self, plan: SearchPlan) -> None:
        self._shown.plan(plan)

    def stage(self, text: str, done: int = 0, total: int = 0, *, part: Part | None = None) -> None:
        self._shown.stage(text, done, total, part=part)
        if part is not None:
            self._refresh()

    def started(self, task: TrialResult, epochs: int) -> None:
        self._shown.started(task, epochs)

    def epoch(self, number: int, metrics: EpochMetrics) -> None:
        self._shown.epoch(number, metrics)

    def finished(self, result: TrialResult) -> None:
        self._shown.finished(result)
        self._refresh()

    def warning(self, text: str) -> None:
        self._shown.warning(text)

    def close(self) -> None:
        """Wait for the page that is being written, so that none is written over a later one."""
        if self._thread is not None:
            self._thread.join()
        self._tell()
        self._shown.close()

    def _refresh(self) -> None:
        self._tell()
        is_busy = self._thread is not None and self._thread.is_alive()
        if is_busy or self._clock() < self._next:
            return
        # A daemon: a program that ends for another reason does not wait for a page.
        self._thread = threading.Thread(target=self._write, name="report.html", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        begun = self._clock()
        try:
            write_run_page(self._folder, summarize_run(self._folder), is_running=True)
        except UserError:  # no baseline yet; what else it may be is told at the search's end
            pass
        except Exception as error:
            self._note = f"{PAGE} could not be written while the search works: {type(error).__name__}: {error}"
        self._next = self._clock() + max(PAUSE_SECONDS, (self._clock() - begun) / SHARE)

    def _tell(self) -> None:
        if self._note and not self._is_told:
            self._is_told = True
            self._shown.warning(self._note)
