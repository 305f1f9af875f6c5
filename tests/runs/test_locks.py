"""Locks of files: held by one process, gone with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from spquant_search.runs.locks import LockError, locked, locked_for_a_while

HOLD = """
import sys
from pathlib import Path
from spquant_search.runs.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_goes_with_the_process_that_holds_it(tmp_path):
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockError), locked(path, waits=False):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with locked(path, waits=False):
        pass
    assert path.exists()


def test_shared_locks_exclude_only_others(tmp_path):
    path = tmp_path / "lock"
    refused = pytest.raises(LockError)
    with locked(path, shared=True), locked(path, shared=True, waits=False), refused, locked(path, waits=False):
        pass
    with locked(path, waits=False):
        pass


def test_a_lock_for_a_while_leaves_no_file(tmp_path):
    path = tmp_path / "lock"
    with locked_for_a_while(path), pytest.raises(LockError), locked(path, waits=False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_where_a_file_system_has_no_locks_nothing_is_held_for_a_while(tmp_path, monkeypatch):
    def unsupported(*_arguments: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with locked_for_a_while(tmp_path / "lock"):
        pass
    with pytest.raises(LockError, match="not supported"), locked(tmp_path / "lock"):
        pass


def test_a_lock_in_a_folder_that_is_missing_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "gone" / "lock"):
        pass
