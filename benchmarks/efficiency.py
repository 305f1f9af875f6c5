"""Strategies of searching, and the front that each of them holds after a given amount of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spquant_search.runs.pareto import ReferencePoint, hypervolume, reference_point
from spquant_search.runs.results import BASELINE, Outcome, TrialResult
from spquant_search.runs.selection import front, near_baseline
from spquant_search.runs.sensitivity import lowered_configurations
from spquant_search.space.objectives import DEFAULT_COSTS
from spquant_search.space.schema import SpaceFile
from spquant_search.space.search_space import SearchSpace

TRAINED = 3  # as much work as a sample forward: a backward is twice as much
CHANCE = 0.1
OURS, TPE, WARM_TPE = "ours", "tpe, from scratch", "tpe, warm-started"
# No searches: looked up in the table of a replay.
UNIFORM, LONGER = LOOKED_UP = ("uniform precision, warm-started", "random, from scratch, 3 times as long")
WORTHWHILE, FROM_CHANCE = "near_baseline", "chance"  # corners that the volume is counted from


@dataclass(frozen=True, kw_only=True, slots=True)
class Strategy:
    """A search, as the values that it sets in the space.

    ``counts_baseline``: it needs a float network. ``is_optional``: searched live only where it is asked for by name.
    """

    name: str
    settings: tuple[str, ...]
    counts_baseline: bool = True
    is_optional: bool = False


def strategies(file: SpaceFile, trials: Mapping[str, int]) -> list[Strategy]:
    """List our search, our search with one part replaced or switched off, and searches as written with Optuna alone."""
    plain = ("search.references=[]", "search.budget_ladder=0", "search.stopping.enabled=false")
    warm = ("search.strategy=warm-start", f"search.trials={trials[WARM_TPE]}")
    scratch = (
        "search.strategy=scratch",
        f"search.trials={trials[TPE]}",
        # Candidates from scratch are trained as the float network is: with as many epochs, at its learning rate.
        f"train.epochs={file.train.baseline_epochs}",
        f"train.learning_rate={file.train.baseline_learning_rate}",
    )
    found = [
        Strategy(name=OURS, settings=()),
        Strategy(name="ours, tpe proposes", settings=("search.sampler=tpe",)),
        Strategy(name="ours, random proposals", settings=("search.sampler=random",)),
        Strategy(name="ours, no ladder", settings=("search.budget_ladder=0",)),
        Strategy(name="ours, no supernet", settings=(*warm, "search.budget_ladder=0")),
    ]
    for sampler in ("tpe", "nsga2", "random"):
        chosen, is_optional = (*plain, f"search.sampler={sampler}"), sampler != "tpe"
        found += [
            Strategy(name=f"{sampler}, warm-started", settings=(*chosen, *warm), is_optional=is_optional),
            Strategy(
                name=f"{sampler}, from scratch",
                settings=(*chosen, *scratch),
                counts_baseline=False,
                is_optional=is_optional,
            ),
        ]
    return [
        *found,
        Strategy(name=UNIFORM, settings=("search.strategy=warm-start",), is_optional=True),
        Strategy(name=LONGER, settings=("search.strategy=scratch",), counts_baseline=False, is_optional=True),
    ]


# ---------------------------------------------------------------- work, and what it found


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """The work of a strategy's parts, in samples times time steps; that of trials is for each of their time steps."""

    epoch: int  # of training, with the evaluation after it
    subnet: int  # its batch norm's statistics, and its evaluation
    judgement: int  # of a subnet on the front, by the whole validation split
    before: int  # the first candidate: what the strategy trains and evaluates for all of them

    @classmethod
    def of(cls, space: SearchSpace, strategy: Strategy, *, samples: int, judged: int) -> Prices:
        file = space.file
        most = file.most_time_steps
        epoch = TRAINED * samples + judged
        subnet = file.supernet.statistics_samples + min(judged, file.supernet.validation_samples or judged)
        before: float = epoch * file.train.baseline_epochs * most if strategy.counts_baseline else 0
        if file.search.strategy != "scratch" and file.train.distillation > 0:
            before += samples * most  # what the float network says of every sample, once
        if file.search.strategy == "supernet":
            before += TRAINED * samples * file.supernet_epochs * file.mean_drawn_steps
            lowered = lowered_configurations(space).values() if file.search.ladder_points else ()
            before += subnet * sum(config.time_steps for config in lowered)
        return cls(epoch=epoch, subnet=subnet, judgement=judged, before=round(before))

    def of_trial(self, result: TrialResult) -> int:
        a_step = self.subnet if result.outcome is Outcome.SUBNET else self.epoch * result.trained_epochs
        return a_step * result.config.time_steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A front, and the work after which the search held it."""

    work: int
    members: tuple[TrialResult, ...]


def fronts(
    results: Sequence[TrialResult], prices: Prices, *, judged: Mapping[int, TrialResult] | None = None
) -> list[Held]:
    """Collect every front of candidates that the search has held, and the last one with all of its work.

    ``judged``: subnets that the whole validation split has measured at the end, by number. The last front is of them.
    """
    candidates = [result for result in results if result.number != BASELINE]
    work, found = prices.before, [Held(work=0, members=())]
    for count, result in enumerate(candidates, start=1):
        work += prices.of_trial(result)
        members = front(candidates[:count], DEFAULT_COSTS)
        if members != found[-1].members:
            found.append(Held(work=work, members=members))
    judged = judged or {}
    work += sum(prices.judgement * one.config.time_steps for one in judged.values())
    last = front([judged.get(one.number, one) for one in candidates], DEFAULT_COSTS)
    return [*found, Held(work=work, members=last)]


def corners(baseline: TrialResult, test_accuracy: float) -> dict[str, ReferencePoint]:
    """Return the points that volumes are counted from; ``test_accuracy`` is the baseline's."""
    point = reference_point(baseline, DEFAULT_COSTS, chance=CHANCE, dearest={})
    return {WORTHWHILE: near_baseline(point, baseline_accuracy=test_accuracy), FROM_CHANCE: point}


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """The hypervolume by work; it changes where a trial changes the front."""

    strategy: str
    seed: int
    trials: int
    work: tuple[int, ...]
    volumes: Mapping[str, tuple[float, ...]]  # by corner

    def at(self, work: float, corner: str) -> float:
        """Return the volume that is held after so much work."""
        return self.volumes[corner][int(np.searchsorted(self.work, work, side="right")) - 1]

    def work_for(self, volume: float, corner: str) -> int | None:
        """Return the work after which this volume is held for the first time; None: never."""
        reached = (work for work, held in zip(self.work, self.volumes[corner], strict=True) if held >= volume)
        return next(reached, None)


def curve_of(
    strategy: Strategy,
    seed: int,
    results: Sequence[TrialResult],
    held: Sequence[Held],
    tested: Mapping[int, float],
) -> Curve:
    """Make the curve of all results, the baseline's first, from the fronts that were held and the test accuracies."""
    judged = [
        np.array([[tested[one.number], one.memory_bytes, one.effective_flops] for one in each.members]).reshape(-1, 3)
        for each in held
    ]
    return Curve(
        strategy=strategy.name,
        seed=seed,
        trials=sum(result.is_candidate for result in results),
        work=tuple(each.work for each in held),
        volumes={
            corner: tuple(hypervolume(points, at) for points in judged)
            for corner, at in corners(results[BASELINE], tested[BASELINE]).items()
        },
    )
