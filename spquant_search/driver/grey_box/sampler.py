"""The grey-box sampler: proposes the configuration that is expected to enlarge the front most.

Of the objectives some are known before any training, as the bytes are; others are known of some configurations and
bounded for the rest, as the operations are, which are dense without gates and masks. Only what is left is learned:
accuracy, from observations at every fidelity, and the logarithm of such a cost, each by a Gaussian process
(:mod:`spquant_search.driver.grey_box.gaussian_process`). Thousands of candidates are ranked by how much they are
expected to enlarge the front's volume, with the costs on logarithmic axes, in closed form
(:mod:`spquant_search.driver.grey_box.improvement`).

A proposal depends on (seed, trial number) and on the trials so far alone, so an interrupted search proposes what an
uninterrupted one would. Where the surrogate of the accuracy cannot rank the trials it has, TPE proposes instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from threadpoolctl import ThreadpoolController

from spquant_search.driver.grey_box.bounds import Bounds, KnownCosts
from spquant_search.driver.grey_box.candidates import Grid
from spquant_search.driver.grey_box.distribution_axes import axis_of
from spquant_search.driver.grey_box.gaussian_process import GaussianProcess
from spquant_search.driver.grey_box.history import History, history_of
from spquant_search.driver.grey_box.observations import ObservationsOf, observations_of
from spquant_search.driver.grey_box.proposals import most_promising, proposal_by_tpe, random_candidate
from spquant_search.driver.grey_box.trial_summaries import TrialSummary
from spquant_search.runs.pareto import ReferencePoint
from spquant_search.runs.random_streams import Purpose, derived_seed_of_32_bits, random_generator
from spquant_search.runs.results import Origin

PROPOSED_BY = "proposed_by"  # a trial's system attribute: the text of an Origin
SKILL = "skill"  # a trial's system attribute: the surrogate's rank correlation when it was asked
# Measured by benchmarks/sampler_quality.py on random trials, 20 sets each: on pure noise 1 of 20 reaches it with 10 or
# 20 trials and none with 40; on a smooth function 17 of 20 with 20 trials and all with 40.
MIN_SKILL = 0.5
MIN_TRIALS = 10


@cache
def _linear_algebra() -> ThreadpoolController:
    """Find the libraries of numpy and scipy whose threads can be limited."""
    return ThreadpoolController()


class GreyBoxSampler(BaseSampler):
    """An Optuna sampler for studies of accuracy (maximised) and one or two costs (minimised).

    No configuration is proposed that a trial has had, or has in the queue, unless that trial failed, until the space is
    exhausted; then configurations are repeated. Every proposal stores its proposer in its trial's system attributes
    (PROPOSED_BY), and the surrogate's skill (SKILL) where it was measured. A trial stopped with reported values must
    carry a violated constraint, without which Optuna's TPE cannot be asked; random proposals then replace TPE's.
    """

    def __init__(
        self,
        costs: KnownCosts,
        reference: ReferencePoint,
        *,
        seed: int,
        space: Mapping[str, BaseDistribution] | None = None,
        startup_trials: int = MIN_TRIALS,
        observations: ObservationsOf = observations_of,
        on_fallback: Callable[[str], None] | None = None,
    ) -> None:
        """Make a sampler.

        Args:
            costs: what is known before any training of the costs that ``reference`` names, and of others with a limit.
            reference: bounds what counts as a gain, and from it halvings of the costs are counted; the study's
                objectives are the accuracy and these costs, in this order. What is known to lie at or beyond it is
                never proposed, unless no other configuration is left: its memory can be a budget. Where configurations
                with dense operations are to count, its operations must be above the dense ones.
            seed: of the whole study; a proposal depends on it and on the trial's number.
            space: the distributions to sample, if known; parameters with a single value are left to Optuna.
            startup_trials: so many configurations must have an observation before anything is learned; until then
                proposals are random.
            observations: returns the observations of a trial of any state but FAIL, None where it has not tried its
                configuration, which then may be proposed again.
            on_fallback: called with a sentence when TPE proposes for the first time because the surrogate has no skill.

        Raises:
            ValueError: ``startup_trials`` is less than 1.
        """
        if startup_trials < 1:
            raise ValueError(f"startup_trials must be at least 1, got {startup_trials}")
        self._costs, self.reference, self._seed = costs, reference, seed
        self._summaries: dict[int, TrialSummary] = {}  # of trials that have ended, by number
        self._summarised: object = None  # the study and the grid of these trials
        self._space = dict(space) if space is not None else None
        self._startup_trials = startup_trials
        self._observations_of = observations
        self._on_fallback = on_fallback

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the space given at construction, or else the parameters that all finished trials with any share.

        Raises:
            ValueError: the study has other objectives.
        """
        del trial
        names = tuple(self.reference.costs)
        if study.directions != [StudyDirection.MAXIMIZE, *(StudyDirection.MINIMIZE for _ in names)]:
            directions = ", ".join(direction.name.lower() for direction in study.directions)
            raise ValueError(
                f"the grey-box sampler needs {1 + len(names)} objectives, accuracy (maximize), "
                f"{' and '.join(names)} (minimize); this study has {directions}"
            )
        space = self._space
        if space is None:
            trials = [other for other in study.get_trials(deepcopy=False) if other.distributions]
            space = optuna.search_space.intersection_search_space(trials, include_pruned=True)
        return {name: distribution for name, distribution in space.items() if not distribution.single()}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a random value, for parameters outside the space."""
        seed = derived_seed_of_32_bits(self._seed, Purpose.PARAMETER, trial.number, *param_name.encode())
        return RandomSampler(seed=seed).sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose a configuration; return nothing for a trial that was queued, or while the space is not known."""
        if not search_space or search_space.keys() <= trial.system_attrs.get("fixed_params", {}).keys():
            return {}
        history = self._history(study, trial, search_space)
        # The matrices are small: where trainers keep the cores busy, threads that wait for each other take many times
        # as long as a single thread.
        with _linear_algebra().limit(limits=1, user_api="blas"):
            proposal = self._proposal(study, trial, search_space, history)
        study._storage.set_trial_system_attr(trial._trial_id, PROPOSED_BY, proposal.proposer.value)
        if proposal.skill is not None:
            study._storage.set_trial_system_attr(trial._trial_id, SKILL, proposal.skill)
        return proposal.parameters

    def _history(self, study: optuna.Study, trial: FrozenTrial, space: dict[str, BaseDistribution]) -> History:
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        grid = Grid(axes=tuple(axis_of(name, space[name]) for name in sorted(space)))
        summarised = (study.study_name, study._study_id, [(axis.name, axis.choices) for axis in grid.axes])
        if summarised != self._summarised:
            self._summaries, self._summarised = {}, summarised
        bounds = Bounds(grid, self._costs, self.reference)
        return history_of(grid, others, self._observations_of, bounds, self._summaries)

    def _proposal(
        self, study: optuna.Study, trial: FrozenTrial, space: dict[str, BaseDistribution], history: History
    ) -> _Proposal:
        rng = random_generator(self._seed, Purpose.GREY_BOX, trial.number)
        skill = None
        if history.observed_configurations >= self._startup_trials:
            accuracy = GaussianProcess(history.observations, history.grid.kinds)
            skill = accuracy.skill(at_least=MIN_TRIALS)
            if skill is not None and skill >= MIN_SKILL:
                row = most_promising(history, accuracy, rng)
                return _Proposal(
                    parameters=history.grid.parameters(row[None])[0], proposer=Origin.GREY_BOX, skill=skill
                )
            if skill is not None:
                self._note_fallback(skill)
            by_tpe = proposal_by_tpe(study, trial, space, history, rng) if history.fits_tpe else None
            if by_tpe is not None:
                return _Proposal(parameters=by_tpe, proposer=Origin.TPE, skill=skill)
        row = random_candidate(history, rng)
        return _Proposal(parameters=history.grid.parameters(row[None])[0], proposer=Origin.RANDOM, skill=skill)

    def _note_fallback(self, skill: float) -> None:
        """Say once that TPE proposes."""
        if self._on_fallback is not None:
            self._on_fallback(
                f"the grey-box sampler cannot rank the trials so far (cross-validated rank correlation {skill:.2f}, "
                f"below {MIN_SKILL:g}): TPE proposes until it can"
            )
            self._on_fallback = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Proposal:
    """A configuration to try, and who proposes it with which skill of the surrogate."""

    parameters: dict[str, Any]
    proposer: Origin
    skill: float | None
