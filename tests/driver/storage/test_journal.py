"""The journal in a run's folder: torn lines, locks, and what is on disk when."""

from __future__ import annotations

import json
import os

import optuna
from driver.study_examples import SHAPES, a_space, proposals

from spquant_search.driver.storage.journal import Journal
from spquant_search.driver.study import Study


def test_a_torn_last_line_is_dropped(tmp_path):
    journal = tmp_path / "study.journal"
    whole = proposals(tmp_path / "whole.journal", a_space(), 8)
    done = proposals(journal, a_space(), 5)
    content = journal.read_bytes()
    journal.write_bytes(content + b'{"op_code": 8, "worker_id": "x", "trial_id')
    Journal(journal)
    assert journal.read_bytes() == content
    assert done + proposals(journal, a_space(), 3) == whole


def test_an_untorn_journal_is_left_alone(tmp_path):
    journal = tmp_path / "study.journal"
    proposals(journal, a_space(), 2)
    content = journal.read_bytes()
    Journal(journal)
    assert journal.read_bytes() == content
    Journal(tmp_path / "none.journal")
    for line in content.splitlines():
        json.loads(line)


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
    with storage.decision_lock(), storage.decision_lock():
        study.ask()
        assert synced == []
    assert len(synced) == 1
    study.report(study.ask(), epoch=1, accuracy=0.5)
    assert len(synced) > 1, "outside of decisions every line is on disk at once"
    for line in (tmp_path / "study.journal").read_text().splitlines():
        json.loads(line)
