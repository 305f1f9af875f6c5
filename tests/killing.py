"""A process that is killed, or paused, at one of its operations on files, which are counted."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The interpreter tells of these before they are done. Of fsync and flock it does not: those are wrapped.
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate", "os.utime", "fcntl.flock")


def at_each_operation(act: Callable[[int], None], below: Path) -> None:
    """Call ``act`` with its number, from 1, before every operation on a file below a folder, from now on and for ever.

    Operations without a whole path are counted too: they are on files and in folders that are open.
    """
    count, inside = 0, False

    def happens() -> None:
        nonlocal count, inside
        if inside:
            return
        inside, count = True, count + 1
        try:
            act(count)
        finally:
            inside = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and is_meant(str(arguments[0])):
            happens()

    def is_meant(path: str) -> bool:
        return path.startswith(str(below)) or not path.startswith("/")

    def before(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            happens()
            return real(*arguments)

        return call

    sys.addaudithook(hook)
    os.fsync = before(os.fsync)  # type: ignore[assignment]


def killed_at(number: int, body: Callable[[], None], below: Path) -> bool:
    """Run ``body`` in a process that is killed before its ``number``-th operation; return whether it came so far."""
    child = os.fork()
    if child == 0:
        try:
            at_each_operation(lambda count: os.kill(os.getpid(), signal.SIGKILL) if count == number else None, below)
            body()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "it fails"
    return os.WIFSIGNALED(status)
