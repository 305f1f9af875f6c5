"""A study in a run's folder, on which one coordinator works.

Several coordinators work on a study in :mod:`spquant_search.driver.storage.postgres`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial

from spquant_search.driver.storage.protocol import Result
from spquant_search.errors import UserError
from spquant_search.runs.locks import LockHeld, locked

STUDY_NAME = "search"  # of a study in its run's folder
SECONDS_TO_APPEND = 60.0  # at most, until another process has written its lines
_BLOCK_BYTES = 1 << 12


class _File(BaseJournalBackend):
    """A journal as Optuna writes it, synchronised to disk at the end of a decision: a trial has dozens of lines.

    It remembers where the last read line ended, but not where every line begins: a long search has a million lines.
    """

    def __init__(self, journal: Path, *, alone: bool) -> None:
        self._journal, self._lock_file, self._alone = journal, journal.with_suffix(".lock"), alone
        self._lines, self._bytes = 0, 0  # read so far
        self.gathers = False  # whether lines are synchronised to disk later, all at once

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the lines from that number on; a line that is being written is left for the next time."""
        if log_number_from < self._lines:
            self._lines, self._bytes = 0, 0
        if not self._journal.exists():  # nothing was written yet
            return
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
        """Append lines, in place of a last one that a killed process has left half-written.

        Raises:
            UserError: another process holds the journal's lock for a minute, or the file system has no locks and
                somebody else may be writing the last line.
        """
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        try:
            with locked(self._lock_file, seconds=SECONDS_TO_APPEND) as is_held, self._journal.open("ab+") as file:
                _drop_torn_line(file, may_repair=is_held or self._alone)
                file.write(lines.encode("utf-8"))
        except LockHeld as error:
            raise UserError(
                f"{self._journal}: {error.holder} has held its lock for {SECONDS_TO_APPEND:g} seconds; end that "
                "process, or let it go on, and start the same command again: nothing finished is lost"
            ) from None
        if not self.gathers:
            self.sync()

    def sync(self) -> None:
        with self._journal.open("ab") as file:
            os.fsync(file.fileno())


class Journal:
    """The storage in a run's folder; its one coordinator holds the folder's lock."""

    is_shared = False
    study_name = STUDY_NAME

    def __init__(self, journal: Path, *, alone: bool = False) -> None:
        """Open the journal; ``alone``: as its coordinator, beside whom nobody writes without locks either.

        Reading changes nothing in it: what looks like a line that a killed process has left half-written may be one
        that a living process is writing.
        """
        self._file = _File(journal, alone=alone)
        self.optuna: BaseStorage = JournalStorage(self._file)
        self._mine: set[int] = set()

    def decide(self, body: Callable[[], Result]) -> Result:
        outermost, self._file.gathers = not self._file.gathers, True
        try:
            return body()
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


def _drop_torn_line(file: BinaryIO, *, may_repair: bool) -> None:
    """Cut off what follows the last whole line; only where nobody can be writing it.

    Raises:
        UserError: somebody may be.
    """
    size = file.seek(0, os.SEEK_END)
    end, block = size, b""
    while end > 0 and b"\n" not in block:
        begin = max(0, end - _BLOCK_BYTES)
        file.seek(begin)
        block = file.read(end - begin)
        end = begin + block.rfind(b"\n") + 1
    if end == size:
        return
    if not may_repair:
        raise UserError(
            f"{file.name}: its last line is half-written, and this file system has no locks to tell whether somebody "
            "is writing it; start the search again, which repairs it"
        )
    os.ftruncate(file.fileno(), end)
