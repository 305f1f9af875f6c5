"""The schedule of a training, and the learning rate at each of its steps. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from spquant_search.space.schema import Final

# torch.optim.lr_scheduler.OneCycleLR's div_factor and final_div_factor
ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1 / 25e4


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The part of the recipe in which baseline, candidates and finalists differ."""

    epochs: int
    learning_rate: float
    trains_gates: bool = True

    @classmethod
    def of_finalists(cls, final: Final, *, epochs: int | None = None) -> Schedule:
        """Return the schedule of fine-tuning the finalists, for ``final.epochs`` unless ``epochs`` says otherwise.

        Gates stay as they are unless ``final.train_gates``, since a member is on the front for its operations as much
        as for its accuracy. Gates from the supernet, which serve every threshold, would move most: they open more
        channels than a low threshold asks for and fewer than a high one.
        """
        return cls(epochs=epochs or final.epochs, learning_rate=final.learning_rate, trains_gates=final.train_gates)

    def at(self, time_steps: int, *, most: int) -> Schedule:
        """Return the schedule of as much work at fewer time steps, for which there are more epochs.

        ``most``: the time steps that ``epochs`` are meant for, a multiple of ``time_steps``. Half the steps make an
        epoch half as long, and have to make up for more.
        """
        return replace(self, epochs=self.epochs * most // time_steps)


def rate_at(
    step: int, *, steps: int, warm_up: float, schedule: Literal["cosine", "one-cycle", "constant"] = "cosine"
) -> float:
    """Return the share of the full learning rate at ``step`` of 0 .. ``steps`` - 1.

    ``cosine`` and ``constant``: linear from 0 (exclusive) over the warm-up, of one step at least, then a half cosine
    that reaches 0 at ``steps``, or 1 to the end. ``one-cycle`` (Smith and Topin, 2018; the values of torch's
    OneCycleLR): a half cosine from 1/25 up to 1 over the warm-up, and one down to 1/250000 at the last step; a single
    step takes the full rate.
    """
    if schedule == "one-cycle":
        return _one_cycle(step, steps=steps, warm_up=warm_up)
    rising = max(1, round(steps * warm_up))
    if step < rising:
        return (step + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _one_cycle(step: int, *, steps: int, warm_up: float) -> float:
    top, last = steps * warm_up - 1.0, steps - 1.0
    if steps == 1:
        return 1.0
    if step <= top:
        return _half_cosine(ONE_CYCLE_START, 1.0, step / top if top > 0.0 else 1.0)
    return _half_cosine(1.0, ONE_CYCLE_END, (step - top) / (last - top))


def _half_cosine(begin: float, end: float, share: float) -> float:
    return end + 0.5 * (begin - end) * (1.0 + math.cos(math.pi * share))
