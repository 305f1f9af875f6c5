"""Where a study lies, and who works on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial


class Storage(Protocol):
    """A study's storage, and the other coordinators that there may be."""

    optuna: BaseStorage
    study_name: str
    is_shared: bool

    def decision_lock(self) -> Any:
        """A context in which no other coordinator decides anything; may be entered within itself."""

    def exclusive_stage(self, what: str, *, is_done: Callable[[], bool], waiting: Callable[[], None]) -> Any:
        """A context in which no other coordinator does ``what``; gives whether it is still to be done.

        While another does it, ``waiting`` is called every second.
        """

    def claim(self, trial_id: int) -> None:
        """This coordinator works on a trial from now on."""

    def is_mine(self, trial: FrozenTrial) -> bool:
        """Whether this coordinator is the one that works on a trial, or was the last to."""

    def release(self, trial_id: int) -> None: ...

    def is_abandoned(self, trial: FrozenTrial) -> bool:
        """Whether nobody works any more on a trial that is running."""

    def close(self) -> None: ...
