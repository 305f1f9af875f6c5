"""Optuna's samplers over a space that is known beforehand."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from spquant_search.runs.random_streams import Purpose, derived_seed_of_32_bits
from spquant_search.space.schema import Search
from spquant_search.space.search_space import SearchSpace


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Return the distribution of every address with more than one choice."""
    return {str(address): _distribution(options) for address, options in space.choices().items() if len(options) > 1}


def _distribution(options: Sequence[Any]) -> BaseDistribution:
    """Make evenly spaced fractions a stepped range, so that samplers know their order; all else is categorical."""
    if len(options) > 2 and all(isinstance(option, float) for option in options):
        low, second, *_ = ordered = sorted(options)
        step = round(second - low, 10)
        # To the digit: Optuna cuts off the highest value of a range that its step does not divide.
        if all(round(low + index * step, 10) == option for index, option in enumerate(ordered)):
            return FloatDistribution(low, ordered[-1], step=step)
    return CategoricalDistribution(tuple(options))


class _FixedSpaceTpe(TPESampler):
    """TPE over the known space; Optuna would take what all trials have in common, and the baseline samples nothing."""

    def __init__(self, space: dict[str, BaseDistribution], *, seed: int, n_startup_trials: int) -> None:
        super().__init__(seed=seed, n_startup_trials=n_startup_trials, multivariate=True)
        self._known_space = space

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        del study, trial
        return self._known_space


class _FixedSpaceNsga2(NSGAIISampler):
    """NSGA-II over the known space; the baseline samples nothing, so it can have no children."""

    def __init__(self, space: dict[str, BaseDistribution], *, seed: int) -> None:
        super().__init__(seed=seed)
        self._known_space = space

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        del study, trial
        return self._known_space

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return [trial for trial in super().get_population(study, generation) if trial.params]


def new_sampler(search: Search, space: dict[str, BaseDistribution], *, number: int) -> BaseSampler:
    """Return the sampler that proposes trial ``number``."""
    seed = derived_seed_of_32_bits(search.seed, Purpose.OPTUNA_SAMPLER, number)
    if search.sampler == "random":
        return RandomSampler(seed=seed)
    if search.sampler == "nsga2":
        return _FixedSpaceNsga2(space, seed=seed)
    with quiet_optuna():
        return _FixedSpaceTpe(space, seed=seed, n_startup_trials=search.startup_trials)


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silence Optuna's log lines and its warnings of experimental features."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
