"""The storage of a study, and the coordinators that work on the study."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

Result = TypeVar("Result")


class Storage(Protocol):
    """A study's storage, and the other coordinators that there may be."""

    optuna: BaseStorage
    study_name: str
    is_shared: bool

    def decide(self, body: Callable[[], Result]) -> Result:
        """Call ``body`` while no other coordinator decides anything, and return its result; it may decide in turn.

        Should the lock be lost meanwhile, nothing more of the decision is written, and ``body`` is called again.
        """
        ...

    def exclusive_stage(self, what: str, *, is_done: Callable[[], bool], waiting: Callable[[], None]) -> Any:
        """Enter a context in which no other coordinator does ``what``; yield whether it is still to be done.

        While another does it, ``waiting`` is called every second.
        """

    def claim(self, trial_id: int) -> None:
        """Record that this coordinator works on a trial from now on."""

    def is_mine(self, trial: FrozenTrial) -> bool:
        """Return whether this coordinator works on a trial, or was the last to work on it."""

    def release(self, trial_id: int) -> None:
        """Record that this coordinator no longer works on a trial."""

    def is_abandoned(self, trial: FrozenTrial) -> bool:
        """Return whether no coordinator works any more on a trial that is running."""

    def close(self) -> None:
        """Close all connections."""
