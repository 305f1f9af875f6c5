"""With which trials a trial is compared while it is trained."""

from __future__ import annotations

from dataclasses import replace

from examples import config, trial

from spquant_search.driver.learning_curves import LearningCurves
from spquant_search.runs.results import TrialResult
from spquant_search.space.objectives import DEFAULT_COSTS


def candidate(number: int, *, steps: int, parent: int | None) -> TrialResult:
    return replace(trial(number, of=replace(config(), time_steps=steps)), parent=parent)


def peers(known: TrialResult, *ended: TrialResult) -> list[int]:
    curves = LearningCurves(DEFAULT_COSTS)
    for result in ended:
        curves.end(result)
    return [curve.number for curve in curves.peers(known)]


def test_finalists_are_compared_with_those_that_have_as_many_epochs() -> None:
    ended = [
        trial(0, origin="baseline"),
        candidate(1, steps=4, parent=None),
        *(candidate(number, steps=steps, parent=1) for number, steps in ((5, 4), (6, 1), (7, 2), (8, 1))),
    ]
    assert peers(candidate(9, steps=1, parent=1), *ended) == [0, 1, 6, 8]
    assert peers(candidate(9, steps=4, parent=1), *ended) == [0, 1, 5]
    assert peers(candidate(9, steps=2, parent=1), *ended) == [0, 1, 7]


def test_candidates_that_are_trained_have_as_many_epochs_in_any_number_of_steps() -> None:
    ended = [candidate(number, steps=steps, parent=None) for number, steps in ((1, 4), (2, 1), (3, 2))]
    assert peers(candidate(9, steps=1, parent=None), *ended) == [1, 2, 3]
