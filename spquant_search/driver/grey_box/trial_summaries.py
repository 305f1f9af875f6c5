"""The part of a study's trials that every proposal looks at, read once from each trial that has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from optuna.trial import FrozenTrial, TrialState

from spquant_search.driver.grey_box.candidates import Grid


@dataclass(frozen=True, slots=True)
class TrialSummary:
    """A trial as a row of a grid. Once the trial has ended it does not change."""

    state: TrialState
    values: Sequence[float] | None  # the objectives; None where the trial is not complete
    row: Int[np.ndarray, " axis"] | None  # None where the trial does not lie in the space
    key: bytes  # of the row; empty without a row
    constraints: Mapping[str, float]  # how far beyond each it is, as a part of the bound; at most 0 where it keeps it
    has_curve: bool  # has intermediate values
    was_tried: bool  # otherwise its configuration may be proposed again

    @property
    def is_feasible(self) -> bool:
        """Whether it keeps its constraints."""
        return all(violation <= 0 for violation in self.constraints.values())


def summarise_trials(
    grid: Grid,
    trials: Sequence[FrozenTrial],
    known: dict[int, TrialSummary],
    was_tried: Callable[[FrozenTrial], bool],
) -> list[TrialSummary]:
    """Return a summary of each trial.

    ``known``: the summaries of trials that have ended, by number; those that it lacks are added to it. ``was_tried``:
    whether a trial tried its configuration.
    """
    names = {axis.name for axis in grid.axes}
    summaries = [known.get(trial.number) for trial in trials]
    new = [place for place, summary in enumerate(summaries) if summary is None]
    rows = iter(grid.rows([trials[place].params for place in new if names <= trials[place].params.keys()]))
    for place in new:
        trial = trials[place]
        row = next(rows) if names <= trial.params.keys() else None
        summaries[place] = summary = TrialSummary(
            state=trial.state,
            values=trial.values if trial.state is TrialState.COMPLETE else None,
            row=row,
            key=b"" if row is None else row_key(row),
            constraints=trial.constraints,
            has_curve=bool(trial.intermediate_values),
            was_tried=was_tried(trial),
        )
        if trial.state.is_finished() and trial.number >= 0:
            known[trial.number] = summary
    return [summary for summary in summaries if summary is not None]


def row_key(row: Int[np.ndarray, " axis"]) -> bytes:
    """Return a row in a form that sets and dictionaries can hold."""
    return row.astype(np.int32).tobytes()
