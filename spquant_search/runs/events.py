"""Events of a running search, told to a watcher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from spquant_search.runs.results import EpochMetrics, TrialResult
from spquant_search.runs.selection import Budget
from spquant_search.runs.work import Part, PartWork
from spquant_search.space.objectives import DEFAULT_COSTS


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchPlan:
    """The work ahead of a search; told once, before everything else."""

    run: str  # the run's name
    source: str  # the space file
    data: str  # what the data set says of itself, "simulated" included
    network: str
    time_steps: tuple[int, ...]  # of its networks: the choices of the space, the most last
    trials: int  # besides the baseline
    work: str  # all that is to be done, in words
    workers: int
    chance: float  # accuracy of a guess
    finished: tuple[TrialResult, ...]  # of an earlier start of the same run
    costs: tuple[str, ...] = DEFAULT_COSTS  # the objectives beside the accuracy
    dearest: Mapping[str, float] = field(default_factory=dict)  # configuration: what the float baseline does not have
    budget: Budget = field(default_factory=Budget)  # what members of the front must keep
    fixed: tuple[str, ...] = ()  # the objectives that no choice of the space changes
    parts: tuple[PartWork, ...] = ()  # what is left to do, in its order
    cores: int = 1  # that the trainers share
    minutes: float | None = None  # after which no further trial begins


class Watcher(Protocol):
    """Shows a search to people. Every method returns quickly and raises nothing."""

    def plan(self, plan: SearchPlan) -> None: ...

    def stage(self, text: str, done: int = 0, total: int = 0, *, part: Part | None = None) -> None:
        """Show a step outside the trials (making recordings, compiling, testing the front); ``total`` 0: unknown."""

    def started(self, task: TrialResult, epochs: int) -> None:
        """Show that a trial begins; ``task`` is its result as far as it is known: configuration, memory, no epochs."""

    def epoch(self, number: int, metrics: EpochMetrics) -> None: ...

    def finished(self, result: TrialResult) -> None: ...

    def warning(self, text: str) -> None: ...

    def close(self) -> None: ...
