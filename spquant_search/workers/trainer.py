"""A trainer as the coordinator sees it: something that is given one task at a time and answers with messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from spquant_search.workers.messages import Message, TrainerConfig


class Trainer(Protocol):
    """One worker of a :class:`spquant_search.workers.pool.TrainerPool`."""

    task: Any  # of spquant_search.training.tasks; None while the trainer is idle
    begun_again: bool  # the task was given to a second process after the first one died

    def give(self, task: Any) -> None:
        """Begin a task."""

    def answer(self, stop_because: str | None) -> None:
        """Answer an :class:`spquant_search.workers.messages.Epoch`: None to go on, otherwise why to stop."""

    def receive(self) -> Message:
        """Return the next message; that of a dead trainer says that it died."""
        ...

    def restart(self) -> None:
        """Replace a worker that died or hangs by a new one without a task."""

    def begin_again(self) -> None:
        """Give the task of a worker that died to a new one."""

    def close(self) -> None:
        """End the worker."""


class TrainerSource(Protocol):
    """Where a pool's trainers come from, and how the pool waits for them."""

    def make_trainer(self, config: TrainerConfig) -> Trainer:
        """Start a trainer."""
        ...

    def wait(self, trainers: Sequence[Any], *, timeout: float | None) -> list[Any]:
        """Return those trainers that have a message, after at most ``timeout`` seconds; None: once there is one."""
        ...
