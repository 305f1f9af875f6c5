"""Serve one task after the other in a trainer's process, with data and teacher loaded once."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from spquant_search.errors import UserError
from spquant_search.profile import PROCESS
from spquant_search.runs.results import EpochMetrics
from spquant_search.training.compilation import compile_ahead
from spquant_search.training.data_set import input_shape, load_data, split_on_device
from spquant_search.training.distillation import FloatTeacher
from spquant_search.training.loader import LoadedSplit
from spquant_search.training.tasks import AccuraciesTask, SubnetTask, SupernetTask, Task, TestTask
from spquant_search.training.trial import float_teacher, run_accuracies, run_subnet, run_supernet, run_test, run_trial
from spquant_search.workers.messages import (
    Accuracies,
    Epoch,
    Failed,
    Message,
    SupernetProgress,
    SupernetTrained,
    Tested,
    Trained,
    TrainerConfig,
)


def serve(connection: Connection, setup: TrainerConfig, *, is_needed: bool) -> None:
    """Do one task after the other until told to end; without ``is_needed``, compile ahead of the first one."""
    server = None if is_needed else prepare_ahead(connection, setup)
    while (task := wait_for(connection)) is not None:
        try:
            if server is None:
                with PROCESS.on("loading"):
                    server = Server(connection, setup)
            connection.send(server.do(task))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except UserError as error:
            connection.send(Failed(reason=str(error)))
        except Exception as error:
            last = f"{type(error).__name__}: {error}".splitlines()[0]
            connection.send(Failed(reason=last, detail=traceback.format_exc()))


def prepare_ahead(connection: Connection, setup: TrainerConfig) -> Server | None:
    """Load everything while there is nothing to do, and compile until there is; None where something went wrong."""
    try:
        with PROCESS.on("loading"):
            server = Server(connection, setup)
        with PROCESS.on("compilation"):
            for _piece in compile_ahead(setup.space, training=server.training, shape=server.shape):
                if connection.poll():
                    break
    except Exception:  # whatever it is, the first task meets it again, and can say so
        return None
    return server


def wait_for(connection: Connection) -> Any:
    """The coordinator's next word."""
    with PROCESS.on("waiting"):
        return connection.recv()


class Server:
    """Everything that a trainer loads once, and what it does with it for each kind of task."""

    training: LoadedSplit

    def __init__(self, connection: Connection, setup: TrainerConfig) -> None:
        torch.set_num_threads(1)
        self._connection, self._space = connection, setup.space
        self._device = torch.device(setup.device)
        self._data = load_data(setup.space.file, cache=setup.cache)
        self.shape = input_shape(self._data)
        self._sharers = setup.space.file.search.workers
        self.training = split_on_device(self._data, "train", self._device, sharers=self._sharers)
        validation = split_on_device(self._data, "validation", self._device, sharers=self._sharers)
        self._splits: dict[str, Any] = {"training": self.training, "validation": validation, "shape": self.shape}
        self._teacher = cache(self._load_teacher)  # one for all trials of this process
        self._ways: dict[type, Callable[[Any], Message]] = {
            TestTask: self._test,
            SupernetTask: self._share,
            SubnetTask: self._read_out,
            AccuraciesTask: self._read,
            Task: self._train,
        }

    def do(self, task: Any) -> Message:
        """Do a task and return what came of it."""
        return self._ways[type(task)](task)

    def _test(self, task: TestTask) -> Message:
        with PROCESS.on("loading"):
            split = split_on_device(self._data, "test", self._device, sharers=self._sharers)
        accuracy = run_test(task, self._space.file, shape=self.shape, split=split)
        return Tested(number=task.number, accuracy=accuracy, seconds=PROCESS.seconds())

    def _share(self, task: SupernetTask) -> Message:
        for epoch in run_supernet(task, self._space, training=self.training, shape=self.shape):
            self._connection.send(SupernetProgress(epoch=epoch.epoch, seconds=epoch.seconds))
        return SupernetTrained(seconds=PROCESS.seconds())

    def _read_out(self, task: SubnetTask) -> Message:
        return Trained(result=run_subnet(task, self._space.file, **self._splits), seconds=PROCESS.seconds())

    def _read(self, task: AccuraciesTask) -> Message:
        return Accuracies(accuracies=run_accuracies(task, self._space.file, **self._splits), seconds=PROCESS.seconds())

    def _train(self, task: Task) -> Message:
        teacher = None if task.teacher_weights is None else self._teacher(task.teacher_weights)
        result = run_trial(task, self._space.file, **self._splits, stop_reason=self._stop_reason, step_hook=teacher)
        return Trained(result=result, seconds=PROCESS.seconds())

    def _stop_reason(self, metrics: EpochMetrics) -> str | None:
        self._connection.send(Epoch(metrics=metrics))
        answer: str | None = wait_for(self._connection)
        return answer

    def _load_teacher(self, weights: Path) -> FloatTeacher:
        return float_teacher(weights, self._space, training=self.training, shape=self.shape)
