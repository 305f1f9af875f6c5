"""Trainer processes: they train and test, stream their epochs, and are told to go on or to stop. No Optuna here."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spquant_search.errors import UserError
from spquant_search.profile import PROCESS
from spquant_search.runs.results import EpochMetrics, TrialResult
from spquant_search.runtime import keep_compiled_code, tune_allocator
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.search_space import SearchSpace

if TYPE_CHECKING:  # torch is imported in the trainers' processes alone
    from spquant_search.batches import Samples
    from spquant_search.space.shapes import InputShape

SECONDS_TO_END = 10.0
SECONDS_TO_BEGIN = 2.0  # without a task after that, a new trainer makes itself useful


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What every trainer of a search needs to know once."""

    space: SearchSpace
    device: str
    cache: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class TestTask:
    """A trained configuration to be measured on the test split."""

    __test__ = False  # not a test case, whatever pytest makes of the name
    number: int
    config: NetworkConfig
    weights: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """A trainer finished an epoch and waits for the answer."""

    metrics: EpochMetrics


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A trial ended; ``seconds`` is where the trainer's went until now."""

    result: TrialResult
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tested:
    """A configuration's accuracy on the test split; ``seconds`` as in :class:`Trained`."""

    number: int
    accuracy: float
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a :class:`spquant_search.trial.ReadingTask` asked for; ``seconds`` as in :class:`Trained`."""

    accuracies: tuple[float, ...]
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """The shared network finished an epoch; at the last one its weights are about to be written."""

    epoch: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedTrained:
    """The shared network's weights are written."""

    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """A task raised an error (with its traceback), or its trainer died."""

    reason: str
    detail: str = ""
    died: bool = False
    late: bool = False  # it was over its limit of time


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """Something that people should know, such as neurons that could not be compiled; the task goes on."""

    text: str


Message = Epoch | Trained | Tested | Reading | Shared | SharedTrained | Failed | Note
Handler = Callable[[Any], Message]


class Trainer:
    """A trainer process as the coordinator sees it."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.task: Any = None
        self.begun_again = False  # the task was given to a second process after the first one died
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        # Daemon: a coordinator that ends takes its trainers with it.
        self._process: BaseProcess = context.Process(target=_serve, args=(theirs, self._setup), daemon=True)
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


# ---------------------------------------------------------------- in the trainer's process


def _serve(connection: Connection, setup: Setup) -> None:
    """A trainer's life: load the data once, then one task after the other until told to end or left alone."""
    # Ctrl-C reaches the whole process group; only the coordinator decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # To the coordinator, which shows them once, instead of across its display.
    warnings.showwarning = lambda message, *_others, **_more: connection.send(Note(text=str(message)))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tune_allocator()
    keep_compiled_code(setup.cache)
    try:
        _work(connection, setup)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the coordinator is gone, and nobody is left to work for


def _end_with_parent() -> None:
    """End this process when the coordinator does, however it does: amid an epoch nobody looks at the connection."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(connection: Connection, setup: Setup) -> None:
    handle: Handler | None = None
    with PROCESS.on("waiting"):
        is_needed = connection.poll(SECONDS_TO_BEGIN)
    if not is_needed:
        handle = _prepare(connection, setup)
    while (task := _wait(connection)) is not None:
        try:
            if handle is None:
                with PROCESS.on("loading"):
                    handle, *_data = _handler(connection, setup)
            connection.send(handle(task))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except UserError as error:
            connection.send(Failed(reason=str(error)))
        except Exception as error:
            last = f"{type(error).__name__}: {error}".splitlines()[0]
            connection.send(Failed(reason=last, detail=traceback.format_exc()))


def _prepare(connection: Connection, setup: Setup) -> Handler | None:
    """Load everything while there is nothing to do, and compile until there is; None: something went wrong."""
    from spquant_search import trial

    try:
        with PROCESS.on("loading"):
            handle, training, shape = _handler(connection, setup)
        with PROCESS.on("compilation"):
            for _piece in trial.compile_ahead(setup.space, training=training, shape=shape):
                if connection.poll():
                    break
    except Exception:  # whatever it is, the first task meets it again, and can say so
        return None
    return handle


def _wait(connection: Connection) -> Any:
    with PROCESS.on("waiting"):
        return connection.recv()


def _handler(connection: Connection, setup: Setup) -> tuple[Handler, Samples, InputShape]:
    """Everything that is loaded once: the function that does a task, training data, and what a network is fed with."""
    import torch

    from spquant_search import trial
    from spquant_search.prepare import load_data

    torch.set_num_threads(1)
    device = torch.device(setup.device)
    space = setup.space
    data = load_data(space.file, cache=setup.cache)
    shape = trial.input_shape(data)
    sharers = space.file.search.workers
    training = trial.on_device(data, "train", device, sharers=sharers)
    validation = trial.on_device(data, "validation", device, sharers=sharers)

    def stop_reason(metrics: EpochMetrics) -> str | None:
        connection.send(Epoch(metrics=metrics))
        answer: str | None = _wait(connection)
        return answer

    @cache  # one for all trials of this process
    def teacher(weights: Path) -> Any:
        return trial.float_teacher(weights, space, training=training, shape=shape)

    def test(task: TestTask) -> Message:
        with PROCESS.on("loading"):
            recordings = trial.on_device(data, "test", device, sharers=sharers)
        accuracy = trial.test(task.config, task.weights, space.file, shape=shape, recordings=recordings)
        return Tested(number=task.number, accuracy=accuracy, seconds=PROCESS.seconds())

    def share(task: trial.SharedTask) -> Message:
        for epoch in trial.run_shared(task, space, training=training, shape=shape):
            connection.send(Shared(epoch=epoch.epoch, seconds=epoch.seconds))
        return SharedTrained(seconds=PROCESS.seconds())

    splits: dict[str, Any] = {"training": training, "validation": validation, "shape": shape}

    def read_out(task: trial.ReadOutTask) -> Message:
        return Trained(result=trial.run_read_out(task, space.file, **splits), seconds=PROCESS.seconds())

    def read(task: trial.ReadingTask) -> Message:
        return Reading(accuracies=trial.run_reading(task, space.file, **splits), seconds=PROCESS.seconds())

    def train(task: trial.Task) -> Message:
        lesson = None if task.teacher_weights is None else teacher(task.teacher_weights)
        result = trial.run_trial(task, space.file, **splits, stop_reason=stop_reason, lesson=lesson)
        return Trained(result=result, seconds=PROCESS.seconds())

    ways: dict[type, Handler] = {
        TestTask: test,
        trial.SharedTask: share,
        trial.ReadOutTask: read_out,
        trial.ReadingTask: read,
        trial.Task: train,
    }

    def handle(task: Any) -> Message:
        return ways[type(task)](task)

    return handle, training, shape
