"""The learning curves of a run's trials, as the rule of early stopping compares them."""

from __future__ import annotations

from collections.abc import Sequence

from spquant_search.driver.early_stopping import LearningCurve
from spquant_search.runs.results import BASELINE, EpochMetrics, Outcome, TrialResult


class LearningCurves:
    """The epochs of every trial that was begun here, and the curves of all trials that have ended."""

    def __init__(self) -> None:
        self._epochs: dict[int, tuple[EpochMetrics, ...]] = {}
        self._ended: dict[int, LearningCurve] = {}

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
        self._ended[result.number] = _curve(result.number, result.memory_bytes, result.epochs, complete=complete)

    def present(self, number: int, memory_bytes: int) -> LearningCurve:
        """Return the curve so far of a trial that is being trained."""
        return _curve(number, memory_bytes, self._epochs[number], complete=False)

    def ended(self) -> Sequence[LearningCurve]:
        """Return the curves of all trials that have ended."""
        return list(self._ended.values())


def _curve(number: int, memory_bytes: int, epochs: Sequence[EpochMetrics], *, complete: bool) -> LearningCurve:
    return LearningCurve(
        number=number,
        memory_bytes=memory_bytes,
        accuracies=tuple(epoch.accuracy for epoch in epochs),
        effective_macs=tuple(epoch.effective_macs for epoch in epochs),
        complete=complete,
        first_epoch=epochs[0].epoch if epochs else 1,
    )
