"""The limits of a search on trials and on time."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How many trials may begin, and until when."""

    trials: int  # besides the baseline and what is fine-tuned
    deadline: float | None = None  # of time.monotonic()

    def reached(self, begun: int) -> bool:
        """Return whether no further trial may begin after ``begun`` trials."""
        return begun >= self.trials or self.late()

    def late(self) -> bool:
        """Return whether the deadline is over."""
        return self.deadline is not None and time.monotonic() >= self.deadline
