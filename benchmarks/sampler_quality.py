"""The fronts that the grey-box sampler finds, against TPE and random proposals, on functions that are known.

    .venv/bin/python benchmarks/sampler_quality.py            # tables; --json, --trials 60, --seeds 3

The functions replay a search of a 10-layer network (39 parameters: weight bits, membrane levels, channel gates, skip
masks) without training one. Accuracy falls with every layer's quantization error, weighted by how much the layer needs;
"rugged" multiplies that error by a random factor for every layer and number of bits, which no smooth model foresees.
Told accuracies have a standard error of 0.6 points; volumes are of the true ones: the hypervolume, and the
log-hypervolume (with memory and MACs on logarithmic axes), which the sampler looks for. Three more things are measured:
how often the skill test lets the surrogate propose, on these functions and on pure noise; the processor seconds of a
proposal after 500 trials; and the seconds in which scikit-learn's Gaussian process is fitted to the same trials.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
from measurement import as_document, figure_lines, markdown_table
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, create_trial

from spquant_search.driver.grey_box.bounds import KnownCost, rows_without_gates_and_masks
from spquant_search.driver.grey_box.candidates import Grid
from spquant_search.driver.grey_box.sampler import MIN_SKILL, PROPOSED_BY, SKILL, GreyBoxSampler
from spquant_search.runs.pareto import ReferencePoint, hypervolume, log_hypervolume
from spquant_search.runs.results import Origin
from spquant_search.runs.selection import DENSE_SLACK

LAYERS = 10
BITS, LEVELS = (1, 2, 3, 4, 8), (3, 4, 16, 256)
NOISE = 0.006
SIZES = np.geomspace(2e3, 1e5, LAYERS)  # weights
NEURONS = np.geomspace(2e4, 1e3, LAYERS)
MACS = 2e6 * np.exp(-4 * (np.linspace(0, 1, LAYERS) - 0.35) ** 2)
DENSE = float(MACS.sum())
SPACE: dict[str, BaseDistribution] = {
    **{f"conv{i}.weight_bits": CategoricalDistribution(BITS) for i in range(LAYERS)},
    **{f"conv{i}.membrane_levels": CategoricalDistribution(LEVELS) for i in range(LAYERS)},
    **{f"conv{i}.channel_mass": FloatDistribution(0.5, 1.0, step=0.05) for i in range(1, LAYERS)},
    **{f"conv{i}.skip_below": CategoricalDistribution((None, 0.0)) for i in range(LAYERS)},
}
Parameters = Mapping[str, Any]


def columns(parameters: Parameters) -> Iterator[np.ndarray]:
    """Yield weight bits, membrane levels, channel masses and whether neurons are skipped, by layer."""
    yield np.array([parameters[f"conv{i}.weight_bits"] for i in range(LAYERS)], float)
    yield np.array([parameters[f"conv{i}.membrane_levels"] for i in range(LAYERS)], float)
    yield np.array([parameters.get(f"conv{i}.channel_mass", 1.0) for i in range(LAYERS)], float)
    yield np.array([parameters[f"conv{i}.skip_below"] is not None for i in range(LAYERS)], bool)


def memory_bytes(many: Sequence[Parameters]) -> np.ndarray:
    bits = np.array([[one[f"conv{i}.weight_bits"] for i in range(LAYERS)] for one in many], float)
    levels = np.array([[one[f"conv{i}.membrane_levels"] for i in range(LAYERS)] for one in many], float)
    return (bits @ SIZES + np.ceil(np.log2(levels)) @ NEURONS) / 8


def memory_of_rows(grid: Grid) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that computes the memory of rows of choices, from a table for every parameter."""
    smallest = {axis.name: axis.choices[0] for axis in grid.axes}
    of_smallest = memory_bytes([smallest])[0]
    more = [memory_bytes([{**smallest, axis.name: one} for one in axis.choices]) - of_smallest for axis in grid.axes]
    return lambda rows: of_smallest + sum(one[rows[:, column]] for column, one in enumerate(more))


def effective_flops(parameters: Parameters) -> float:
    _, _, mass, skipped = columns(parameters)
    open_before = np.concatenate([[1.0], mass[:-1] ** 1.5])
    return float((MACS * open_before * mass**1.5 * np.where(skipped, 0.8, 1.0)).sum())


LARGEST = {"weight_bits": 8, "membrane_levels": 256, "channel_mass": 1.0, "skip_below": None}
UNIFORM = {name: LARGEST[name.partition(".")[2]] for name in SPACE}
# A little beyond the largest configuration, so that those with dense MACs count, too.
REFERENCE = ReferencePoint(
    accuracy=0.1,
    costs={"memory_bytes": 1.05 * float(memory_bytes([UNIFORM])[0]), "effective_flops": 1.05 * DENSE},
)
SEARCHED = replace(
    REFERENCE, costs={**REFERENCE.costs, "effective_flops": DENSE_SLACK * DENSE}
)  # as a search counts from


class Problem:
    """A known accuracy of every configuration: smooth, rugged, or nothing but chance."""

    def __init__(self, name: str) -> None:
        rng = np.random.default_rng(5)
        self.name = name
        self._needs = rng.lognormal(0, 0.7, (4, LAYERS))
        self._needs /= self._needs.sum(axis=1, keepdims=True)
        self._pairs = rng.uniform(0, 1, LAYERS - 1)
        self._factors = {bits: rng.normal(0, 0.3, LAYERS) for bits in BITS}

    def accuracy(self, parameters: Parameters) -> float:
        if self.name == "noise":
            return 0.5
        bits, levels, mass, skipped = columns(parameters)
        weights, membranes, gates, masks = self._needs
        error = 2.0 ** (-0.9 * (bits - 1))
        neighbours = np.sqrt(weights[:-1] * weights[1:]) * self._pairs * error[:-1] * error[1:]
        lost = 0.25 * weights @ error + 0.3 * neighbours.sum() + 0.24 * membranes @ (1 / levels)
        lost += 1.2 * gates @ (1 - mass) ** 2 + masks @ (skipped * (0.05 + 0.3 * (1 - mass)))
        if self.name == "rugged":
            lost *= np.exp(0.5 * sum(self._factors[int(bit)][layer] for layer, bit in enumerate(bits)))
        return float(0.1 + 0.8 * np.exp(-2.2 * lost))

    def told(self, parameters: Parameters, rng: np.random.Generator) -> list[float]:
        accuracy = self.accuracy(parameters) + float(rng.normal(0, NOISE))
        return [accuracy, float(memory_bytes([parameters])[0]), effective_flops(parameters)]

    def volumes(self, trials: Sequence[FrozenTrial]) -> tuple[float, float]:
        """Return the true hypervolume and log-hypervolume of these trials."""
        points = np.array(
            [
                [self.accuracy(trial.params), float(memory_bytes([trial.params])[0]), effective_flops(trial.params)]
                for trial in trials
            ]
        )
        return hypervolume(points, REFERENCE), log_hypervolume(points, SEARCHED)


def grey_box(seed: int) -> GreyBoxSampler:
    most = KnownCost(most=lambda _grid: lambda rows: np.full(len(rows), DENSE), is_most=rows_without_gates_and_masks)
    costs = {"memory_bytes": KnownCost(most=memory_of_rows), "effective_flops": most}
    return GreyBoxSampler(costs, SEARCHED, seed=seed, space=SPACE)


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "grey-box": grey_box,
    "tpe": lambda seed: TPESampler(seed=seed, multivariate=True),
    "random": lambda seed: RandomSampler(seed=seed),
}


def study_with(sampler: BaseSampler) -> optuna.Study:
    return optuna.create_study(directions=["maximize", "minimize", "minimize"], sampler=sampler)


def search(problem: Problem, sampler: BaseSampler, trials: int, *, seed: int) -> list[FrozenTrial]:
    study, rng = study_with(sampler), np.random.default_rng(seed)
    for _ in range(trials):
        trial = study.ask(SPACE)
        study.tell(trial, problem.told(trial.params, rng))
    return study.trials


def random_trials(problem: Problem, count: int, *, seed: int) -> list[FrozenTrial]:
    """Make finished trials of random configurations."""
    rng = np.random.default_rng(seed)
    asked = [study_with(RandomSampler(seed=seed + i)).ask(SPACE).params for i in range(count)]
    return [create_trial(params=one, distributions=SPACE, values=problem.told(one, rng)) for one in asked]


# ---------------------------------------------------------------- what is measured


def searches(trials: int, seeds: int) -> Iterator[dict[str, Any]]:
    for problem in (Problem("smooth"), Problem("rugged")):
        for name, sampler in SAMPLERS.items():
            runs = [search(problem, sampler(seed), trials, seed=seed) for seed in range(seeds)]
            for count in (trials // 4, trials // 2, trials):
                volumes, log_volumes = zip(*(problem.volumes(run[:count]) for run in runs), strict=True)
                yield {
                    "problem": problem.name,
                    "sampler": name,
                    "trials": count,
                    "hypervolume": statistics.mean(volumes),
                    "deviation": statistics.stdev(volumes) if seeds > 1 else 0.0,
                    "log_hypervolume": statistics.mean(log_volumes),
                    "log_deviation": statistics.stdev(log_volumes) if seeds > 1 else 0.0,
                    "proposed_by_tpe": statistics.mean(
                        sum(one.system_attrs.get(PROPOSED_BY) == Origin.TPE for one in run[:count]) for run in runs
                    ),
                }


def asked(trials: Sequence[FrozenTrial], sampler: BaseSampler) -> FrozenTrial:
    """Ask for the next trial after these."""
    study = study_with(sampler)
    study.add_trials(trials)
    study.ask(SPACE)
    return study.get_trials(deepcopy=False)[-1]


def gates(sets: int) -> Iterator[dict[str, Any]]:
    """Yield the share of sets of random trials after which the skill test lets the surrogate propose."""
    for problem in map(Problem, ("smooth", "rugged", "noise")):
        for count in (10, 20, 40):
            skills = [
                asked(random_trials(problem, count, seed=1000 * i), grey_box(i)).system_attrs[SKILL]
                for i in range(sets)
            ]
            yield {
                "problem": problem.name,
                "trials": count,
                "open": statistics.mean(skill >= MIN_SKILL for skill in skills),
                "median_skill": statistics.median(skills),
            }


def seconds_of_a_proposal(trials: Sequence[FrozenTrial], repeats: int = 7) -> dict[str, float]:
    """Measure each sampler's median processor seconds of proposals one after the other, as a search makes them."""
    found = {}
    for name, sampler in SAMPLERS.items():
        study = study_with(sampler(0))
        study.add_trials(trials)
        seconds = []
        for like in trials[:repeats]:
            started = time.process_time()
            trial = study.ask(SPACE)
            seconds.append(time.process_time() - started)
            study.tell(trial, like.values)
        found[name] = statistics.median(seconds)
    return found


def scikit_learn_seconds(trials: Sequence[FrozenTrial]) -> float:
    """Time one fit of hyper-parameters by scikit-learn: one length scale for all features, no restarts."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

    features = np.array([np.concatenate([*columns(trial.params)]) for trial in trials], float)
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9)
    kernel = ConstantKernel() * DotProduct() + ConstantKernel() * Matern(nu=2.5, length_scale=5.0) + WhiteKernel(0.02)
    process = GaussianProcessRegressor(kernel, normalize_y=True)
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        process.fit(features, [trial.values[0] for trial in trials])
    return time.process_time() - started


def measure(trials: int, seeds: int, sets: int) -> dict[str, Any]:
    """Return the document that every benchmark prints."""
    rows = [*searches(trials, seeds)]
    last = {(row["problem"], row["sampler"]): row for row in rows if row["trials"] == trials}
    opened = [*gates(sets)]
    many = random_trials(Problem("smooth"), 500, seed=0)
    seconds = seconds_of_a_proposal(many)
    figures = {
        **{
            f"{problem}{word}_over_{other}": last[problem, "grey-box"][volume] / last[problem, other][volume]
            for word, volume in (("", "hypervolume"), ("_log", "log_hypervolume"))
            for problem in ("smooth", "rugged")
            for other in ("tpe", "random")
        },
        **{f"open_on_{row['problem']}_{row['trials']}": row["open"] for row in opened},
        "proposal_seconds_500": seconds["grey-box"],
        "tpe_seconds_500": seconds["tpe"],
        "scikit_learn_fit_seconds_500": scikit_learn_seconds(many),
    }
    return as_document([*rows, *opened], figures)


def table(document: dict[str, Any]) -> str:
    cells = [
        (
            row["problem"],
            row["sampler"],
            f"{row['trials']}",
            f"{row['hypervolume']:.3f} ± {row['deviation']:.3f}",
            f"{row['log_hypervolume']:.3f} ± {row['log_deviation']:.3f}",
            f"{row['proposed_by_tpe']:.0f}",
        )
        for row in document["rows"]
        if "sampler" in row
    ]
    headings = ("problem", "sampler", "trials", "hypervolume", "log-hypervolume", "by TPE")
    lines = markdown_table(headings, cells, text_columns=2)
    return "\n".join([*lines, "", *figure_lines(document["figures"], ".3g")])


def main() -> None:
    parser = argparse.ArgumentParser(description="The grey-box sampler against TPE and random proposals.")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", type=int, default=20, help="sets of random trials for the skill test")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    document = measure(options.trials, options.seeds, options.sets)
    print(json.dumps(document, indent=1) if options.json else table(document))


if __name__ == "__main__":
    main()
