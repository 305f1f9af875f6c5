"""Locks of files: held by one process, gone with it; and what is said where one cannot be had."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
import threading
import time

import pytest

from spquant_search.runs.locks import LockHeld, locked, locked_for_a_while

HOLD = """
import sys
from pathlib import Path
from spquant_search.runs.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of a file."""
    words = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    started = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.stdout.readline() == b"held\n"
    yield started
    started.kill()
    started.communicate()


def failing_with(monkeypatch, number: int) -> None:
    def flock(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)


def test_a_lock_goes_with_the_process_that_holds_it_and_names_it(tmp_path, holder):
    path = tmp_path / "lock"
    with pytest.raises(LockHeld) as caught, locked(path):
        pass
    assert caught.value.holder == f"process {holder.pid} on {platform.node()}"
    assert str(caught.value) == f"{path}: is held by process {holder.pid} on {platform.node()}"
    holder.kill()
    holder.wait()
    with locked(path) as is_held:
        assert is_held
        assert path.read_text() == f"{platform.node()} {os.getpid()}\n"
    assert path.exists()


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="asks /proc for the state of a process")
def test_of_a_process_that_is_stopped_the_remedy_is_said(tmp_path, holder):
    holder.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED)
    words = rf"which is stopped \(kill -CONT {holder.pid} lets it go on\)"
    with pytest.raises(LockHeld, match=words), locked(tmp_path / "lock", seconds=0.05):
        pass
    holder.send_signal(signal.SIGCONT)


def test_a_lock_is_waited_for_so_long_and_no_longer(tmp_path):
    path, began = tmp_path / "lock", time.monotonic()
    with locked(path), pytest.raises(LockHeld), locked(path, seconds=0.2):
        pass
    assert 0.2 <= time.monotonic() - began < 10
    first = locked(path)
    first.__enter__()
    threading.Timer(0.1, lambda: first.__exit__(None, None, None)).start()
    with locked(path, seconds=30) as is_held:
        assert is_held


def test_shared_locks_exclude_only_others_and_all_are_named(tmp_path):
    path = tmp_path / "lock"
    program = HOLD.replace("(Path(sys.argv[1]))", "(Path(sys.argv[1]), shared=True)")
    words = [sys.executable, "-c", program, str(path)]
    another = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert another.stdout.readline() == b"held\n"
        with locked(path, shared=True), pytest.raises(LockHeld) as caught, locked(path):
            pass
        assert caught.value.holder == " and ".join(
            f"process {process} on {platform.node()}" for process in (another.pid, os.getpid())
        )
    finally:
        another.kill()
        another.communicate()
    with locked(path, shared=True), pytest.raises(LockHeld) as caught, locked(path):
        pass
    assert str(another.pid) not in caught.value.holder.split(), "it is gone"
    with locked(path):
        pass


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"no number\n", b"12\n"])
def test_a_holder_whose_file_says_nothing_is_said_to_be_unknown(tmp_path, content):
    path = tmp_path / "lock"
    with locked(path):
        path.write_bytes(content)
        with pytest.raises(LockHeld) as caught, locked(path):
            pass
    assert caught.value.holder in ("a process that its file does not name", "process 12 on ")


def test_a_lock_for_a_while_leaves_no_file(tmp_path):
    path = tmp_path / "lock"
    with locked_for_a_while(path, seconds=0), pytest.raises(LockHeld), locked(path):
        pass
    with locked_for_a_while(path, seconds=0), pytest.raises(LockHeld), locked_for_a_while(path, seconds=0.05):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_no_other_process(tmp_path, monkeypatch, number):
    failing_with(monkeypatch, number)
    for lock in (locked(tmp_path / "lock"), locked_for_a_while(tmp_path / "other", seconds=9)):
        with lock as is_held:
            assert not is_held


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EACCES])
def test_what_the_systems_call_held_is_held(tmp_path, monkeypatch, number):
    failing_with(monkeypatch, number)
    with pytest.raises(LockHeld), locked(tmp_path / "lock"):
        pass


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EBADF])
def test_any_other_trouble_is_neither(tmp_path, monkeypatch, number):
    failing_with(monkeypatch, number)
    before = len(os.listdir("/proc/self/fd"))
    for lock in (locked(tmp_path / "lock"), locked_for_a_while(tmp_path / "other", seconds=9)):
        with pytest.raises(OSError, match=os.strerror(number)), lock:
            pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_lock_in_a_folder_that_is_missing_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "gone" / "lock"):
        pass
