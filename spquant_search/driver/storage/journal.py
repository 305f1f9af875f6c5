"""A study in a run's folder, on which one coordinator works.

Several coordinators work on a study in :mod:`spquant_search.driver.storage.postgres`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial

from spquant_search.runs.locks import locked

STUDY_NAME = "search"  # of a study in its run's folder


class _File(BaseJournalBackend):
    """A journal as Optuna writes it, synchronised to disk at the end of a decision: a trial has dozens of lines.

    It remembers where the last read line ended, but not where every line begins: a long search has a million lines.
    """

    def __init__(self, journal: Path) -> None:
        self._journal, self._lock_file = journal, journal.with_suffix(".lock")
        journal.touch()
        self._lines, self._bytes = 0, 0  # read so far
        self.gathers = False  # whether lines are synchronised to disk later, all at once

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the lines from that number on; a line that is being written is left for the next time."""
        if log_number_from < self._lines:
            self._lines, self._bytes = 0, 0
        with self._journal.open("rb") as file:
            file.seek(self._bytes)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                number = self._lines
                self._lines, self._bytes = number + 1, self._bytes + len(line)
                if number >= log_number_from:
                    yield json.loads(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with locked(self._lock_file), self._journal.open("ab") as file:
            file.write(lines.encode("utf-8"))
        if not self.gathers:
            self.sync()

    def sync(self) -> None:
        with self._journal.open("ab") as file:
            os.fsync(file.fileno())


class Journal:
    """The storage in a run's folder; its one coordinator holds the folder's lock."""

    is_shared = False
    study_name = STUDY_NAME

    def __init__(self, journal: Path) -> None:
        """Open the journal, and cut off a last line that a killed process left half-written."""
        _drop_torn_line(journal)
        self._file = _File(journal)
        self.optuna: BaseStorage = JournalStorage(self._file)
        self._mine: set[int] = set()

    @contextmanager
    def decision_lock(self) -> Iterator[None]:
        outermost, self._file.gathers = not self._file.gathers, True
        try:
            yield
        finally:
            if outermost:
                self._file.gathers = False
                self._file.sync()

    @contextmanager
    def exclusive_stage(self, what: str, *, is_done: Callable[[], bool], waiting: Callable[[], None]) -> Iterator[bool]:
        del what, waiting
        yield not is_done()

    def claim(self, trial_id: int) -> None:
        self._mine.add(trial_id)

    def is_mine(self, trial: FrozenTrial) -> bool:
        del trial
        return True

    def release(self, trial_id: int) -> None:
        self._mine.discard(trial_id)

    def is_abandoned(self, trial: FrozenTrial) -> bool:
        return trial._trial_id not in self._mine

    def close(self) -> None:
        """Do nothing: no file is open between two calls."""


def _drop_torn_line(journal: Path) -> None:
    if not journal.is_file():
        return
    content = journal.read_bytes()
    complete = content.rfind(b"\n") + 1
    if complete < len(content):
        os.truncate(journal, complete)
