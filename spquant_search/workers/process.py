"""Trainers as processes: how one begins and ends, and how the coordinator speaks with it."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from spquant_search.processes import (
    end_with_parent,
    keep_compiled_code,
    limit_compilers,
    main_left_out,
    show_gpu,
    tune_allocator,
)
from spquant_search.profile import PROCESS
from spquant_search.workers.connection import TrainerConnection
from spquant_search.workers.messages import Failed, Message, TrainerConfig

SECONDS_TO_END = 10.0
SECONDS_TO_BEGIN = 2.0  # a new trainer without a task for so long compiles ahead


class TrainerProcess:
    """A trainer that is a process of its own: a :class:`spquant_search.workers.trainer.Trainer`."""

    def __init__(self, config: TrainerConfig) -> None:
        self._config = config
        self.task: Any = None
        self.begun_again = False  # the task was given to a second process after the first one died
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        # Daemon: a coordinator that ends takes its trainers with it.
        self._process: BaseProcess = context.Process(target=run_trainer, args=(theirs, self._config), daemon=True)
        with main_left_out():
            self._process.start()
        theirs.close()

    def restart(self) -> None:
        """Replace a process that died or hangs by a new one without a task."""
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
        """Send a task to the process."""
        self.task, self.begun_again = task, False
        self._send(task)

    def answer(self, stop_because: str | None) -> None:
        """Answer an :class:`Epoch`: None to go on, otherwise why to stop."""
        self._send(stop_because)

    def _send(self, value: Any) -> None:
        # The next message of a dead process says that it died.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(value)

    def receive(self) -> Message:
        """Return the next message; that of a dead process says that it died."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):  # OSError: the process died in the middle of a message
            self._process.join(SECONDS_TO_END)
            return Failed(reason=f"the trainer process ended with exit code {self._process.exitcode}", died=True)
        return message

    def close(self) -> None:
        """End the process: by its own will if it is idle, at once if it works."""
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


class TrainerProcesses:
    """The trainers of a pool as processes: a :class:`spquant_search.workers.trainer.TrainerSource`."""

    def make_trainer(self, config: TrainerConfig) -> TrainerProcess:
        """Start a process."""
        return TrainerProcess(config)

    def wait(self, trainers: Sequence[TrainerProcess], *, timeout: float | None) -> list[TrainerProcess]:
        """Return those trainers that have a message, after at most ``timeout`` seconds; None: once there is one."""
        readable = wait([trainer.connection for trainer in trainers], timeout)
        return [trainer for trainer in trainers if trainer.connection in readable]


def run_trainer(connection: Connection, config: TrainerConfig) -> None:
    """Be a trainer: set up the process, load the data once, then serve tasks until told to end or left alone."""
    if config.gpus:
        show_gpu(config.gpus[0].visible_as)
    if config.compilers is not None:
        limit_compilers(config.compilers)
    # Ctrl-C reaches the whole process group; only the coordinator decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ours = TrainerConnection(connection)
    # The coordinator shows warnings once; printed here they would run across its display.
    warnings.showwarning = lambda message, *_others, **_more: ours.warn(str(message))
    threading.Thread(target=end_with_parent, daemon=True).start()
    tune_allocator()
    keep_compiled_code(config.cache)
    with PROCESS.on("waiting"):
        is_needed = ours.poll(SECONDS_TO_BEGIN)
    try:
        with PROCESS.on("loading"):  # torch is imported in the trainers' processes alone
            from spquant_search.workers.serving import serve
        serve(ours, config, is_needed=is_needed)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the coordinator is gone, and nobody is left to work for
