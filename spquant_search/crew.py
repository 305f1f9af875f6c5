"""The trainer processes of one coordinator: which of them are free, and what befalls them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from spquant_search.timing import PROCESS
from spquant_search.workers import Failed, Message, Note, Setup, Trainer, ready


class Crew:
    """So many trainers; ``warn`` is told what they have to say, once for all of them."""

    def __init__(self, setup: Setup, count: int, *, warn: Callable[[str], None]) -> None:
        self._setup, self._warn = setup, warn
        self._trainers = [Trainer(setup) for _ in range(count)]
        self._seconds: dict[Trainer, dict[str, float]] = {}
        self._notes: set[str] = set()

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

        Notes are shown. A task whose process died is begun again once, by a new process, before that is a message.
        """
        with PROCESS.on("waiting"):
            speaking = ready(self.busy(), timeout=None)
        for trainer in speaking:
            message = trainer.receive()
            if isinstance(message, Note):
                self._note(message)
            elif isinstance(message, Failed) and message.died and not trainer.begun_again:
                self._warn(f"{message.reason}; what it was doing begins again")
                trainer.begin_again()
            else:
                yield trainer, message

    def ended(self, trainer: Trainer, seconds: dict[str, float]) -> None:
        """Take note of a task that was done; ``seconds`` is where the trainer's went until now."""
        trainer.task = None
        self._seconds[trainer] = seconds

    def failed(self, trainer: Trainer, message: Failed) -> None:
        """Take note of a task that was not, with a new process where one died."""
        trainer.task = None
        if message.died:
            trainer.restart()

    def _note(self, note: Note) -> None:
        """Show what a trainer has to say, once for all trainers."""
        if note.text not in self._notes:
            self._notes.add(note.text)
            self._warn(note.text)
