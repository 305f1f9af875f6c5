"""The trainers of one coordinator: which of them are idle, what they say, and what happens to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from spquant_search.processes import available_cores
from spquant_search.profile import PROCESS
from spquant_search.workers.messages import Failed, Message, Tested, Trained, TrainerConfig, TrainerWarning
from spquant_search.workers.process import TrainerProcesses
from spquant_search.workers.trainer import Trainer, TrainerSource

LOST = "lost"  # the seconds of a process that died, or was ended, before it could say what they went into


class TrainerPool:
    """So many trainers. What they warn of is passed on to ``warn``, every text once."""

    def __init__(
        self,
        config: TrainerConfig,
        count: int,
        *,
        warn: Callable[[str], None],
        source: TrainerSource | None = None,
    ) -> None:
        """Start ``count`` trainers, by default processes."""
        self._warn = warn
        self._source: TrainerSource = source or TrainerProcesses()
        self._trainers: list[Trainer] = []
        self._seconds: dict[Trainer, dict[str, float]] = {}  # of the present process, until its latest message
        self._seconds_before: dict[Trainer, dict[str, float]] = {}  # of the processes that it replaced
        self._warnings: set[str] = set()
        self._time_limits: dict[Trainer, tuple[float, str]] = {}  # when its task is given up, and after which time
        try:
            for number in range(count):
                own = config.of_trainer(number, trainers=count, cores=available_cores())
                self._trainers.append(self._source.make_trainer(own))
        except BaseException:
            self.close()
            raise
        self._told_at = dict.fromkeys(self._trainers, time.monotonic())

    def __len__(self) -> int:
        return len(self._trainers)

    def seconds(self) -> dict[str, dict[str, float]]:
        """Return where the seconds of every trainer went, by trainer and activity, processes it replaced included."""
        spent = {trainer: self._spent(trainer) for trainer in self._trainers}
        return {f"trainer {i}": seconds for i, seconds in enumerate(filter(None, spent.values()), start=1)}

    def _spent(self, trainer: Trainer) -> dict[str, float]:
        """Add up the seconds of a trainer's processes, those of the present one until its latest message."""
        return _sum(self._seconds_before.get(trainer, {}), self._seconds.get(trainer, {}))

    def close(self) -> None:
        """End all trainers."""
        for trainer in self._trainers:
            trainer.close()

    def idle(self) -> list[Trainer]:
        """Return the trainers without a task."""
        return [trainer for trainer in self._trainers if trainer.task is None]

    def busy(self) -> list[Trainer]:
        """Return the trainers that work on a task."""
        return [trainer for trainer in self._trainers if trainer.task is not None]

    def messages(self) -> Iterator[tuple[Trainer, Message]]:
        """Wait for the first message of a busy trainer, and yield all that there are.

        Warnings are passed on. The task of a process that died begins again once, in a new process, before that is a
        message. A task that takes longer than its limit has failed.
        """
        busy = self.busy()
        with PROCESS.on("waiting"):
            speaking = self._source.wait(busy, timeout=self._timeout(busy))
        for trainer in speaking:
            message = trainer.receive()
            if isinstance(message, TrainerWarning):
                self._pass_on(message)
            elif isinstance(message, Failed) and message.died and not trainer.begun_again:
                self._warn(f"{message.reason}; what it was doing begins again")
                self._count_lost(trainer)
                trainer.begin_again()
            else:
                yield trainer, message

        for trainer in busy:
            if trainer not in speaking and trainer.task is not None and self._is_late(trainer):
                yield trainer, Failed(reason=f"not done after {self._time_limits[trainer][1]}", died=True, late=True)

    def limit_time(self, trainer: Trainer, minutes: float, *, times: float = 1.0) -> None:
        """Give up the task that a trainer was given just now after ``minutes``, those of a trial, so many times."""
        words = "search.minutes_per_trial" if times == 1.0 else f"{times:g} times search.minutes_per_trial"
        self._time_limits[trainer] = (time.monotonic() + 60 * minutes * times, f"{words}, {minutes * times:g} minutes")

    def _timeout(self, busy: Sequence[Trainer]) -> float | None:
        """Return the seconds until the next task is given up; None where no task has a limit."""
        ends = [self._time_limits[trainer][0] for trainer in busy if trainer in self._time_limits]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _is_late(self, trainer: Trainer) -> bool:
        return trainer in self._time_limits and time.monotonic() >= self._time_limits[trainer][0]

    def work_off(self, tasks: Iterable[Any]) -> Iterator[tuple[Any, Message]]:
        """Give tasks to trainers as these become idle, and yield each with its only message: its result, or Failed."""
        waiting = list(tasks)
        while waiting or self.busy():
            for trainer in self.idle():
                if waiting:
                    trainer.give(waiting.pop(0))
            for trainer, message in self.messages():
                task = trainer.task
                if isinstance(message, Failed):
                    self.mark_failed(trainer, message)
                elif isinstance(message, Trained | Tested):
                    self.mark_done(trainer, message.seconds)
                else:
                    raise AssertionError(message)
                yield task, message

    def mark_done(self, trainer: Trainer, seconds: dict[str, float]) -> None:
        """Note that a task is done; ``seconds``: where all of the trainer's went until now."""
        trainer.task = None
        self._time_limits.pop(trainer, None)
        self._seconds[trainer], self._told_at[trainer] = seconds, time.monotonic()

    def mark_failed(self, trainer: Trainer, message: Failed) -> None:
        """Note that a task failed, and start a new process where one died or met a bug."""
        self._time_limits.pop(trainer, None)
        if message.died or message.detail:  # after some errors of a GPU everything in that process fails
            self._count_lost(trainer)
            trainer.restart()
        trainer.task = None

    def _count_lost(self, trainer: Trainer) -> None:
        """Keep the seconds of a process that is replaced; what it did since its latest message it can no longer say."""
        now = time.monotonic()
        lost = now - self._told_at[trainer]
        self._seconds_before[trainer] = _sum(self._spent(trainer), {LOST: lost})
        self._seconds.pop(trainer, None)
        self._told_at[trainer] = now

    def _pass_on(self, warning: TrainerWarning) -> None:
        if warning.text not in self._warnings:
            self._warnings.add(warning.text)
            self._warn(warning.text)


def _sum(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {what: one.get(what, 0.0) + other.get(what, 0.0) for what in {**one, **other}}
