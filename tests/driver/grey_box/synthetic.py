"""A synthetic network whose accuracy and costs are formulas, and studies of it."""

from __future__ import annotations

import math

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from spquant_search.driver.grey_box.bounds import (
    Bounds,
    KnownCost,
    rows_without_gates_and_masks,
)
from spquant_search.driver.grey_box.candidates import Grid
from spquant_search.driver.grey_box.distribution_axes import axis_of
from spquant_search.driver.grey_box.sampler import PROPOSED_BY, GreyBoxSampler
from spquant_search.runs.pareto import ReferencePoint

LAYERS = range(1, 7)
WEIGHTS = np.geomspace(200, 6400, len(LAYERS))
MACS = np.array([1.0, 4, 4, 2, 2, 1]) * 1e5
NEEDS = np.array([3.0, 1.0, 0.4, 0.8, 0.3, 1.5])  # how much accuracy hangs on a layer's precision
SPACE = {
    **{f"conv{i}.weight_bits": CategoricalDistribution((1, 2, 3, 4, 8)) for i in LAYERS},
    **{f"conv{i}.membrane_levels": CategoricalDistribution((3, 16, 0)) for i in LAYERS},
    **{f"conv{i}.channel_mass": FloatDistribution(0.5, 1.0, step=0.1) for i in LAYERS if i > 1},
    **{f"conv{i}.skip_below": CategoricalDistribution((None, 0.0)) for i in LAYERS},
}
DENSE = float(MACS.sum())
CORNER = ReferencePoint(
    accuracy=0.1, costs={"memory_bytes": float(WEIGHTS.sum()) + 1600, "effective_flops": 1.05 * DENSE}
)
DIRECTIONS = ["maximize", "minimize", "minimize"]


def column(parameters, name, default=None):
    return [parameters.get(f"conv{i}.{name}", default) for i in LAYERS]


def memory_bytes(parameters):
    bits = np.array([column(one, "weight_bits") for one in parameters], float)
    levels = np.array([[value or 2**32 for value in column(one, "membrane_levels")] for one in parameters], float)
    return bits @ WEIGHTS / 8 + np.ceil(np.log2(levels)).sum(axis=1) * 8


def effective_flops(parameters):
    mass = np.array(column(parameters, "channel_mass", 1.0))
    skipped = np.array([0.8 if cut is not None else 1.0 for cut in column(parameters, "skip_below")])
    before = np.concatenate([[1.0], mass[:-1]])
    return float((MACS * mass**1.5 * before * skipped).sum())


def accuracy(parameters):
    bits = np.array(column(parameters, "weight_bits"), float)
    levels = np.array([value or 512 for value in column(parameters, "membrane_levels")], float)
    mass = np.array(column(parameters, "channel_mass", 1.0))
    skipped = np.array([cut is not None for cut in column(parameters, "skip_below")])
    error = NEEDS @ (0.06 * 2.0**-bits + 0.1 / levels + 0.3 * (1 - mass) ** 2 + 0.004 * skipped)
    return 0.1 + 0.8 * math.exp(-1.5 * error)


def objectives(parameters, *, noise=0.0, seed=0):
    deviation = np.random.default_rng(seed).normal(0, noise)
    return [accuracy(parameters) + deviation, float(memory_bytes([parameters])[0]), effective_flops(parameters)]


def of_rows(cost):
    """Make of a cost of configurations, given by their values, a cost of rows of a grid."""
    return lambda grid: lambda rows: cost(grid.parameters(rows))


def costs_of(memory, *, is_dense, dense=DENSE):
    """Make known costs of a memory of configurations, and of operations that are at most as many as this."""
    operations = KnownCost(most=lambda _grid: lambda rows: np.full(len(rows), dense), is_most=is_dense)
    return {"memory_bytes": KnownCost(most=of_rows(memory)), "effective_flops": operations}


def never_dense(many):
    return [False for _ in many]


COSTS = costs_of(memory_bytes, is_dense=rows_without_gates_and_masks)


def grey_box(seed=0, **options):
    return GreyBoxSampler(COSTS, CORNER, seed=seed, **{"space": SPACE, **options})


def a_study(sampler=None):
    return optuna.create_study(directions=DIRECTIONS, sampler=sampler or grey_box())


def proceed(study, count, *, space=SPACE, values=objectives, **options):
    for _ in range(count):
        trial = study.ask(space)
        study.tell(trial, values(trial.params, seed=trial.number, **options))
    return study


def proposers(study):
    return [trial.system_attrs.get(PROPOSED_BY) for trial in study.trials]


def parameters(study):
    return [trial.params for trial in study.trials]


def grid(space=SPACE):
    return Grid(axes=tuple(axis_of(name, space[name]) for name in sorted(space)))


def finished(values=None, *, state=TrialState.COMPLETE, of=None, curve=None, constraint=None, number=0):
    rows = grid().uniform(np.random.default_rng(number), 1)
    of = of or grid().parameters(rows)[0]
    if values is None and state is TrialState.COMPLETE:
        values = objectives(of, noise=0.003, seed=number)
    return create_trial(
        state=state,
        values=values,
        params=of,
        distributions=SPACE,
        intermediate_values=curve,
        constraints=None if constraint is None else {"not_completed": constraint},
    )


BOUNDS = Bounds(grid(), COSTS, CORNER)


def a_study_of(trials, **options):
    study = a_study(grey_box(**options))
    study.add_trials(trials)
    return study


def next_proposer(study):
    study.ask(SPACE)
    return study.trials[-1].system_attrs[PROPOSED_BY]
