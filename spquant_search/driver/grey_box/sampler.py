"""The grey-box sampler: proposes the configuration that is expected to enlarge the front most.

Of the three objectives the memory is known before any training, the MACs are known for configurations without gates and
masks and bounded for all others, and only the rest is learned: accuracy, from readings at every fidelity, and the
logarithm of the effective MACs, each by a Gaussian process (:mod:`spquant_search.driver.grey_box.gaussian_process`).
Thousands of candidates are ranked by how much they are expected to enlarge the front's volume, with memory and MACs on
logarithmic axes, in closed form (:mod:`spquant_search.driver.grey_box.improvement`).

A proposal depends on (seed, trial number) and on the trials so far alone, so an interrupted search proposes what an
uninterrupted one would. Where the surrogate of the accuracy cannot rank the trials it has, TPE proposes instead.
"""

from __future__ import annotations

import sys
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import optuna
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import ThreadpoolController

from spquant_search.driver.grey_box.candidates import RESOLUTION, Axis, Grid, axis
from spquant_search.driver.grey_box.gaussian_process import GaussianProcess, Observations
from spquant_search.driver.grey_box.improvement import Predictions, expected_improvement, open_boxes
from spquant_search.runs.pareto import ReferencePoint, non_dominated
from spquant_search.runs.results import Origin
from spquant_search.space.address import Address
from spquant_search.space.configuration import OFF

DIRECTIONS = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE, StudyDirection.MINIMIZE)
PROPOSED_BY = "proposed_by"  # a trial's system attribute: the text of an Origin
SKILL = "skill"  # a trial's system attribute: the surrogate's rank correlation when it was asked
# Measured by benchmarks/sampler_quality.py on random trials, 20 sets each: on pure noise 1 of 20 reaches it with 10 or
# 20 trials and none with 40; on a smooth function 17 of 20 with 20 trials and all with 40.
MIN_SKILL = 0.5
MIN_TRIALS = 10
FULL = sys.maxsize  # the fidelity of a completed trial's objective
CANDIDATES = 800  # of the first round
REFINEMENTS = 8  # rounds of offspring of the best
REFINED = 200  # candidates of a refinement
PARENTS = 20  # of a refinement
MACS_OBSERVATIONS = 250  # trials from which the MACs are learned at most; they have next to no noise
LEARNED = 400  # trials that the model of accuracy learns from at most; its cost grows with the cube of them
PAIRED = 100  # completed trials that enter at a lower fidelity too, for each of them
FLOOR = 2.0  # interquartile ranges below the median; there accuracies of diverged networks are cut off
TPE_ATTEMPTS = 8
ENUMERATED = 2000  # spaces of up to so many configurations are ranked whole
EXHAUSTIBLE = 100_000  # spaces of up to so many are searched for what is left; larger ones no search exhausts

Parameters = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """An accuracy that a trial was measured to have: at an epoch, on a rung, or at its end."""

    fidelity: int
    accuracy: float


def observations_of(trial: FrozenTrial) -> tuple[Observation, ...]:
    """A trial's readings by Optuna's own fields: intermediate values by their step; at its end the first objective.

    Only completed trials have the highest fidelity, whatever their last step was.
    """
    steps = [Observation(fidelity=step, accuracy=value) for step, value in sorted(trial.intermediate_values.items())]
    if trial.state is TrialState.COMPLETE:
        steps.append(Observation(fidelity=FULL, accuracy=trial.values[0]))
    return tuple(steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownCosts:
    """What is known of a configuration before any training."""

    memory_bytes: Callable[[Sequence[Parameters]], ArrayLike]  # of each of many configurations, exact
    dense_macs: float  # of every configuration: the most that its effective MACs can be
    is_dense: Callable[[Parameters], bool]  # whether its effective MACs are the dense ones
    # The same of configurations as rows of a grid, where there is a way that is faster than one after the other.
    memory_of_rows: Callable[[Grid], Callable[[Int[np.ndarray, "row axis"]], ArrayLike]] | None = None
    dense_of_rows: Callable[[Grid], Callable[[Int[np.ndarray, "row axis"]], ArrayLike]] | None = None


def without_gates_and_masks(parameters: Parameters) -> bool:
    """Whether every sampled ``channel_mass`` is 1 and every ``skip_below`` none."""
    return all(
        value == OFF[parameter]
        for name, value in parameters.items()
        if (parameter := Address.parse(name).parameter) in OFF
    )  # fmt: skip


def rows_without_gates_and_masks(grid: Grid) -> Callable[[Int[np.ndarray, "row axis"]], Bool[np.ndarray, " row"]]:
    """The same of many rows of a grid."""
    off = [np.array([without_gates_and_masks({axis.name: one}) for one in axis.choices], bool) for axis in grid.axes]
    return lambda rows: np.all([one[rows[:, column]] for column, one in enumerate(off)], axis=0)


@cache
def _linear_algebra() -> ThreadpoolController:
    """The libraries of numpy and scipy whose threads can be limited."""
    return ThreadpoolController()


class GreyBoxSampler(BaseSampler):
    """An Optuna sampler for studies of accuracy (maximised), memory bytes and effective MACs (minimised).

    ``reference`` bounds what counts as a gain; from there halvings of memory and MACs are counted. Nothing at or beyond
    it is worth proposing, so a memory budget can be its memory: what is known to lie there is never proposed, be it by
    TPE or at random, unless no other configuration is left. Where configurations with dense MACs shall count, its MACs
    must be above the dense ones. ``space``: the distributions to sample, if known; parameters with a single value are
    left to Optuna. ``startup_trials``: so many configurations must have been read before anything is learned; until
    then proposals are random. ``readings`` tells the accuracies that a trial of any state but FAIL has shown, at which
    fidelities. ``on_fallback`` is called with a sentence when TPE proposes for the first time because the surrogate has
    no skill. Raises ValueError for fewer than one of ``startup_trials``.

    No configuration is proposed that a trial has had, or has in the queue, unless that trial failed, until the space is
    exhausted; then they are repeated. Every proposal leaves who made it in its trial's system attributes (PROPOSED_BY),
    with the surrogate's skill (SKILL) where it was measured. A trial stopped with reported values must carry a violated
    constraint, without which Optuna's TPE cannot be asked; random proposals replace it then.
    """

    def __init__(
        self,
        costs: KnownCosts,
        reference: ReferencePoint,
        *,
        seed: int,
        space: Mapping[str, BaseDistribution] | None = None,
        startup_trials: int = MIN_TRIALS,
        readings: Callable[[FrozenTrial], Sequence[Observation]] = observations_of,
        on_fallback: Callable[[str], None] | None = None,
    ) -> None:
        if startup_trials < 1:
            raise ValueError(f"startup_trials must be at least 1, got {startup_trials}")
        self._costs, self.reference, self._seed = costs, reference, seed
        self._known: dict[int, _Trial] = {}  # of trials that have ended, by number
        self._known_of: object = None  # the study and the grid that they are of
        self._space = dict(space) if space is not None else None
        self._startup_trials = startup_trials
        self._readings = readings
        self._on_fallback = on_fallback

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The space given at construction; otherwise the parameters that all finished trials with any have in common.

        Raises ValueError for a study of other objectives.
        """
        del trial
        if tuple(study.directions) != DIRECTIONS:
            directions = ", ".join(direction.name.lower() for direction in study.directions)
            raise ValueError(
                "the grey-box sampler needs three objectives, accuracy (maximize), memory bytes and effective MACs "
                f"(minimize, minimize); this study has {directions}"
            )
        space = self._space
        if space is None:
            trials = [one for one in study.get_trials(deepcopy=False) if one.distributions]
            space = optuna.search_space.intersection_search_space(trials, include_pruned=True)
        return {name: distribution for name, distribution in space.items() if not distribution.single()}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value, for parameters outside the space."""
        seed = self._generator(trial, zlib.crc32(param_name.encode())).integers(2**32)
        return RandomSampler(seed=int(seed)).sample_independent(study, trial, param_name, param_distribution)

    def _generator(self, trial: FrozenTrial, *key: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, trial.number, *key])

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The proposal. Empty where nothing is to be proposed: an enqueued trial, or a space not known yet."""
        if not search_space or search_space.keys() <= trial.system_attrs.get("fixed_params", {}).keys():
            return {}
        trials = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number]
        grid = Grid(axes=tuple(_axis(name, search_space[name]) for name in sorted(search_space)))
        bounds = _Bounds(grid=grid, costs=self._costs, at=self.reference)
        of = (study.study_name, study._study_id, [(axis.name, axis.choices) for axis in grid.axes])
        if of != self._known_of:
            self._known, self._known_of = {}, of
        history = _history(grid, trials, self._readings, bounds, self._known)
        # The matrices are small: where trainers keep the cores busy, threads that wait for each other take many times
        # as long as one does.
        with _linear_algebra().limit(limits=1, user_api="blas"):
            proposal = self._proposal(study, trial, search_space, history)
        study._storage.set_trial_system_attr(trial._trial_id, PROPOSED_BY, proposal.proposer.value)
        if proposal.skill is not None:
            study._storage.set_trial_system_attr(trial._trial_id, SKILL, proposal.skill)
        return proposal.parameters

    def _proposal(
        self, study: optuna.Study, trial: FrozenTrial, space: dict[str, BaseDistribution], history: _History
    ) -> _Proposal:
        rng = self._generator(trial)
        skill = None
        if history.configurations_read >= self._startup_trials:
            accuracy = GaussianProcess(history.readings, history.grid.kinds)
            skill = accuracy.skill(at_least=MIN_TRIALS)
            if skill is not None and skill >= MIN_SKILL:
                row = self._most_promising(history, accuracy, rng)
                return _Proposal(
                    parameters=history.grid.parameters(row[None])[0], proposer=Origin.GREY_BOX, skill=skill
                )
            if skill is not None:
                self._note_fallback(skill)
            by_tpe = _new_by_tpe(study, trial, space, history, rng) if history.fits_tpe else None
            if by_tpe is not None:
                return _Proposal(parameters=by_tpe, proposer=Origin.TPE, skill=skill)
        row = history.unseen(_drawn(history.grid, rng, CANDIDATES), rng)[0]
        return _Proposal(parameters=history.grid.parameters(row[None])[0], proposer=Origin.RANDOM, skill=skill)

    def _note_fallback(self, skill: float) -> None:
        """Say once that TPE proposes."""
        if self._on_fallback is not None:
            self._on_fallback(
                f"the grey-box sampler cannot rank the trials so far (cross-validated rank correlation {skill:.2f}, "
                f"below {MIN_SKILL:g}): TPE proposes until it can"
            )
            self._on_fallback = None

    def _most_promising(
        self, history: _History, accuracy: GaussianProcess, rng: np.random.Generator
    ) -> Int[np.ndarray, " axis"]:
        """The unseen candidate with the largest expected improvement, from a few rounds of candidates."""
        improvement_of = self._improvement(history, accuracy)
        rows = history.unseen(_first_candidates(history, rng), rng)
        best: Int[np.ndarray, " axis"] = rows[0]
        value = -np.inf
        for last in [False] * REFINEMENTS + [True]:
            improvement = improvement_of(rows)
            order = np.argsort(-improvement, kind="stable")
            if improvement[order[0]] > value:
                best, value = rows[order[0]], improvement[order[0]]
            if not last:
                rows = history.unseen(history.grid.offspring(rng, rows[order[:PARENTS]], REFINED), rng)
        return best

    def _improvement(
        self, history: _History, accuracy: GaussianProcess
    ) -> Callable[[Int[np.ndarray, "row axis"]], Float[np.ndarray, " row"]]:
        """The expected improvement of rows, running trials taken as if they had ended as predicted."""
        macs = _macs_process(history, self._costs.dense_macs)
        points = history.points
        if len(history.running):
            running = self._predictions(history, history.running, accuracy, macs)
            predicted = np.stack([running.accuracy, running.memory_bytes, np.exp(running.log_macs)], axis=1)
            points = np.concatenate([points, predicted])
        boxes = open_boxes(points, self.reference)
        condition_on_predictions = accuracy.condition_on_predictions(history.grid.features(history.running))

        def improvement_of(rows: Int[np.ndarray, "row axis"]) -> Float[np.ndarray, " row"]:
            predictions = self._predictions(history, rows, condition_on_predictions, macs)
            return expected_improvement(predictions, boxes, dense_macs=self._costs.dense_macs)

        return improvement_of

    def _predictions(
        self,
        history: _History,
        rows: Int[np.ndarray, "row axis"],
        accuracy: GaussianProcess,
        macs: GaussianProcess | None,
    ) -> Predictions:
        features = history.grid.features(rows)
        mean, deviation = accuracy.predict(features)
        log_macs = np.zeros(len(rows))
        log_deviation = np.zeros(len(rows))
        if macs is not None:
            sparse = ~history.bounds.dense(rows)
            log_macs[sparse], log_deviation[sparse] = macs.predict(features[sparse])
        return Predictions(
            accuracy=mean,
            accuracy_deviation=deviation,
            memory_bytes=history.bounds.memory(rows),
            log_macs=np.log(self._costs.dense_macs) + np.minimum(log_macs, 0.0),
            log_macs_deviation=log_deviation,
        )


# ---------------------------------------------------------------- what is known so far


@dataclass(frozen=True, kw_only=True, slots=True)
class _Proposal:
    parameters: dict[str, Any]
    proposer: Origin
    skill: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _History:
    """A study's trials as arrays; those that lie in the space, but for ``points``.

    Nothing that a proposal is made from depends on the order in which trials ran.
    """

    grid: Grid
    readings: Observations
    points: Float[np.ndarray, "member 3"]  # the front of all completed trials that keep their constraints
    front: Int[np.ndarray, "member axis"]  # those of its members that lie in the space
    complete: Int[np.ndarray, "trial axis"]
    effective_macs: Float[np.ndarray, " trial"]  # of `complete`
    running: Int[np.ndarray, "trial axis"]
    taken: frozenset[bytes]  # rows that are not to be proposed again
    fits_tpe: bool
    bounds: _Bounds

    @property
    def configurations_read(self) -> int:
        return len(np.unique(self.readings.configuration))

    def unseen(self, rows: Int[np.ndarray, "row axis"], rng: np.random.Generator) -> Int[np.ndarray, "row axis"]:
        """Those of ``rows``, brought within the bounds, that no trial has had, each once.

        Where none is: every other one that is left in the space; and once the space is exhausted those of ``rows``
        within the bounds, to be repeated.
        """
        rows = self.bounds.shrink_to_budget(rows, rng)
        new = self._new(rows)
        if len(new):
            return new
        rest = self.grid.every() if self.grid.count <= EXHAUSTIBLE else self.grid.uniform(rng, ENUMERATED)
        rest = self._new(self.bounds.shrink_to_budget(rest, rng))
        if len(rest):
            return rng.permutation(rest)
        held = rows[self.bounds.feasible(rows)]
        return held if len(held) else rows

    def _new(self, rows: Int[np.ndarray, "row axis"]) -> Int[np.ndarray, "row axis"]:
        found = {_key(row): row for row in rows[self.bounds.feasible(rows)]}
        new = [row for key, row in found.items() if key not in self.taken]
        return np.array(new, int).reshape(-1, rows.shape[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bounds:
    """What lies within the reference, as far as that is known before any training."""

    grid: Grid
    costs: KnownCosts
    at: ReferencePoint
    _memory_of: Callable[[Int[np.ndarray, "row axis"]], ArrayLike] = field(init=False, repr=False)
    _dense_of: Callable[[Int[np.ndarray, "row axis"]], ArrayLike] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        memory_of, dense_of = self.costs.memory_of_rows, self.costs.dense_of_rows
        memory = lambda rows: self.costs.memory_bytes(self.grid.parameters(rows))  # noqa: E731
        dense = lambda rows: [self.costs.is_dense(one) for one in self.grid.parameters(rows)]  # noqa: E731
        object.__setattr__(self, "_memory_of", memory if memory_of is None else memory_of(self.grid))
        object.__setattr__(self, "_dense_of", dense if dense_of is None else dense_of(self.grid))

    def feasible(self, rows: Int[np.ndarray, "row axis"]) -> Bool[np.ndarray, " row"]:
        """Which rows have less memory than the reference, and are not known to have as many MACs."""
        kept = ~self._too_large(rows)
        if self.costs.dense_macs < self.at.effective_macs:
            return kept
        return np.asarray(kept & ~self.dense(rows))

    def dense(self, rows: Int[np.ndarray, "row axis"]) -> Bool[np.ndarray, " row"]:
        """Which rows are known to have as many MACs as the network has."""
        return np.asarray(self._dense_of(rows), bool)

    def shrink_to_budget(
        self, rows: Int[np.ndarray, "row axis"], rng: np.random.Generator
    ) -> Int[np.ndarray, "row axis"]:
        """``rows``, those with too much memory with as few random parameters at their smallest choice as suffices.

        Under a tight budget next to no configuration drawn at random would fit.
        """
        large = np.flatnonzero(self._too_large(rows))
        if not len(large):
            return rows
        smallest, matters = self._smallest(rows[large[0]])
        rank = rng.permuted(np.tile(np.arange(rows.shape[1]), (len(large), 1)), axis=1)
        few, many = np.zeros(len(large), int), np.full(len(large), rows.shape[1])  # too few to change, and enough
        for _ in range(rows.shape[1].bit_length()):
            middle = (few + many) // 2
            too_few = self._too_large(np.where((rank < middle[:, None]) & matters, smallest, rows[large]))
            few, many = np.where(too_few, middle, few), np.where(too_few, many, middle)
        found: Int[np.ndarray, "row axis"] = rows.copy()
        found[large] = np.where((rank < many[:, None]) & matters, smallest, rows[large])
        return found

    def _smallest(self, row: Int[np.ndarray, " axis"]) -> tuple[Int[np.ndarray, " axis"], Bool[np.ndarray, " axis"]]:
        """The choice of every parameter that takes least memory, one after the other from ``row`` on.

        And which parameters have choices that differ in it: a mask's cut, for one, costs none.
        """
        smallest, matters = row.copy(), np.zeros(len(row), bool)
        for place, size in enumerate(self.grid.sizes):
            tried = np.tile(smallest, (size, 1))
            tried[:, place] = np.arange(size)
            memory = self.memory(tried)
            smallest[place], matters[place] = int(np.argmin(memory)), memory.min() < memory.max()
        return smallest, matters

    def memory(self, rows: Int[np.ndarray, "row axis"]) -> Float[np.ndarray, " row"]:
        """Bytes of every row."""
        return np.asarray(self._memory_of(rows), float)

    def _too_large(self, rows: Int[np.ndarray, "row axis"]) -> Bool[np.ndarray, " row"]:
        return np.asarray(self.memory(rows) >= self.at.memory_bytes, bool)


def _key(row: Int[np.ndarray, " axis"]) -> bytes:
    return row.astype(np.int32).tobytes()


@dataclass(frozen=True, slots=True)
class _Trial:
    """What of a trial is looked at in every proposal; once the trial has ended it does not change."""

    state: TrialState
    values: Sequence[float] | None  # of a completed one
    row: Int[np.ndarray, " axis"] | None  # None where it does not lie in the space
    key: bytes
    is_feasible: bool
    has_curve: bool  # of intermediate values


def _trials_of(grid: Grid, trials: Sequence[FrozenTrial], known: dict[int, _Trial]) -> list[_Trial]:
    """``known`` has those that have ended, by number; those that it lacks are added."""
    names = {axis.name for axis in grid.axes}
    found = [known.get(one.number) for one in trials]
    new = [at for at, kept in enumerate(found) if kept is None]
    rows = iter(grid.rows([trials[at].params for at in new if names <= trials[at].params.keys()]))
    for at in new:
        one = trials[at]
        row = next(rows) if names <= one.params.keys() else None
        found[at] = kept = _Trial(
            state=one.state,
            values=one.values if one.state is TrialState.COMPLETE else None,
            row=row,
            key=b"" if row is None else _key(row),
            is_feasible=_is_feasible(one),
            has_curve=bool(one.intermediate_values),
        )
        if one.state.is_finished() and one.number >= 0:
            known[one.number] = kept
    return [kept for kept in found if kept is not None]


def _history(
    grid: Grid,
    trials: Sequence[FrozenTrial],
    readings: Callable[[FrozenTrial], Sequence[Observation]],
    bounds: _Bounds,
    known: dict[int, _Trial] | None = None,
) -> _History:
    """``known``: as :func:`_trials_of`."""
    every = _trials_of(grid, trials, {} if known is None else known)
    inside = [at for at, one in enumerate(every) if one.row is not None and one.state is not TrialState.FAIL]
    lying = [every[at] for at in inside]
    rows = np.array([one.row for one in lying], int).reshape(-1, len(grid.axes))
    waiting = [trial for trial, one in zip(trials, every, strict=True) if one.state is TrialState.WAITING]
    queued = [trial.system_attrs.get("fixed_params", {}) for trial in waiting]
    taken = [one.key for one in lying] + [*map(_key, grid.rows([one for one in queued if grid.holds(one)]))]
    complete = np.array([one.state is TrialState.COMPLETE for one in lying], bool)
    candidates = [at for at, one in enumerate(every) if one.state is TrialState.COMPLETE and one.is_feasible]
    points = np.array([every[at].values for at in candidates], float).reshape(-1, 3)
    best = non_dominated(points)
    members = {at for at, is_best in zip(candidates, best, strict=True) if is_best}
    learned = _informative(lying, rows)
    return _History(
        grid=grid,
        readings=_gathered(grid.features(rows[learned]), [readings(trials[inside[index]]) for index in learned]),
        points=np.unique(points[best], axis=0),
        front=np.unique(rows[[at in members for at in inside]], axis=0),
        complete=rows[complete],
        effective_macs=np.array([one.values[2] for one in lying if one.values is not None], float),
        running=np.unique(rows[[one.state is TrialState.RUNNING for one in lying]], axis=0),
        taken=frozenset(taken),
        fits_tpe=not any(one.is_feasible and one.has_curve and one.state is TrialState.PRUNED for one in every),
        bounds=bounds,
    )


def _informative(trials: Sequence[_Trial], rows: Int[np.ndarray, "trial axis"]) -> Int[np.ndarray, " learned"]:
    """Which trials the model of accuracy learns from: all, or of very many those near the front and others evenly.

    How near: how much accuracy a completed trial is below the best of those with no more memory, or with no more
    operations, whichever it lacks less. One half is taken in this order, the other evenly from what is left.
    """
    if len(trials) <= LEARNED:
        return np.arange(len(trials))
    complete = np.array([one.state is TrialState.COMPLETE for one in trials], bool)
    values = np.array([one.values for one in trials if one.values is not None], float).reshape(-1, 3)
    lacks = np.full(len(trials), np.inf)
    lacks[complete] = np.minimum(_below_best(values[:, 0], values[:, 1]), _below_best(values[:, 0], values[:, 2]))
    order = np.lexsort((*rows.T, lacks))
    near, rest = order[: LEARNED // 2], order[LEARNED // 2 :]
    evenly = rest[np.unique(np.linspace(0, len(rest) - 1, LEARNED - len(near)).astype(int))]
    return np.sort(np.concatenate([near, evenly]))


def _below_best(
    accuracy: Float[np.ndarray, " trial"], cost: Float[np.ndarray, " trial"]
) -> Float[np.ndarray, " trial"]:
    """How far each accuracy is below the best at the same cost or less."""
    order = np.lexsort((-accuracy, cost))
    below = np.empty(len(accuracy))
    below[order] = np.maximum.accumulate(accuracy[order]) - accuracy[order]
    return below


def _is_feasible(trial: FrozenTrial) -> bool:
    return all(violation <= 0 for violation in trial.constraints.values())


def _gathered(features: Float[np.ndarray, "trial feature"], found: Sequence[Sequence[Observation]]) -> Observations:
    """The readings that the model learns from: each trial's highest, and those that show what a lower one is worth.

    Trials that were read at the highest fidelity of all enter also at the fidelities at which others ended, 100 trials
    a fidelity at most (evenly from the least to the most accurate): the pairs that tell offset, scale and noise.
    """
    ladders = [{one.fidelity: one.accuracy for one in readings if np.isfinite(one.accuracy)} for readings in found]
    highest = [max(ladder, default=None) for ladder in ladders]
    fidelities = sorted({fidelity for fidelity in highest if fidelity is not None}, reverse=True)
    chosen = [(trial, fidelity) for trial, fidelity in enumerate(highest) if fidelity is not None]
    top = [trial for trial, fidelity in enumerate(highest) if fidelities and fidelity == fidelities[0]]
    top.sort(key=lambda trial: (ladders[trial][fidelities[0]], *features[trial]))
    for fidelity in fidelities[1:]:
        both = [trial for trial in top if fidelity in ladders[trial]]
        kept = np.unique(np.linspace(0, len(both) - 1, min(PAIRED, len(both))).astype(int))
        chosen += [(both[i], fidelity) for i in kept]
    trials = np.array([trial for trial, _ in chosen], int)
    values = np.array([ladders[trial][fidelity] for trial, fidelity in chosen], float)
    lower = np.array([fidelities.index(fidelity) for _, fidelity in chosen], int)
    return Observations(features=features[trials], values=_floored(values, lower), lower=lower, configuration=trials)


def _floored(
    values: Float[np.ndarray, " reading"], lower: Int[np.ndarray, " reading"]
) -> Float[np.ndarray, " reading"]:
    """``values`` with none more than two interquartile ranges below the median of its fidelity.

    How far below the others a diverged network ends says nothing of its neighbours, and would bend the model for all.
    """
    floored = values.copy()
    for fidelity in np.unique(lower):
        here = lower == fidelity
        quarter, median, three_quarters = np.quantile(values[here], [0.25, 0.5, 0.75])
        floored[here] = np.maximum(values[here], median - FLOOR * (three_quarters - quarter))
    return floored


def _macs_process(history: _History, dense_macs: float) -> GaussianProcess | None:
    """A model of log(effective / dense MACs); None where no trial has shown that they differ."""
    logs = np.log(np.clip(history.effective_macs, 1e-9 * dense_macs, None) / dense_macs)
    if not np.any(logs):
        return None
    order = np.lexsort((*history.complete.T, logs))
    kept = order[np.unique(np.linspace(0, len(logs) - 1, min(len(logs), MACS_OBSERVATIONS)).astype(int))]
    readings = Observations(
        features=history.grid.features(history.complete[kept]),
        values=logs[kept],
        lower=np.zeros(len(kept), int),
        configuration=np.arange(len(kept)),
    )
    return GaussianProcess(readings, history.grid.kinds)


# ---------------------------------------------------------------- candidates


def _drawn(grid: Grid, rng: np.random.Generator, count: int) -> Int[np.ndarray, "row axis"]:
    """Random configurations, every other one leaning to one end."""
    return rng.permutation(np.concatenate([grid.uniform(rng, count - count // 2), grid.tilted(rng, count // 2)]))


def _first_candidates(history: _History, rng: np.random.Generator) -> Int[np.ndarray, "row axis"]:
    """A third random, the rest offspring of the front; all configurations of a small space."""
    if history.grid.count <= ENUMERATED:
        return history.grid.every()
    drawn = _drawn(history.grid, rng, CANDIDATES // 3)
    parents = history.front if len(history.front) else drawn
    return np.concatenate([drawn, history.grid.offspring(rng, parents, CANDIDATES - len(drawn))])


def _new_by_tpe(
    study: optuna.Study,
    trial: FrozenTrial,
    space: dict[str, BaseDistribution],
    history: _History,
    rng: np.random.Generator,
) -> dict[str, Any] | None:
    """What TPE proposes in a few attempts that lies within the bounds and no trial has had; None where nothing does."""
    for seed in rng.integers(2**32, size=TPE_ATTEMPTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            tpe = TPESampler(seed=int(seed), n_startup_trials=0, multivariate=True)
        proposed = tpe.sample_relative(study, trial, space)
        row = history.grid.rows([proposed])
        if _key(row[0]) not in history.taken and history.bounds.feasible(row)[0]:
            return proposed
    return None


def _axis(name: str, distribution: BaseDistribution) -> Axis:
    if isinstance(distribution, CategoricalDistribution):
        return axis(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        whole = range(distribution.low, distribution.high + 1, distribution.step)
        kept = np.unique(np.linspace(0, len(whole) - 1, min(len(whole), RESOLUTION)).astype(int))
        return axis(name, [whole[i] for i in kept])
    if not isinstance(distribution, FloatDistribution):
        raise AssertionError(distribution)
    if distribution.step is not None:
        count = round((distribution.high - distribution.low) / distribution.step) + 1
        return axis(name, [round(distribution.low + i * distribution.step, 10) for i in range(count)])
    spaced = np.geomspace if distribution.log else np.linspace
    return axis(name, [float(value) for value in spaced(distribution.low, distribution.high, RESOLUTION)])
