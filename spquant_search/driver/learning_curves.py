"""The learning curves of a run's trials, as the rule of early stopping compares them."""

from __future__ import annotations

from collections.abc import Sequence

from spquant_search.driver.early_stopping import LearningCurve
from spquant_search.runs.pareto import figure
from spquant_search.runs.results import BASELINE, EpochMetrics, Outcome, TrialResult
from spquant_search.space.objectives import COSTS


class LearningCurves:
    """The epochs of every trial that was begun here, and the curves of all trials that have ended."""

    def __init__(self, costs: Sequence[str]) -> None:
        """Begin without any trial; ``costs`` are the objectives beside the accuracy."""
        self._known = tuple(name for name in costs if COSTS[name].is_exact)
        self._measured = tuple(name for name in costs if not COSTS[name].is_exact)
        self._epochs: dict[int, tuple[EpochMetrics, ...]] = {}
        self._ended: dict[int, LearningCurve] = {}
        self._steps_of_finalists: dict[int, int] = {}  # that have ended, by number

    def begin(self, number: int, epochs: tuple[EpochMetrics, ...]) -> None:
        """Begin the curve of a trial with the epochs that were measured before."""
        self._epochs[number] = epochs

    def record(self, number: int, metrics: EpochMetrics) -> None:
        """Add an epoch. A trial that begins again reports its earlier epochs again."""
        earlier = (epoch for epoch in self._epochs[number] if epoch.epoch < metrics.epoch)
        self._epochs[number] = (*earlier, metrics)

    def epochs(self, number: int) -> tuple[EpochMetrics, ...]:
        """Return the epochs so far of a trial that was begun here."""
        return self._epochs[number]

    def end(self, result: TrialResult) -> None:
        """Keep the curve of a trial that has ended."""
        complete = result.outcome is Outcome.COMPLETE and result.number != BASELINE
        self._ended[result.number] = self._curve(result, result.epochs, complete=complete)
        if result.parent is not None:
            self._steps_of_finalists[result.number] = result.config.time_steps

    def present(self, known: TrialResult) -> LearningCurve:
        """Return the curve so far of a trial that is being trained, of which ``known`` is known beforehand."""
        return self._curve(known, self._epochs[known.number], complete=False)

    def peers(self, known: TrialResult) -> Sequence[LearningCurve]:
        """Return the curves of all trials that have ended, with which a trial that is being trained is compared.

        A finalist has as many more epochs as it has fewer time steps: after its third of eight it is at the beginning,
        after its third of four near the end. So finalists of other numbers of steps are no peers.
        """
        if known.parent is None:
            return list(self._ended.values())
        steps = known.config.time_steps
        return [curve for number, curve in self._ended.items() if self._steps_of_finalists.get(number, steps) == steps]

    def _curve(self, result: TrialResult, epochs: Sequence[EpochMetrics], *, complete: bool) -> LearningCurve:
        return LearningCurve(
            number=result.number,
            known={name: figure(result, name) for name in self._known},
            accuracies=tuple(epoch.accuracy for epoch in epochs),
            measured={name: tuple(epoch.measured(name) for epoch in epochs) for name in self._measured},
            complete=complete,
            first_epoch=epochs[0].epoch if epochs else 1,
        )
