"""The book of trials: which have ended, which are being tried here and elsewhere, and how many may still begin."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import takewhile

from spquant_search.driver.learning_curves import LearningCurves
from spquant_search.driver.study import PendingTrial
from spquant_search.runs.results import EpochMetrics, Origin, Outcome, TrialResult
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.search_space import SearchSpace

MAX_DUPLICATES_IN_A_ROW = 50
# A proposal over budget costs no training, and few proposals of a sampler that does not know the budget may fit.
MAX_UNTRIED_IN_A_ROW = 200
COUNTED = (Outcome.COMPLETE, Outcome.SUBNET, Outcome.STOPPED, Outcome.DIVERGED, Outcome.FAILED)
UNTRIED = (Outcome.DUPLICATE, Outcome.OVER_BUDGET)
NOT_COUNTED = (Origin.BASELINE, Origin.FINE_TUNED)  # origins of trials that the limit on trials does not count


class TrialBook:
    """A run's trials as this coordinator knows them."""

    def __init__(
        self,
        space: SearchSpace,
        results: Iterable[TrialResult],
        *,
        is_over: Callable[[NetworkConfig], bool] = lambda _config: True,
        budget_since: int = 0,
    ) -> None:
        """Begin with the results of earlier starts of the same search.

        Budgets may change between starts: ``is_over`` tells whether a configuration that was over one is so still, and
        ``budget_since`` is the number of the first trial after they became what they are.
        """
        self._space, self._is_over = space, is_over
        self._results: dict[int, TrialResult] = {}
        self._first_of: dict[NetworkConfig, int] = {}  # by configuration, its first trial that did not fail
        self._proposed: set[NetworkConfig] = set()
        self.curves = LearningCurves(space.file.search.costs)
        self._open: dict[int, PendingTrial] = {}  # being tried by this coordinator
        self._elsewhere: dict[int, PendingTrial] = {}  # being tried by other coordinators
        self._half_asked = 0  # trials of coordinators that died while they asked for them; to be taken over
        for result in results:
            self.add(result)
        # How many proposals in a row were not tried, at the end of an earlier start too: none may go on for ever.
        self._untried = self._latest_with(UNTRIED, budget_since)
        self._duplicates = self._latest_with((Outcome.DUPLICATE,), budget_since)

    @property
    def results(self) -> tuple[TrialResult, ...]:
        """The results of all trials that have ended, by number."""
        return tuple(self._results[number] for number in sorted(self._results))

    def __contains__(self, number: int) -> bool:
        """Return whether a trial has ended."""
        return number in self._results

    def __getitem__(self, number: int) -> TrialResult:
        """Return the result of a trial that has ended."""
        return self._results[number]

    def add(self, result: TrialResult) -> None:
        """Record how a trial ended."""
        self._results[result.number] = result
        self.curves.end(result)
        if self._counts_no_more(result):
            return
        self._proposed.add(result.config)
        if result.outcome is not Outcome.FAILED:
            self._first_of.setdefault(result.config, result.number)

    def _counts_no_more(self, result: TrialResult) -> bool:
        """Return whether a proposal is as if it had not been: over a budget that it keeps now, or a repeat of such."""
        if result.outcome is Outcome.OVER_BUDGET:
            return not self._is_over(result.config)
        return result.outcome is Outcome.DUPLICATE and result.config not in self._proposed

    # ------------------------------------------------------------ trials that are being tried

    def open(self, trial: PendingTrial, epochs: tuple[EpochMetrics, ...]) -> None:
        """Record that this coordinator tries a trial, of which ``epochs`` were measured before."""
        self._open[trial.number] = trial
        self.curves.begin(trial.number, epochs)

    def close(self, number: int) -> None:
        """Record that this coordinator no longer tries a trial."""
        self._open.pop(number, None)

    def is_open(self, number: int) -> bool:
        return number in self._open

    def opened(self, number: int) -> PendingTrial:
        """Return a trial that this coordinator tries."""
        return self._open[number]

    def set_elsewhere(self, trials: Iterable[PendingTrial], half_asked: int) -> None:
        """Record what other coordinators try, and how many trials were begun by one that died asking for them."""
        self._elsewhere = {trial.number: trial for trial in trials}
        self._half_asked = half_asked

    def take_over(self, number: int) -> None:
        """Record that a trial is no other coordinator's any more."""
        if self._elsewhere.pop(number, None) is None:
            self._half_asked = max(0, self._half_asked - 1)

    @property
    def others_are_trying(self) -> bool:
        """Whether some trial is known to be another coordinator's."""
        return bool(self._elsewhere)

    @property
    def others_left(self) -> int:
        """The trials that other coordinators have not ended, those of dead coordinators included."""
        return len(self._elsewhere) + self._half_asked

    # ------------------------------------------------------------ what may still be tried

    def begun(self) -> int:
        """Return how many candidates have been or are being tried."""
        origins = [result.origin for result in self._results.values() if result.outcome in COUNTED]
        origins += [trial.origin for trial in (self._open | self._elsewhere).values()]
        return sum(origin not in NOT_COUNTED for origin in origins) + self._half_asked

    def trial_of(self, config: NetworkConfig) -> int | None:
        """Return the trial that has tried a configuration, or tries it; None where there is none."""
        at_work = (self._open | self._elsewhere).items()
        return next((number for number, trial in at_work if trial.config == config), self._first_of.get(config))

    def count_tried(self) -> None:
        """Count a proposal that is tried."""
        self._duplicates = self._untried = 0

    def count_untried(self, outcome: Outcome) -> None:
        """Count a proposal that is not tried: a duplicate, or over budget."""
        self._untried += 1
        self._duplicates = self._duplicates + 1 if outcome is Outcome.DUPLICATE else 0

    def exhausted(self) -> str | None:
        """Return why no further proposal is worth asking for; None while there may be one."""
        space, at_work = self._space, {trial.config for trial in (self._open | self._elsewhere).values()}
        seen = self._proposed | at_work
        if len(seen if space.baseline() in space else seen - {space.baseline()}) >= space.size():
            return "every configuration of the space was proposed"
        if self._duplicates >= MAX_DUPLICATES_IN_A_ROW:
            return f"{self._duplicates} proposals in a row were known already"
        if self._untried >= MAX_UNTRIED_IN_A_ROW:
            return f"{self._untried} proposals in a row were over budget or known already"
        return None

    def _latest_with(self, outcomes: Collection[Outcome], since: int) -> int:
        """Return how many of the latest proposals, from the trial ``since`` on, ended with these outcomes, in a row."""
        proposed = [result for result in self.results if result.number >= since and result.origin not in NOT_COUNTED]
        latest_first = reversed(proposed)
        return sum(1 for _ in takewhile(lambda result: result.outcome in outcomes, latest_first))
