"""A trainer process: as the coordinator sees it, and how it begins and ends."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import warnings
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from spquant_search.processes import end_with_parent, keep_compiled_code, tune_allocator
from spquant_search.profile import PROCESS
from spquant_search.workers.messages import Failed, Message, TrainerConfig, TrainerWarning

SECONDS_TO_END = 10.0
SECONDS_TO_BEGIN = 2.0  # without a task after that, a new trainer makes itself useful


class Trainer:
    """A trainer process as the coordinator sees it."""

    def __init__(self, setup: TrainerConfig) -> None:
        self._setup = setup
        self.task: Any = None
        self.begun_again = False  # the task was given to a second process after the first one died
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        # Daemon: a coordinator that ends takes its trainers with it.
        self._process: BaseProcess = context.Process(target=live, args=(theirs, self._setup), daemon=True)
        self._process.start()
        theirs.close()

    def restart(self) -> None:
        """A new process in place of one that died or hangs, without a task."""
        self.close()
        self.task = None
        self._start()

    def begin_again(self) -> None:
        """Give the task of a process that died to a new one."""
        task = self.task
        self.restart()
        self.give(task)
        self.begun_again = True

    def give(self, task: Any) -> None:
        self.task, self.begun_again = task, False
        self._send(task)

    def answer(self, stop_because: str | None) -> None:
        """Answer an :class:`Epoch`: None to go on, otherwise why to stop."""
        self._send(stop_because)

    def _send(self, words: Any) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # of a dead trainer the next message says that it died
            self.connection.send(words)

    def receive(self) -> Message:
        """The next message; a dead trainer's is that it died."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):  # OSError: it died amid a message
            self._process.join(SECONDS_TO_END)
            return Failed(reason=f"the trainer process ended with exit code {self._process.exitcode}", died=True)
        return message

    def close(self) -> None:
        """End the process: politely if it is idle, at once if it works."""
        if self.task is None:
            try:
                self.connection.send(None)
                self._process.join(SECONDS_TO_END)
            except (BrokenPipeError, OSError):
                pass
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(SECONDS_TO_END)
        if self._process.is_alive():  # pragma: no cover - a process that ignores SIGTERM
            self._process.kill()
        self.connection.close()


def ready(trainers: list[Trainer], *, timeout: float | None) -> list[Trainer]:
    """The trainers that have something to say, after waiting for the first of them."""
    said = wait([trainer.connection for trainer in trainers], timeout)
    return [trainer for trainer in trainers if trainer.connection in said]


def live(connection: Connection, setup: TrainerConfig) -> None:
    """A trainer's life: settle the process, load the data once, then serve until told to end or left alone."""
    # Ctrl-C reaches the whole process group; only the coordinator decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # To the coordinator, which shows them once, instead of across its display.
    warnings.showwarning = lambda message, *_others, **_more: connection.send(TrainerWarning(text=str(message)))
    threading.Thread(target=end_with_parent, daemon=True).start()
    tune_allocator()
    keep_compiled_code(setup.cache)
    with PROCESS.on("waiting"):
        is_needed = connection.poll(SECONDS_TO_BEGIN)
    try:
        with PROCESS.on("loading"):  # torch, which is imported in the trainers' processes alone
            from spquant_search.workers.serving import serve
        serve(connection, setup, is_needed=is_needed)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the coordinator is gone, and nobody is left to work for
