"""The state of a running search, gathered from its events."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from spquant_search.report.front_table import hypervolume_text
from spquant_search.report.numbers import duration
from spquant_search.report.text_table import one_line
from spquant_search.runs import pareto, selection
from spquant_search.runs.events import SearchPlan
from spquant_search.runs.results import EpochMetrics, Origin, Outcome, TrialResult

Clock = Callable[[], float]


@dataclass(kw_only=True, slots=True)
class RunningTrial:
    """A trial in training."""

    task: TrialResult  # as far as known: configuration and memory
    epochs: int
    latest: EpochMetrics | None = None

    @property
    def epochs_left(self) -> int:
        return max(0, self.epochs - (self.latest.epoch if self.latest else 0))


@dataclass(kw_only=True, slots=True)
class Progress:
    """The state of a search, gathered from its events. ``clock`` gives seconds."""

    clock: Clock = time.monotonic
    begun: float = 0.0
    plan: SearchPlan | None = None
    running: dict[int, RunningTrial] = field(default_factory=dict)
    finished: list[TrialResult] = field(default_factory=list)
    front: tuple[TrialResult, ...] = ()
    hypervolume: float | None = None  # without the costs that are the same in all trials
    reference: pareto.ReferencePoint | None = None
    stage: str = ""
    warnings: list[str] = field(default_factory=list)
    _epochs_done: int = 0
    _training_since: float | None = None
    _only_baseline: bool = True
    _subnets_done: int = 0
    _subnets_since: float | None = None

    def __post_init__(self) -> None:
        self.begun = self.clock()

    def take_plan(self, plan: SearchPlan) -> None:
        self.plan = plan
        self.finished = list(plan.finished)
        self._update_front()

    def take_stage(self, text: str, done: int, total: int) -> None:
        self.stage = one_line(text) + (f" {done:,} of {total:,}" if total else "")

    def take_start(self, trial: RunningTrial) -> None:
        self.stage = ""
        candidate = trial.task.origin is not Origin.BASELINE
        # Candidates train in parallel and in low precision: their pace replaces the baseline's.
        if self._training_since is None or (candidate and self._only_baseline):
            self._training_since, self._epochs_done = self.clock(), 0
        self._only_baseline = self._only_baseline and not candidate
        if candidate and trial.epochs == 0 and self._subnets_since is None:
            self._subnets_since = self.clock()
        self.running[trial.task.number] = trial

    def take_epoch(self, number: int, metrics: EpochMetrics) -> None:
        self._epochs_done += 1
        if number in self.running:
            self.running[number].latest = metrics

    def take_result(self, result: TrialResult) -> None:
        self.running.pop(result.number, None)
        self.finished.append(result)
        self._subnets_done += self._subnets_since is not None and result.outcome is Outcome.SUBNET
        self._update_front()

    @property
    def baseline(self) -> TrialResult | None:
        done = (result for result in self.finished if result.origin is Origin.BASELINE)
        return next((result for result in done if result.outcome is Outcome.COMPLETE), None)

    @property
    def trials_done(self) -> int:
        """The candidates that the limit on trials counts."""
        return sum(result.is_candidate and result.outcome.is_tried for result in self.finished)

    @property
    def hidden_costs(self) -> tuple[str, ...]:
        """The costs that no choice of the space changes, and that no trial has changed: they stay unsaid."""
        fixed = () if self.plan is None else self.plan.fixed
        equal = pareto.constant_objectives(selection.deployable(self.finished), fixed=fixed)
        return tuple(name for name in equal if name in fixed)

    def seconds_left(self) -> float | None:
        """Estimate the time until the candidates are tried; None where nothing is known to estimate it from.

        Of trials that are trained: the epochs still to train if no trial is stopped, by the epochs a second so far. Of
        subnets: the subnets still to evaluate, by the subnets a second so far.
        """
        if self.plan is None:
            return None
        if self.plan.epochs == 0:
            return self._subnet_seconds_left(self.plan.trials - self.trials_done)
        if self._training_since is None or not self._epochs_done:
            return None
        begun = sum(trial.task.is_candidate for trial in self.running.values())
        untouched = max(0, self.plan.trials - self.trials_done - begun) * self.plan.epochs
        left = untouched + sum(trial.epochs_left for trial in self.running.values())
        return left * (self.clock() - self._training_since) / self._epochs_done

    def _subnet_seconds_left(self, left: int) -> float | None:
        if left <= 0 or self._subnets_since is None or not self._subnets_done:
            return None
        return left * (self.clock() - self._subnets_since) / self._subnets_done

    def _update_front(self) -> None:
        budget = selection.Budget() if self.plan is None else self.plan.budget
        self.front = selection.front(self.finished, budget)
        baseline = self.baseline
        if self.plan is None or baseline is None:
            return
        self.reference = pareto.reference_point(baseline, chance=self.plan.chance)
        fitting = selection.within(self.front, budget)
        self.hypervolume = pareto.hypervolume(pareto.objectives(fitting), self.reference, without=self.hidden_costs)


def closing_text(progress: Progress) -> str:
    """Write the last line of a search: the trials, the time, the hypervolume."""
    elapsed = duration(progress.clock() - progress.begun)
    if progress.plan is not None and progress.plan.trials == 0:  # an analysis, which tries no candidates
        return f"done in {elapsed}"
    return f"{trial_count_text(progress)} in {elapsed}; {progress_hypervolume_text(progress)}"


def progress_hypervolume_text(progress: Progress) -> str:
    """Write the hypervolume so far."""
    return hypervolume_text(progress.hypervolume, progress.reference, without=progress.hidden_costs)


def trial_count_text(progress: Progress) -> str:
    """Write how many trials are done of how many; an earlier start may have been asked for more."""
    done, wanted = progress.trials_done, progress.plan.trials if progress.plan else None
    if wanted is not None and done > wanted:
        return f"{done} trials ({wanted} asked for)"
    return f"{done} of {'?' if wanted is None else wanted} trials"


def times_text(progress: Progress) -> str:
    """Write how many trials are done, the time so far and the time left."""
    done = trial_count_text(progress) if progress.plan else "preparing"
    left = progress.seconds_left()
    subnets = " for the subnets" if progress.plan and progress.plan.epochs == 0 else ""
    estimate = "" if left is None else f", about {duration(left)} left{subnets}"
    return f"{done}, {duration(progress.clock() - progress.begun)} elapsed{estimate}"
