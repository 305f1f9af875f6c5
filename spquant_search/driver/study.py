"""The Optuna study in a run's folder: the only module that knows how Optuna stores a trial.

Optuna refuses ``report`` and ``should_prune`` with several objectives, and TPE fails on a pruned trial that has
intermediate values unless that trial also carries a violated constraint. So accuracies go to the storage as
intermediate values, and a trial that did not complete is told as PRUNED with the constraint ``not_completed``.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from spquant_search.costs.device import Architecture
from spquant_search.costs.extremes import dearest_figures
from spquant_search.costs.memory import cost_report
from spquant_search.driver.grey_box.observations import Observation, observations_of
from spquant_search.driver.grey_box.sampler import PROPOSED_BY, GreyBoxSampler
from spquant_search.driver.known_costs import known_costs
from spquant_search.driver.optuna_samplers import distributions, new_sampler, quiet_optuna
from spquant_search.driver.storage.protocol import Storage
from spquant_search.runs.pareto import MEASURED, REFERENCE_SLACK, ReferencePoint, figure, reference_at
from spquant_search.runs.results import BASELINE, Origin, Outcome, TrialResult
from spquant_search.runs.selection import Budget, beyond, sampler_reference, worthwhile_share
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.search_space import SearchSpace
from spquant_search.space.shapes import LayerShape

BUDGET = "budget"  # the study's user attribute with the budgets of its latest start
UNTRIED = tuple(outcome.name for outcome in Outcome if not outcome.is_tried)
CONSTRAINTS = "constraints"  # the system attribute with all of them, and how the name of each begins
CONSTRAINT, FLOATS = "not_completed", "keeps_floats"
ORIGIN, PARENT, OUTCOME = "origin", "parent", "outcome"  # a trial's user attributes


def study_in(storage: Storage) -> optuna.Study:
    """Load the study that a run's storage holds."""
    with quiet_optuna():
        return optuna.load_study(study_name=storage.study_name, storage=storage.optuna)


def trial_in(study: optuna.Study, number: int) -> optuna.trial.Trial:
    """Return a trial of any state as an object to which notes can be attached."""
    frozen = study.get_trials(deepcopy=False)[number]
    return optuna.trial.Trial(study, frozen._trial_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingTrial:
    """A trial that Optuna has handed out."""

    number: int
    trial_id: int
    origin: Origin
    config: NetworkConfig
    parent: int | None = None  # the trial whose subnet is to be fine-tuned


class Study:
    """A search's trials in Optuna, in the terms of this package."""

    def __init__(
        self,
        storage: Storage,
        space: SearchSpace,
        shapes: Sequence[LayerShape],
        *,
        chance: float,
        architecture: Architecture | None = None,
        results: Sequence[TrialResult] = (),
        note: Callable[[str], None] = lambda _words: None,
    ) -> None:
        """Open the study in ``storage``, or begin it; ``note`` is called once where TPE stands in for the sampler.

        ``results`` are those of the trials that have ended: whether they keep the budgets is found anew, as the budgets
        may be others than when Optuna was told of them.
        """
        self._space, self._search = space, space.file.search
        baseline = cost_report(shapes, space.baseline())
        self._budget = Budget.of(space.file.constraints)
        # So that nothing that is known to break a budget is proposed; those of objectives move the reference point.
        limits = {name: beyond(name, bound) for name, bound in self._budget.costs().items()}
        known = known_costs(space, shapes, architecture)
        self._costs = {name: replace(cost, limit=limits.get(name)) for name, cost in known.items()}
        dearest = dearest_figures(space, shapes, architecture)
        self._reference = reference_at(baseline, self._search.costs, chance=chance, dearest=dearest)
        self._note: Callable[[str], None] | None = note
        self._distributions = distributions(space)
        self._sampled = {address: options for address, options in space.choices().items() if len(options) > 1}
        self._grey_box: GreyBoxSampler | None = None
        self._baseline: Sequence[float] | None = None  # its objectives, once they are known
        self._storage = storage
        self.budget_since = 0  # the number of the first trial after the budgets became what they are
        self.budget_ladder: tuple[NetworkConfig, ...] = ()  # tried after the references, before anything is sampled
        with quiet_optuna():
            self._study: optuna.Study = storage.decide(self._begun)
        by_number = {result.number: result for result in results}
        for trial in self._study.get_trials(deepcopy=False):
            self._keep_once(trial)
            if trial.state is TrialState.COMPLETE and trial.number in by_number:
                _replace_constraints(trial, _violations(by_number[trial.number], self._budget, self._search.objectives))

    def _begun(self) -> optuna.Study:
        study = optuna.create_study(
            study_name=self._storage.study_name,
            storage=self._storage.optuna,
            directions=[StudyDirection.MAXIMIZE, *(StudyDirection.MINIMIZE for _ in self._search.costs)],
            load_if_exists=True,
        )
        study.set_metric_names(list(self._search.objectives))
        bounds, known = self._budget.as_dict(), study.user_attrs.get(BUDGET, {"bounds": {}, "since": 0})
        if known["bounds"] != bounds:
            known = {"bounds": bounds, "since": len(study.get_trials(deepcopy=False))}
            study.set_user_attr(BUDGET, known)
        self.budget_since = int(known["since"])
        return study

    def enqueue_finalists(self, parents: Sequence[TrialResult]) -> None:
        """Queue the fine-tuning of these trials' subnets, except of those that are queued or fine-tuned already."""
        known = {trial.user_attrs.get(PARENT) for trial in self._study.get_trials(deepcopy=False)}
        for parent in parents:
            if parent.number not in known:
                known.add(parent.number)
                self._enqueue(parent.config, {ORIGIN: Origin.FINE_TUNED.value, PARENT: parent.number})

    def _queue_planned(self) -> None:
        """Queue the next trial that precedes all sampling: the baseline, a reference, a step of the budget ladder.

        They are queued one at a time: a trial for which the limit leaves no room must not stay in the queue.
        """
        origins = Counter(trial.user_attrs.get(ORIGIN) for trial in self._study.get_trials(deepcopy=False))
        if not origins[Origin.BASELINE]:
            self._study.enqueue_trial({}, user_attrs={ORIGIN: Origin.BASELINE.value})
            return
        planned = ((Origin.REFERENCE, self._space.references), (Origin.BUDGET_LADDER, self.budget_ladder))
        for origin, configs in planned:
            if origins[origin] < len(configs):
                self._enqueue(configs[origins[origin]], {ORIGIN: origin.value})
                return

    def _enqueue(self, config: NetworkConfig, attributes: Mapping[str, Any]) -> None:
        values = {str(address): value for address, value in self._space.values(config).items()}
        sampled = {name: values[name] for name in self._distributions}
        self._study.enqueue_trial(sampled, user_attrs=dict(attributes))

    def has_queued(self) -> bool:
        """Return whether the next trial is a queued one."""
        return bool(self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def take_over(self) -> PendingTrial | None:
        """Return a trial that was begun and is abandoned; it goes on under its own number. None where there is none."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in running:
            if self._storage.is_abandoned(trial):
                self._study.sampler = self._sampler(trial.number)  # its coordinator may have died while sampling
                return self._taken(optuna.trial.Trial(self._study, trial._trial_id))
        return None

    def running_elsewhere(self) -> tuple[tuple[PendingTrial, ...], int]:
        """Return the trials of other coordinators, and how many more a coordinator began that died asking for them."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        found = [self._pending(trial) for trial in running if not self._storage.is_mine(trial)]
        pending = tuple(trial for trial in found if trial is not None)
        return pending, len(found) - len(pending)

    def still_owned(self, trial: PendingTrial) -> bool:
        """Return whether the study is to be told of a trial: not where another coordinator has taken it over."""
        stored = self._study.get_trials(deepcopy=False)[trial.number]
        return self._storage.is_mine(stored) and not stored.state.is_finished()

    def finished(self) -> tuple[int, ...]:
        """Return the numbers of all trials that have ended, whoever worked on them."""
        trials = self._study.get_trials(deepcopy=False)
        return tuple(trial.number for trial in trials if trial.state.is_finished())

    def ask(self) -> PendingTrial:
        """Return the next trial: one that is queued, or planned before any sampling, or else the sampler's proposal.

        The sampler is made anew from (seed, number), so that its proposal depends on the finished trials alone and not
        on how often the search was interrupted.
        """
        if not self.has_queued():
            self._queue_planned()
        trials = self._study.get_trials(deepcopy=False)
        number = min((trial.number for trial in trials if trial.state is TrialState.WAITING), default=len(trials))
        self._study.sampler = self._sampler(number)
        with quiet_optuna():
            return self._taken(self._study.ask())

    def _sampler(self, number: int) -> BaseSampler:
        """Return the sampler that proposes trial ``number``."""
        if Origin(self._search.sampler) is not Origin.GREY_BOX:
            return new_sampler(self._search, self._distributions, number=number)
        if self._grey_box is None:
            self._grey_box = GreyBoxSampler(
                self._costs,
                self._reference_now(),
                seed=self._search.seed,
                space=self._distributions,
                startup_trials=self._search.startup_trials,
                observations=_observations_of,
                on_fallback=self._note_once,
            )
        self._grey_box.reference = self._reference_now()
        return self._grey_box

    def _reference_now(self) -> ReferencePoint:
        """Return where gains begin: within the budgets, and not far below the baseline's accuracy once it is known."""
        if self._baseline is None:
            complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if not complete or complete[0].number != BASELINE:
                return sampler_reference(self._reference, self._budget)
            self._baseline = complete[0].values
        accuracy, *costs = self._baseline
        measured = {
            name: REFERENCE_SLACK * cost
            for name, cost in zip(self._reference.costs, costs, strict=True)
            if name in MEASURED
        }
        reference = replace(self._reference, costs={**self._reference.costs, **measured})
        return sampler_reference(
            reference, self._budget, baseline_accuracy=accuracy, share=worthwhile_share(self._space.file)
        )

    def _note_once(self, words: str) -> None:
        if self._note is not None:
            self._note(words)
            self._note = None

    def _pending(self, trial: FrozenTrial) -> PendingTrial | None:
        """Return another coordinator's trial; None where that coordinator died before all values were sampled."""
        stored = trial.user_attrs.get(ORIGIN)
        if stored is None:
            return None
        origin = Origin(stored)
        if origin is not Origin.BASELINE and not self._distributions.keys() <= trial.params.keys():
            return None
        if origin is Origin.BASELINE:
            config = self._space.baseline()
        else:
            values = {
                address: _chosen(trial.params[str(address)], options) for address, options in self._sampled.items()
            }
            config = self._space.config(values)
        parent = trial.user_attrs.get(PARENT)
        return PendingTrial(number=trial.number, trial_id=trial._trial_id, origin=origin, config=config, parent=parent)

    def _taken(self, trial: optuna.trial.Trial) -> PendingTrial:
        """Claim a trial for this coordinator, and sample the values that it lacks."""
        self._storage.claim(trial._trial_id)
        stored = trial.user_attrs.get(ORIGIN)
        if stored == Origin.BASELINE:
            config = self._space.baseline()
        else:
            values = {
                address: _suggest(trial, str(address), self._distributions[str(address)], options)
                for address, options in self._sampled.items()
            }
            config = self._space.config(values)
        if stored is None:  # known once the sampler was asked for a value
            stored = trial.storage.get_trial(trial._trial_id).system_attrs.get(PROPOSED_BY, self._search.sampler)
            trial.set_user_attr(ORIGIN, stored)
        origin, parent = Origin(stored), trial.user_attrs.get(PARENT)
        return PendingTrial(number=trial.number, trial_id=trial._trial_id, origin=origin, config=config, parent=parent)

    def report(self, trial: PendingTrial, *, epoch: int, accuracy: float) -> None:
        """Store an epoch's accuracy where Optuna's plots of learning curves look for it."""
        # Another coordinator may have taken the trial over and ended it; `still_owned` notices that at its end.
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._study._storage.set_trial_intermediate_value(trial.trial_id, epoch, accuracy)

    def tell(self, trial: PendingTrial, result: TrialResult, attributes: Mapping[str, Any]) -> None:
        """End a trial. Only completed trials within the budgets are points of the front.

        Every budget is a constraint of a completed trial. Its violation is the excess as a fraction of the budget,
        above 0 where the trial is over budget.
        """
        self._storage.release(trial.trial_id)
        storage = self._study._storage
        for name, value in {**attributes, OUTCOME: result.outcome.name}.items():
            storage.set_trial_user_attr(trial.trial_id, name, value)
        if result.outcome.has_weights:
            values = [figure(result, name) for name in self._search.objectives]
            if violations := _violations(result, self._budget, self._search.objectives):
                self._constrain(trial, violations)
            told = self._study.tell(trial.number, values)
        elif result.outcome is Outcome.FAILED:
            told = self._study.tell(trial.number, state=TrialState.FAIL)
        else:
            self._constrain(trial, {CONSTRAINT: 1.0})
            told = self._study.tell(trial.number, state=TrialState.PRUNED)
        self._keep_once(self._study.get_trials(deepcopy=False)[told.number])

    def _keep_once(self, trial: FrozenTrial) -> None:
        """Let trials that have ended share what is equal in them: of 10,000 trials that is most of the memory.

        As Optuna reads trials, each has its own copies of names and distributions.
        """
        if not trial.state.is_finished():
            return
        if trial.distributions == self._distributions:
            trial.distributions = self._distributions
        trial.params = _interned(trial.params)
        trial.user_attrs = _interned(trial.user_attrs)

    def _constrain(self, trial: PendingTrial, violations: Mapping[str, float]) -> None:
        for name, value in _constraint_attributes(violations).items():
            self._study._storage.set_trial_system_attr(trial.trial_id, name, value)


def _violations(result: TrialResult, budget: Budget, objectives: Sequence[str]) -> dict[str, float]:
    """Return the constraints of a completed trial, above 0 where it is no point of the front."""
    found = {name: value for name, value in budget.violations(result).items() if isfinite(value)}
    if not all(isfinite(figure(result, name)) for name in objectives):
        found[FLOATS] = 1.0  # it keeps floating point, and so has no flash or RAM
    return found


def _constraint_attributes(violations: Mapping[str, float]) -> dict[str, Any]:
    """Return the system attributes that hold constraints.

    They hold them twice: the list is the form of Optuna 4, the only one that the dashboard 0.21 shows.
    """
    named: dict[str, Any] = {f"{CONSTRAINTS}:{name}": value for name, value in violations.items()}
    return named | {CONSTRAINTS: list(violations.values())}


def _replace_constraints(trial: FrozenTrial, violations: Mapping[str, float]) -> None:
    """Let this process see a finished trial with other constraints; Optuna's storages keep such a trial as it is."""
    kept = {name: value for name, value in trial.system_attrs.items() if name.partition(":")[0] != CONSTRAINTS}
    trial.system_attrs = kept | (_constraint_attributes(violations) if violations else {})


def _interned(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace every text by the single copy of it in this process."""
    return {sys.intern(name): sys.intern(value) if isinstance(value, str) else value for name, value in values.items()}


def _observations_of(trial: FrozenTrial) -> tuple[Observation, ...] | None:
    """Return a trial's observations by Optuna's fields, except that subnets are observed before the first epoch.

    None of what was not tried: over a budget of an earlier start, or the same as another trial, which counts itself.
    """
    if trial.user_attrs.get(OUTCOME) in UNTRIED:
        return None
    if trial.state is TrialState.COMPLETE and trial.user_attrs.get(OUTCOME) == Outcome.SUBNET.name:
        return (Observation(fidelity=0, accuracy=trial.values[0]),)
    return observations_of(trial)


def _suggest(trial: optuna.trial.Trial, name: str, distribution: BaseDistribution, options: Sequence[Any]) -> Any:
    if isinstance(distribution, FloatDistribution):
        value = trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step)
        return _chosen(value, options)
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    raise AssertionError(distribution)


def _chosen(value: Any, options: Sequence[Any]) -> Any:
    """Return the option that a stored value stands for: a stepped range gives 0.6500000000000001 for 0.65."""
    return value if value in options else min(options, key=lambda option: abs(option - value))
