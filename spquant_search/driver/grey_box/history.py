"""A study's trials as arrays, and the configurations that no trial has had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from optuna.trial import FrozenTrial, TrialState

from spquant_search.driver.grey_box.bounds import Bounds
from spquant_search.driver.grey_box.candidates import Grid
from spquant_search.driver.grey_box.gaussian_process import Observations
from spquant_search.driver.grey_box.observations import ObservationsOf, gather_observations, informative_trials
from spquant_search.driver.grey_box.trial_summaries import TrialSummary, row_key, summarise_trials
from spquant_search.runs.pareto import non_dominated

ENUMERATED = 2000  # all configurations of spaces of up to this size are ranked
EXHAUSTIBLE = 100_000  # spaces of up to this size are searched for what is left; no search exhausts a larger one


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """A study's trials as arrays. All but ``points`` are of trials that lie in the space.

    Nothing from which a proposal is made depends on the order in which trials ran.
    """

    grid: Grid
    observations: Observations
    points: Float[np.ndarray, "member objective"]  # the front of all completed trials that keep their constraints
    front: Int[np.ndarray, "inside axis"]  # the front's members that lie in the space
    complete: Int[np.ndarray, "trial axis"]
    # The costs of `complete` that are not known of every row, objectives and others with a limit (there NaN: unknown).
    learned: Mapping[str, Float[np.ndarray, " trial"]]
    running: Int[np.ndarray, "pending axis"]
    taken: frozenset[bytes]  # rows that are not to be proposed again
    fits_tpe: bool  # whether TPE can be asked, which fails on some pruned trials
    bounds: Bounds

    @property
    def observed_configurations(self) -> int:
        """How many configurations have an observation."""
        return len(np.unique(self.observations.configuration))

    def unseen(self, rows: Int[np.ndarray, "row axis"], rng: np.random.Generator) -> Int[np.ndarray, "new axis"]:
        """Bring ``rows`` within the bounds, and return those that no trial has had, each once.

        Where there are none, return all others that are left in the space. Once the space is exhausted, return those
        of ``rows`` that lie within the bounds, to be repeated.
        """
        rows = self.bounds.shrink_to_budget(rows, rng)
        new = self._new(rows)
        if len(new):
            return new
        rest = self.grid.all_rows() if self.grid.count <= EXHAUSTIBLE else self.grid.uniform(rng, ENUMERATED)
        rest = self._new(self.bounds.shrink_to_budget(rest, rng))
        if len(rest):
            return rng.permutation(rest)
        feasible = rows[self.bounds.feasible(rows)]
        return feasible if len(feasible) else rows

    def _new(self, rows: Int[np.ndarray, "row axis"]) -> Int[np.ndarray, "new axis"]:
        found = {row_key(row): row for row in rows[self.bounds.feasible(rows)]}
        new = [row for key, row in found.items() if key not in self.taken]
        return np.array(new, int).reshape(-1, rows.shape[1])


def history_of(
    grid: Grid,
    trials: Sequence[FrozenTrial],
    observations_of: ObservationsOf,
    bounds: Bounds,
    known: dict[int, TrialSummary] | None = None,
) -> History:
    """Return a study's trials as arrays; ``known``: see :func:`summarise_trials`."""

    def was_tried(trial: FrozenTrial) -> bool:
        return observations_of(trial) is not None

    summaries = summarise_trials(grid, trials, {} if known is None else known, was_tried)
    places = [
        place for place, trial in enumerate(summaries) if trial.row is not None and trial.state is not TrialState.FAIL
    ]
    inside = [summaries[place] for place in places]
    rows = np.array([trial.row for trial in inside], int).reshape(-1, len(grid.axes))
    complete = np.array([trial.state is TrialState.COMPLETE for trial in inside], bool)
    names = tuple(bounds.reference.costs)
    points, members = _front_of(summaries, objectives=1 + len(names))
    values = np.array([trial.values for trial in inside if trial.values is not None], float).reshape(-1, 1 + len(names))
    learned = informative_trials(inside, rows)
    return History(
        grid=grid,
        observations=gather_observations(
            grid.features(rows[learned]), [observations_of(trials[places[index]]) or () for index in learned]
        ),
        points=np.unique(points, axis=0),
        front=np.unique(rows[[place in members for place in places]], axis=0),
        complete=rows[complete],
        learned={name: values[:, 1 + names.index(name)] for name in bounds.learned} | _limited_costs(inside, bounds),
        running=np.unique(rows[[trial.state is TrialState.RUNNING for trial in inside]], axis=0),
        taken=frozenset([*(trial.key for trial in inside if trial.was_tried), *_queued_keys(grid, trials, summaries)]),
        fits_tpe=not any(
            trial.is_feasible and trial.has_curve and trial.state is TrialState.PRUNED for trial in summaries
        ),
        bounds=bounds,
    )


def _limited_costs(trials: Sequence[TrialSummary], bounds: Bounds) -> dict[str, Float[np.ndarray, " trial"]]:
    """Return the costs of completed trials that are no objective and have a limit, from how far beyond it they are."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    return {
        name: np.array([limit * (1 + trial.constraints.get(name, np.nan)) for trial in complete], float)
        for name, limit in bounds.limited.items()
    }


def _front_of(
    summaries: Sequence[TrialSummary], *, objectives: int
) -> tuple[Float[np.ndarray, "member objective"], set[int]]:
    """Return the front of all completed trials that keep their constraints: its points, and its places in the list."""
    places = [
        place for place, trial in enumerate(summaries) if trial.state is TrialState.COMPLETE and trial.is_feasible
    ]
    points = np.array([summaries[place].values for place in places], float).reshape(-1, objectives)
    is_best = non_dominated(points)
    return points[is_best], {place for place, best in zip(places, is_best, strict=True) if best}


def _queued_keys(grid: Grid, trials: Sequence[FrozenTrial], summaries: Sequence[TrialSummary]) -> list[bytes]:
    """Return the rows of trials that are queued and lie in the space."""
    waiting = [trial for trial, summary in zip(trials, summaries, strict=True) if summary.state is TrialState.WAITING]
    queued = [trial.system_attrs.get("fixed_params", {}) for trial in waiting]
    return [*map(row_key, grid.rows([values for values in queued if grid.holds(values)]))]
