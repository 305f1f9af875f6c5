"""The journal in a run's folder: torn lines, locks, and what is on disk when."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from driver.study_examples import SHAPES, a_space, proposals

from spquant_search.driver.storage import journal as journal_module
from spquant_search.driver.storage.journal import Journal
from spquant_search.driver.study import Study, study_in
from spquant_search.errors import UserError
from spquant_search.runs.locks import locked

TORN = b'{"op_code": 8, "worker_id": "x", "trial_id'


@pytest.mark.parametrize("torn", [TORN, TORN[:1], TORN * 300, bytes(9000)])
def test_a_torn_last_line_is_dropped_by_the_next_that_writes(tmp_path, torn):
    journal = tmp_path / "study.journal"
    whole = proposals(tmp_path / "whole.journal", a_space(), 8)
    done = proposals(journal, a_space(), 5)
    content = journal.read_bytes()
    journal.write_bytes(content + torn)
    assert done + proposals(journal, a_space(), 3) == whole
    assert journal.read_bytes().startswith(content)
    for line in journal.read_bytes().splitlines():
        json.loads(line)


def test_reading_changes_nothing_in_a_journal(tmp_path):
    """What looks like a line that a killed process left half-written may be one that a living process is writing."""
    journal = tmp_path / "study.journal"
    proposals(journal, a_space(), 2)
    torn = journal.read_bytes() + TORN
    journal.write_bytes(torn)
    assert len(study_in(Journal(journal)).trials) == 2
    assert journal.read_bytes() == torn
    with pytest.raises(KeyError):
        study_in(Journal(tmp_path / "none.journal"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("none")] == []


def test_who_writes_beside_a_search_waits_for_the_end_of_its_line(tmp_path):
    """A search is in the middle of an append, whose first half the other sees: that is neither cut off nor run into."""
    journal = tmp_path / "study.journal"
    proposals(journal, a_space(), 2)
    content, line = journal.read_bytes(), b'{"op_code":8,"worker_id":"x"}\n'
    both = threading.Event()

    def appends_slowly() -> None:
        with locked(journal.with_suffix(".lock")), journal.open("ab", buffering=0) as file:
            file.write(line[:12])
            both.set()
            time.sleep(0.3)
            assert journal.read_bytes() == content + line[:12], "while it writes, nobody else does"
            file.write(line[12:])

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(appends_slowly)
        assert both.wait(10)
        dashboard = Journal(journal)
        dashboard.optuna._backend.append_logs([{"op_code": 9, "worker_id": "dashboard"}])
        slow.result()
    assert journal.read_bytes() == content + line + b'{"op_code":9,"worker_id":"dashboard"}\n'


def test_a_process_that_keeps_the_journals_lock_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "SECONDS_TO_APPEND", 0.1)
    journal = tmp_path / "study.journal"
    proposals(journal, a_space(), 1)
    with locked(journal.with_suffix(".lock")), pytest.raises(UserError) as caught:
        proposals(journal, a_space(), 1)
    assert str(caught.value).startswith(
        f"{journal}: process {os.getpid()} on {platform.node()} has held its lock for 0.1 seconds; end that process"
    )
    proposals(journal, a_space(), 1)


def test_without_locks_only_the_coordinator_repairs(tmp_path, monkeypatch):
    def flock(*_arguments: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    journal = tmp_path / "study.journal"
    proposals(journal, a_space(), 1)
    content = journal.read_bytes()
    journal.write_bytes(content + TORN)
    line = [{"op_code": 9, "worker_id": "x"}]
    with pytest.raises(UserError, match="its last line is half-written"):
        Journal(journal).optuna._backend.append_logs(line)
    assert journal.read_bytes() == content + TORN
    Journal(journal, alone=True).optuna._backend.append_logs(line)
    assert journal.read_bytes() == content + b'{"op_code":9,"worker_id":"x"}\n'


def test_a_lock_left_by_a_killed_process_delays_nothing(tmp_path):
    """Optuna's own file lock would wait 30 s for a file that a dead process left."""
    journal = tmp_path / "study.journal"
    proposals(journal, a_space(), 1)
    assert journal.with_suffix(".lock").exists()
    proposals(journal, a_space(), 1)


def test_a_journal_is_read_as_optuna_reads_it_and_on_from_where_it_was_read(tmp_path):
    file = tmp_path / "study.journal"
    proposals(file, a_space(), 3)
    own, optunas = Journal(file), optuna.storages.journal.JournalFileBackend(str(file))
    read = list(own.optuna._backend.read_logs(0))
    assert read == list(optunas.read_logs(0))
    content = file.read_bytes()
    file.write_bytes(content + b'{"op_code": 8, "wor')  # another process is in the middle of a line
    assert list(own.optuna._backend.read_logs(len(read))) == []
    file.write_bytes(content + b'{"op_code": 8, "worker_id": "x"}\n')
    assert list(own.optuna._backend.read_logs(len(read))) == [{"op_code": 8, "worker_id": "x"}]
    assert list(own.optuna._backend.read_logs(2)) == [*read[2:], {"op_code": 8, "worker_id": "x"}]


def test_a_decision_is_on_disk_once_it_is_made(tmp_path, monkeypatch):
    """Not after every line of it; and whoever reads the journal meanwhile sees whole lines."""
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    storage = Journal(tmp_path / "study.journal")
    study = Study(storage, a_space(), SHAPES, chance=0.1)
    synced.clear()

    def decides() -> None:
        storage.decide(study.ask)
        assert synced == []

    storage.decide(decides)
    assert len(synced) == 1
    study.report(study.ask(), epoch=1, accuracy=0.5)
    assert len(synced) > 1, "outside of decisions every line is on disk at once"
    for line in (tmp_path / "study.journal").read_text().splitlines():
        json.loads(line)
