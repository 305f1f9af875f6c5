"""A run as one value that every table, figure and file is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spquant_search.errors import UserError
from spquant_search.runs import pareto, selection
from spquant_search.runs.finals import TestUse, count_tests, read_latest_results, read_latest_test_accuracies
from spquant_search.runs.folder import RunFolder, find_run
from spquant_search.runs.records import read_environment, read_facts, read_frozen_space, read_shared_study
from spquant_search.runs.results import Origin, Outcome, TrialResult
from spquant_search.runs.trainers import Trainers
from spquant_search.space.objectives import DEFAULT_COSTS, with_columns
from spquant_search.space.schema import SpaceFile

PARAMETER_WORDS = {
    "weight_bits": "weight bits",
    "membrane_levels": "membrane levels",
    "channel_mass": "channel gates",
    "skip_below": "skip masks",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """A run as every report of it sees it: what was searched, on what, and what came out so far."""

    run: str
    source: str  # the space file
    network: str
    data: str  # the data set's description, "simulated" included
    classes: tuple[str, ...]  # their names, by label
    time_steps: tuple[int, ...]  # of its networks: the choices of the space, the most last
    results: tuple[TrialResult, ...]
    validation_samples: int
    test_samples: int = 0
    test_use: TestUse = field(default_factory=TestUse)
    no_integer_form: str = ""  # why no member can be picked, where the network or the whole space is the reason
    argument: str = ""  # the word that means this run on the command line, where that is not its name
    searched: tuple[str, ...] = ()  # in words, what has several choices in some layer
    costs: tuple[str, ...] = DEFAULT_COSTS  # the objectives beside the accuracy
    dearest: Mapping[str, float] = field(default_factory=dict)  # configuration: what the float baseline does not have
    fixed: tuple[str, ...] = ()  # the objectives that no choice of the space changes
    trials_wanted: int | None = None  # candidates that the search was to try; None: unknown
    workers: int = 1  # trainers, of the latest start
    trainers: tuple[Trainers, ...] = ()  # of all starts, each kind once
    is_shared: bool = False  # the study lies in a database, where several coordinators may work on it
    seconds: float = 0.0  # wall clock, over all starts of the run
    command: str = ""  # the command line that made the run, for reproducing it
    environment: Mapping[str, str] = field(default_factory=dict)  # machine and versions
    test_accuracy: Mapping[int, float] = field(default_factory=dict)  # by trial number, fractions
    budget: selection.Budget = field(default_factory=selection.Budget)  # the space file's constraints

    @property
    def searches_steps(self) -> bool:
        """True where networks of the space differ in their time steps."""
        return len(self.time_steps) > 1

    @property
    def has_choices(self) -> bool:
        """True where there was anything to search."""
        return bool(self.searched) or self.searches_steps

    @property
    def baseline(self) -> TrialResult | None:
        """The float baseline, once it is trained."""
        found = (result for result in self.results if result.origin is Origin.BASELINE)
        return next((result for result in found if result.outcome is Outcome.COMPLETE), None)

    @property
    def trials(self) -> tuple[TrialResult, ...]:
        """The trials besides the baseline: candidates, and subnets that were fine-tuned."""
        return tuple(result for result in self.results if result.origin is not Origin.BASELINE)

    @property
    def candidates_tried(self) -> int:
        """The candidates that were trained or evaluated: a search's limit on trials counts these."""
        return sum(result.is_candidate and result.outcome.is_tried for result in self.results)

    @property
    def front(self) -> tuple[TrialResult, ...]:
        """The front of the trials within the constraints, or of all trials where none keeps them."""
        return selection.front(self.results, self.costs, self.budget)

    @property
    def pickable(self) -> tuple[TrialResult, ...]:
        """The members of the front that `pick` can write."""
        return () if self.no_integer_form else selection.pickable(self.front)

    @property
    def compared(self) -> list[TrialResult]:
        """The trials that the front is chosen from: with a network, and with all costs that are objectives."""
        return selection.comparable(self.results, self.costs)

    @property
    def meets_budget(self) -> bool:
        """True where the front's members keep the constraints, or there are none."""
        return selection.is_met(self.results, self.costs, self.budget)

    @property
    def reference_point(self) -> pareto.ReferencePoint | None:
        """The point that the hypervolume is measured from; None without a baseline."""
        baseline, chance = self.baseline, 1.0 / len(self.classes)
        if baseline is None:
            return None
        return pareto.reference_point(baseline, self.costs, chance=chance, dearest=self.dearest)

    @property
    def hypervolume(self) -> float | None:
        """The hypervolume of the members that keep the constraints; None without a baseline."""
        return self.hypervolume_without(())

    def hypervolume_without(self, costs: tuple[str, ...]) -> float | None:
        """Return the hypervolume of the other objectives alone."""
        point = self.reference_point
        fitting = selection.within(self.front, self.budget)
        if point is None:
            return None
        return pareto.hypervolume(pareto.objectives(fitting, self.costs), point, without=costs)

    @property
    def constant_objectives(self) -> tuple[str, ...]:
        """The objectives in which all trials are equal, the baseline left aside."""
        tried = [result for result in self.compared if result.origin is not Origin.BASELINE]
        return pareto.constant_objectives(tried, self.costs, fixed=self.fixed)

    @property
    def hidden_costs(self) -> tuple[str, ...]:
        """The costs that tables and pictures leave out: the baseline has no other value either."""
        equal = pareto.constant_objectives(self.compared, self.costs, fixed=self.fixed)
        return tuple(name for name in self.costs if name in self.constant_objectives and name in equal)

    @property
    def shown_costs(self) -> tuple[str, ...]:
        """The costs that tables have a column for: the objectives, memory, operations, and what is bounded."""
        return with_columns(self.costs, self.budget.costs())

    def samples_of(self, result: TrialResult) -> int:
        """Return the number of validation samples that a trial's accuracy was measured on."""
        measured_by = result.epochs[-1].samples if result.epochs else None
        return self.validation_samples if measured_by is None else measured_by


def summarize_run(folder: RunFolder) -> RunSummary:
    """Read all that a run's folder says of it.

    Raises:
        UserError: the baseline is not trained yet.
    """
    results = read_latest_results(folder)
    if not results or not results[0].epochs:
        raise UserError(f"{folder.path}: the baseline of this run is not trained yet; start its search again")
    facts, space = read_facts(folder), read_frozen_space(folder)
    return RunSummary(
        run=folder.name,
        argument=_argument(folder),
        source=facts.source,
        network=space.model.network,
        data=facts.data,
        classes=facts.classes,
        time_steps=space.time_steps,
        results=results,
        validation_samples=facts.validation_samples,
        test_samples=facts.test_samples,
        test_use=count_tests(folder),
        searched=_searched(space),
        costs=space.search.costs,
        dearest=facts.dearest,
        fixed=pareto.fixed_objectives(space),
        trials_wanted=space.search.trials,
        workers=space.search.workers,
        trainers=facts.trainers,
        is_shared=read_shared_study(folder) is not None,
        seconds=facts.seconds,
        command=facts.command,
        environment=read_environment(folder),
        test_accuracy=read_latest_test_accuracies(folder, results),
        budget=selection.Budget.of(space.constraints),
        no_integer_form=facts.no_integer_form or "",
    )


def _argument(folder: RunFolder) -> str:
    """Return the word that means this run on the command line in the present folder."""
    is_named = folder.path == Path("runs") / folder.name and find_run(folder.name) == folder
    return folder.name if is_named else str(folder.path)


def _searched(space: SpaceFile) -> tuple[str, ...]:
    """Name what has several choices in some layer."""
    layers = space.layers.values()
    return tuple(
        words
        for parameter, words in PARAMETER_WORDS.items()
        if any(len(getattr(layer, parameter) or ()) > 1 for layer in layers)
        # At one time step no membrane is stored.
        and (space.most_time_steps > 1 or parameter not in ("membrane_levels", "skip_below"))
    )
