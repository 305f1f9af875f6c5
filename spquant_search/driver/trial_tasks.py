"""The task of every trial: which weights it starts from, how long it is trained, where its weights go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from spquant_search.costs.extremes import byte_figures
from spquant_search.costs.memory import FLOPS_PER_MAC, cost_report, known_effective_macs
from spquant_search.driver.search_context import SearchContext
from spquant_search.driver.seeds import trial_seed
from spquant_search.driver.study import PendingTrial
from spquant_search.driver.trial_book import NOT_COUNTED, TrialBook
from spquant_search.runs.folder import given_weights_file
from spquant_search.runs.results import BASELINE, Origin, Outcome, TrialResult, unmeasured
from spquant_search.runs.selection import Budget
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.objectives import COSTS
from spquant_search.training.prepared import Prepared
from spquant_search.training.schedule import Schedule
from spquant_search.training.tasks import SubnetTask, Task


def known_excess(prepared: Prepared, budget: Budget, config: NetworkConfig) -> str | None:
    """Return which budget a configuration is known to exceed before any training, with value and bound."""
    if not budget:
        return None
    known: dict[str, int] = byte_figures(prepared.shapes, prepared.architecture, config)
    macs = known_effective_macs(prepared.shapes, config)
    if macs is not None:
        known["effective_flops"] = FLOPS_PER_MAC * macs
    for name, bound in budget.costs().items():
        if name in known and known[name] > bound:
            return f"{name} {known[name]:,} is over constraints.{name}, {bound:,.0f}"
        if name not in known and not COSTS[name].of_floats:
            return f"it keeps floating-point numbers, and so cannot keep constraints.{name}, {bound:,.0f}"
    return None


class TrialTasks:
    """What is known of a trial before it is tried, and the task that tries it."""

    def __init__(self, context: SearchContext, book: TrialBook) -> None:
        self._context, self._book = context, book
        self._budget = Budget.of(context.file.constraints)

    def known_result(self, trial: PendingTrial, outcome: Outcome, reason: str) -> TrialResult:
        """Return a trial's result as far as it is known beforehand: costs, and what was measured as a subnet."""
        prepared, file = self._context.prepared, self._context.file
        cost = cost_report(prepared.shapes, trial.config)
        known = unmeasured(
            number=trial.number,
            origin=trial.origin,
            config=trial.config,
            seed=trial_seed(file.search.seed, trial.number),
            cost=cost,
            device=prepared.footprint(cost),
            outcome=outcome,
            reason=reason,
        )
        if trial.parent is None:
            return known
        parent = self._book[trial.parent]
        return replace(known, parent=trial.parent, epochs=parent.epochs, layers=parent.layers)

    def over_budget(self, trial: PendingTrial) -> str | None:
        """Return which budget a trial is known to exceed, with value and bound; the float baseline never does."""
        if trial.number == BASELINE:
            return None
        return known_excess(self._context.prepared, self._budget, trial.config)

    def is_subnet(self, trial: PendingTrial) -> bool:
        """Return whether a trial is evaluated as a subnet instead of being trained."""
        return self._context.uses_supernet and trial.origin not in NOT_COUNTED

    def epochs(self, trial: PendingTrial) -> int:
        """Return for how many epochs a trial is trained."""
        return 0 if self.is_subnet(trial) else self.schedule(trial).epochs

    def schedule(self, trial: PendingTrial) -> Schedule:
        """Return how a trial is trained."""
        file = self._context.file
        recipe = file.train
        if trial.number == BASELINE:
            return Schedule(epochs=recipe.baseline_epochs, learning_rate=recipe.baseline_learning_rate)
        if trial.origin is Origin.FINE_TUNED:
            return Schedule.of_finalists(file.final).at(trial.config.time_steps, most=file.most_time_steps)
        return Schedule(epochs=recipe.epochs, learning_rate=recipe.learning_rate)

    def task(self, trial: PendingTrial, known: TrialResult) -> Task | SubnetTask:
        """Return the task that tries a trial of which ``known`` is known beforehand."""
        folder, weights_file = self._context.folder, self._context.weights_draft(trial.number)
        if self.is_subnet(trial):
            return SubnetTask(result=known, supernet_weights=folder.supernet_file, weights_file=weights_file)
        return Task(
            result=known,
            schedule=self.schedule(trial),
            initial_weights=self._initial_weights(trial),
            weights_file=weights_file,
            checkpoint_file=folder.checkpoint_file(trial.number),
            teacher_weights=self._teacher_weights(trial),
            threads=self._context.all_threads if trial.number == BASELINE else 1,
        )

    def _initial_weights(self, trial: PendingTrial) -> tuple[Path, ...]:
        folder = self._context.folder
        if trial.parent is not None:
            return folder.weights_of(self._book[trial.parent])
        if trial.number == BASELINE and self._context.file.model.weights is not None:
            return (given_weights_file(folder),)
        if trial.number == BASELINE or self._context.file.search.strategy == "scratch":
            return ()
        return (folder.weights_file(BASELINE),)

    def _teacher_weights(self, trial: PendingTrial) -> Path | None:
        recipe, strategy = self._context.file.train, self._context.file.search.strategy
        has_none = trial.number == BASELINE or strategy == "scratch" or recipe.distillation == 0
        return None if has_none else self._context.folder.weights_file(BASELINE)
