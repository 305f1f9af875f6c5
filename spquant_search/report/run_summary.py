"""A run as one value that every table, figure and file is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spquant_search.errors import UserError
from spquant_search.runs import pareto, selection
from spquant_search.runs.finals import read_latest_results, read_latest_test_accuracies
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.records import read_environment, read_facts, read_frozen_space
from spquant_search.runs.results import Origin, Outcome, TrialResult


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """A run as every report of it sees it: what was searched, on what, and what came out so far."""

    run: str
    source: str  # the space file
    network: str
    data: str  # the data set's description, "simulated" included
    classes: int
    results: tuple[TrialResult, ...]
    validation_samples: int
    test_samples: int = 0
    seconds: float = 0.0  # wall clock, over all starts of the run
    command: str = ""  # the command line that made the run, for reproducing it
    environment: Mapping[str, str] = field(default_factory=dict)  # machine and versions
    test_accuracy: Mapping[int, float] = field(default_factory=dict)  # by trial number, fractions
    budget: selection.Budget = field(default_factory=selection.Budget)  # the space file's constraints

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
    def front(self) -> tuple[TrialResult, ...]:
        """The front of the trials within the constraints, or of all trials where none keeps them."""
        return selection.front(self.results, self.budget)

    @property
    def meets_budget(self) -> bool:
        """True where the front's members keep the constraints, or there are none."""
        return selection.is_met(self.results, self.budget)

    @property
    def reference_point(self) -> pareto.ReferencePoint | None:
        """The point that the hypervolume is measured from; None without a baseline."""
        baseline = self.baseline
        return None if baseline is None else pareto.reference_point(baseline, chance=1.0 / self.classes)

    @property
    def hypervolume(self) -> float | None:
        """The hypervolume of the members that keep the constraints; None without a baseline."""
        point = self.reference_point
        fitting = selection.within(self.front, self.budget)
        return None if point is None else pareto.hypervolume(pareto.objectives(fitting), point)


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
        source=facts.source,
        network=space.model.network,
        data=facts.data,
        classes=facts.classes,
        results=results,
        validation_samples=facts.validation_samples,
        test_samples=facts.test_samples,
        seconds=facts.seconds,
        command=facts.command,
        environment=read_environment(folder),
        test_accuracy=read_latest_test_accuracies(folder),
        budget=selection.Budget.of(space.constraints),
    )
