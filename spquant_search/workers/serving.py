"""The work of a trainer's process: one task after the other, with data and teacher loaded once."""

from __future__ import annotations

import re
import traceback
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import torch

from spquant_search.errors import UserError
from spquant_search.profile import PROCESS
from spquant_search.runs.results import EpochMetrics
from spquant_search.snn.kernels.device_errors import is_device_error, is_out_of_memory
from spquant_search.training.compilation import compile_ahead
from spquant_search.training.data_set import input_shape, load_data, split_on_device
from spquant_search.training.distillation import FloatTeacher
from spquant_search.training.loader import DeviceSplit, LoadedSplit, split_room
from spquant_search.training.shortage import Shortage
from spquant_search.training.tasks import AccuraciesTask, JudgeTask, SubnetTask, SupernetTask, Task, TestTask
from spquant_search.training.trial import (
    float_teacher,
    run_accuracies,
    run_judgement,
    run_subnet,
    run_supernet,
    run_test,
    run_trial,
)
from spquant_search.workers.connection import TrainerConnection
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

MEMORY_REMEDY = "take fewer trainers (--workers), a smaller train.batch_size or fewer time_steps"


def serve(connection: TrainerConnection, config: TrainerConfig, *, is_needed: bool) -> None:
    """Do one task after the other until told to end; without ``is_needed``, compile ahead of the first one."""
    server = None if is_needed else prepare_ahead(connection, config)

    def do(task: Any) -> Message:
        nonlocal server
        if server is None:
            with PROCESS.on("loading"):
                server = Server(connection, config)
        return server.do(task)

    while (task := receive(connection)) is not None:
        try:
            connection.send(done_in_memory(partial(do, task), config))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except UserError as error:
            connection.send(Failed(reason=str(error)))
        except Exception as error:
            connection.send(failure(error, config))


def prepare_ahead(connection: TrainerConnection, config: TrainerConfig) -> Server | None:
    """Load everything, then compile until there is a task; return None where something went wrong."""
    try:
        with PROCESS.on("loading"):
            server = Server(connection, config)
        with PROCESS.on("compilation"):
            for _kernel in compile_ahead(config.space, training=server.training, shape=server.shape):
                if connection.poll():
                    break
    except Exception:  # the first task meets the same error, and can report it
        return None
    return server


def done_in_memory(work: Callable[[], Message], config: TrainerConfig) -> Message:
    """Return what ``work`` does. Where memory runs out for the first time in this process, make room and do it again.

    A trial goes on from its latest checkpoint then, as it does in a process that takes the place of another.
    """
    try:
        return work()
    except Exception as error:
        if Shortage.met or not is_out_of_memory(error):
            raise
        said = f"{no_memory_words(error, config)}: what it was doing begins again, with half the batch of evaluation"
    Shortage.make_room()  # not in the handler of the error
    warnings.warn(said, stacklevel=2)
    return work()


def failure(error: Exception, config: TrainerConfig) -> Failed:
    """Say why a task failed. That there is not enough memory is no bug, and the process can go on."""
    if is_out_of_memory(error):
        return Failed(reason=f"{no_memory_words(error, config)}; {MEMORY_REMEDY}")
    first_line = f"{type(error).__name__}: {error}".splitlines()[0]
    if is_device_error(error) and config.gpus:
        first_line = f"{gpu_words(config)} failed: {first_line}"
    return Failed(reason=first_line, detail=traceback.format_exc())


def no_memory_words(error: BaseException, config: TrainerConfig) -> str:
    """Say whose memory ran out, and who shares it."""
    sharers = "which one trainer uses" if config.sharers == 1 else f"which {config.sharers} trainers share"
    asked = re.search(r"tried to allocate ([0-9.]+ [KMGT]iB)", str(error), re.IGNORECASE)
    needed = f" for another {asked[1]}" if asked else ""
    return f"{gpu_words(config)}, {sharers}, has no memory left{needed}"


def gpu_words(config: TrainerConfig) -> str:
    """Name a trainer's device as its user does."""
    if not config.gpus:
        return "this machine"
    return f"GPU {config.gpus[0].visible_as} ({config.gpus[0].name})"


def receive(connection: TrainerConnection) -> Any:
    """Wait for the coordinator's next task or answer, and return it."""
    with PROCESS.on("waiting"):
        return connection.recv()


class Server:
    """Everything that a trainer loads once, with a method for each kind of task."""

    training: LoadedSplit

    def __init__(self, connection: TrainerConnection, config: TrainerConfig) -> None:
        torch.set_num_threads(1)
        self._connection, self._space = connection, config.space
        self._device = torch.device(config.device)
        self._data = load_data(config.space.file, cache=config.cache, is_made=True)
        self.shape = input_shape(self._data)
        self._together = config.together
        self._room: int | None = None  # for further splits; None on a processor, which maps their files
        if self._device.type == "cuda":
            free = config.gpus[0].free_bytes if config.gpus else None
            self._room = split_room(self._device, free=free, sharers=config.sharers)
        self.training, validation = self._keep("train"), self._keep("validation")
        self._splits: dict[str, Any] = {"training": self.training, "validation": validation, "shape": self.shape}
        self._teacher = cache(self._load_teacher)  # one for all trials of this process
        self._methods: dict[type, Callable[[Any], Message]] = {
            Task: self._train,
            SubnetTask: self._evaluate_subnet,
            JudgeTask: self._judge,
            SupernetTask: self._train_supernet,
            AccuraciesTask: self._measure_accuracies,
            TestTask: self._test,
        }

    def _keep(self, name: Literal["train", "validation"]) -> LoadedSplit:
        """Place a split for as long as this trainer lives."""
        split = self._place(name)
        if self._room is not None and isinstance(split, DeviceSplit):
            self._room -= split.frames.nbytes
        return split

    def _place(self, name: Literal["train", "validation", "test"]) -> LoadedSplit:
        return split_on_device(self._data, name, self._device, room=self._room, together=self._together)

    def do(self, task: Any) -> Message:
        """Do a task and return its result."""
        return self._methods[type(task)](task)

    def _train(self, task: Task) -> Message:
        teacher = None if task.teacher_weights is None else self._teacher(task.teacher_weights)
        result = run_trial(task, self._space.file, **self._splits, stop_reason=self._stop_reason, step_hook=teacher)
        return Trained(result=result, seconds=PROCESS.seconds())

    def _evaluate_subnet(self, task: SubnetTask) -> Message:
        return Trained(result=run_subnet(task, self._space.file, **self._splits), seconds=PROCESS.seconds())

    def _judge(self, task: JudgeTask) -> Message:
        validation = self._splits["validation"]
        result = run_judgement(task, self._space.file, validation=validation, shape=self.shape)
        return Trained(result=result, seconds=PROCESS.seconds())

    def _train_supernet(self, task: SupernetTask) -> Message:
        for epoch in run_supernet(task, self._space, training=self.training, shape=self.shape):
            self._connection.send(SupernetProgress(epoch=epoch.epoch, seconds=epoch.seconds))
        return SupernetTrained(seconds=PROCESS.seconds())

    def _measure_accuracies(self, task: AccuraciesTask) -> Message:
        return Accuracies(accuracies=run_accuracies(task, self._space.file, **self._splits), seconds=PROCESS.seconds())

    def _test(self, task: TestTask) -> Message:
        with PROCESS.on("loading"):
            split = self._place("test")
        accuracy = run_test(task, self._space.file, shape=self.shape, split=split)
        return Tested(number=task.number, accuracy=accuracy, seconds=PROCESS.seconds())

    def _stop_reason(self, metrics: EpochMetrics) -> str | None:
        """Report an epoch to the coordinator; return why to stop, or None to go on."""
        self._connection.send(Epoch(metrics=metrics))
        answer: str | None = receive(self._connection)
        return answer

    def _load_teacher(self, weights: Path) -> FloatTeacher:
        return float_teacher(weights, self._space, training=self.training, shape=self.shape)
