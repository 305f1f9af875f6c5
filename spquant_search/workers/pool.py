"""The trainer processes of one coordinator: which of them are free, and what happens to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from spquant_search.profile import PROCESS
from spquant_search.workers.messages import Failed, Message, TrainerConfig, TrainerWarning
from spquant_search.workers.process import Trainer, ready


class TrainerPool:
    """So many trainers; ``warn`` is told what they have to say, once for all of them.

    ``make_trainer`` makes a trainer: a process, unless it is another that answers as one.
    """

    def __init__(
        self,
        setup: TrainerConfig,
        count: int,
        *,
        warn: Callable[[str], None],
        make_trainer: Callable[[TrainerConfig], Trainer] | None = None,
    ) -> None:
        self._warn = warn
        self._trainers = [(make_trainer or Trainer)(setup) for _ in range(count)]
        self._seconds: dict[Trainer, dict[str, float]] = {}
        self._notes: set[str] = set()
        self._limits: dict[Trainer, tuple[float, float]] = {}  # when what it does is given up, after how many seconds

    def __len__(self) -> int:
        return len(self._trainers)

    def seconds(self) -> dict[str, dict[str, float]]:
        """Where the seconds of every trainer went."""
        return {f"trainer {i}": seconds for i, seconds in enumerate(self._seconds.values(), start=1)}

    def close(self) -> None:
        for trainer in self._trainers:
            trainer.close()

    def idle(self) -> list[Trainer]:
        return [trainer for trainer in self._trainers if trainer.task is None]

    def busy(self) -> list[Trainer]:
        return [trainer for trainer in self._trainers if trainer.task is not None]

    def messages(self) -> Iterator[tuple[Trainer, Message]]:
        """What the busy trainers have to say, after waiting for the first of them.

        Notes are shown. A task whose process died is begun again once, by a new process, before that is a message. One
        over its limit of time has failed.
        """
        busy = self.busy()
        with PROCESS.on("waiting"):
            speaking = ready(busy, timeout=self._patience(busy))
        for trainer in speaking:
            message = trainer.receive()
            if isinstance(message, TrainerWarning):
                self._note(message)
            elif isinstance(message, Failed) and message.died and not trainer.begun_again:
                self._warn(f"{message.reason}; what it was doing begins again")
                trainer.begin_again()
            else:
                yield trainer, message

        for trainer in busy:
            if trainer not in speaking and trainer.task is not None and self._is_late(trainer):
                minutes = self._limits[trainer][1] / 60
                reason = f"not done after search.minutes_per_trial, {minutes:g} minutes"
                yield trainer, Failed(reason=reason, died=True, late=True)

    def limit(self, trainer: Trainer, seconds: float) -> None:
        """Give up what a trainer was given just now, should it take longer than this."""
        self._limits[trainer] = (time.monotonic() + seconds, seconds)

    def _patience(self, busy: Sequence[Trainer]) -> float | None:
        """For how many seconds there is nothing to do but to wait; None: until one of them speaks."""
        ends = [self._limits[trainer][0] for trainer in busy if trainer in self._limits]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _is_late(self, trainer: Trainer) -> bool:
        return trainer in self._limits and time.monotonic() >= self._limits[trainer][0]

    def ended(self, trainer: Trainer, seconds: dict[str, float]) -> None:
        """Take note of a task that was done; ``seconds`` is where the trainer's went until now."""
        trainer.task = None
        self._limits.pop(trainer, None)
        self._seconds[trainer] = seconds

    def failed(self, trainer: Trainer, message: Failed) -> None:
        """Take note of a task that was not, with a new process where one died or met a bug."""
        self._limits.pop(trainer, None)
        if message.died or message.detail:  # after some errors of a GPU all that a process does fails
            trainer.restart()
        trainer.task = None

    def _note(self, note: TrainerWarning) -> None:
        """Show what a trainer has to say, once for all trainers."""
        if note.text not in self._notes:
            self._notes.add(note.text)
            self._warn(note.text)
