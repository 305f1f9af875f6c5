"""Tables of recorded trainings, and trainers that answer from them: whole searches in seconds, every decision real.

`record_curves.py` makes them. A replayed trainer is given the tasks of a search, as a process would be, and
answers with what was recorded of that configuration. Each was trained once: searches of different seeds differ in what
they try, and not in what it comes to.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import combinations, product
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import numpy as np
from efficiency import LONGER, UNIFORM, WORTHWHILE, Curve, Prices, Strategy, corners, curve_of, fronts
from jaxtyping import Float
from scipy import stats

from spquant_search.costs.memory import cost_report
from spquant_search.driver.coordinator import run_search
from spquant_search.driver.limits import Limits
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.opening import open_run
from spquant_search.runs.pareto import hypervolume
from spquant_search.runs.records import RunFacts
from spquant_search.runs.results import BASELINE, EpochMetrics, LayerActivity, Origin, Outcome, TrialResult, unmeasured
from spquant_search.runs.selection import front
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.objectives import DEFAULT_COSTS
from spquant_search.space.search_space import SearchSpace
from spquant_search.training.prepare import prepare
from spquant_search.training.prepared import Prepared
from spquant_search.training.tasks import AccuraciesTask, SubnetTask, SupernetTask, Task, TestTask
from spquant_search.workers.messages import (
    Accuracies,
    Epoch,
    Message,
    SupernetProgress,
    SupernetTrained,
    Tested,
    Trained,
    TrainerConfig,
)
from spquant_search.workers.process import TrainerProcess, TrainerProcesses

CURVES = Path(__file__).parent / "curves"
# NAME.yaml and NAME.jsonl.gz in that folder, beside the networks' module; of so many there is LONG besides.
SPACES = {"narrow": 256, "wide": 0}
SCRATCH, WARM, SUBNET, TUNED = WAYS = ("scratch", "warm-start", "subnet", "fine-tuned")
# From scratch with so many times the epochs.
LONG, TIMES_AS_LONG = "scratch-long", 3


def every_configuration(space: SearchSpace) -> list[NetworkConfig]:
    """List a space's configurations in the order of its choices; the place of each is its number in the table.

    Choices of what is stored between time steps make no difference with a single one, and are listed once.
    """
    choices = space.choices()
    every = (space.config(dict(zip(choices, values, strict=True))) for values in product(*choices.values()))
    return list(dict.fromkeys(every))


def trained_long(name: str, configurations: int) -> list[int]:
    """Return the numbers of the configurations that were trained for longer, a random part of the space's."""
    return sorted(random.Random(0).sample(range(configurations), SPACES[name]))


def samples(space: SearchSpace) -> tuple[int, int]:
    """Return the sizes of the training and the validation split, which the space must name."""
    trained, judged = space.file.data.train_samples, space.file.data.validation_samples
    if trained is None or judged is None:
        raise SystemExit(f"{space.source}: data.train_samples and data.validation_samples are needed")
    return trained, judged


def prepared_space(name: str, overrides: tuple[str, ...] = ()) -> Prepared:
    """Prepare one of the recorded spaces."""
    if str(CURVES) not in sys.path:  # its network's module is looked for there
        sys.path.insert(0, str(CURVES))
    return prepare(CURVES / f"{name}.yaml", overrides)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """The record of one configuration in one way."""

    outcome: Outcome
    epochs: tuple[EpochMetrics, ...]
    layers: tuple[tuple[str, LayerActivity], ...]
    test_accuracy: float

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Recorded:
        return cls(
            outcome=Outcome[line["outcome"]],
            epochs=tuple(EpochMetrics(**epoch) for epoch in line["epochs"]),
            layers=tuple((name, LayerActivity(**activity)) for name, activity in line["layers"].items()),
            test_accuracy=line["test_accuracy"],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """The records of every configuration in every way, and of the float baseline."""

    ways: Mapping[tuple[NetworkConfig, str], Recorded]
    baseline: Recorded

    def way(self, result: TrialResult, strategy: str) -> Recorded:
        """Return the record of a trial of a search with this strategy."""
        if result.number == BASELINE:
            return self.baseline
        if result.parent is not None:
            return self.ways[result.config, TUNED]
        return self.ways[result.config, SUBNET if result.outcome is Outcome.SUBNET else strategy]


@cache  # once a process
def read_table(name: str) -> Table:
    """Read the table of one of the recorded spaces."""
    with gzip.open(CURVES / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        head = json.loads(next(lines))
        configs = every_configuration(prepared_space(name).space)
        ways = {(configs[line["number"]], line["way"]): Recorded.of(line) for line in map(json.loads, lines)}
    return Table(ways=ways, baseline=Recorded.of(head["baseline"]))


class ReplayedTrainer(TrainerProcess):
    """A trainer that answers every task from a table, within this process."""

    def __init__(self, trainer_config: TrainerConfig, table: Table) -> None:
        self._table, self._strategy = table, trainer_config.space.file.search.strategy
        self._shared_epochs = trainer_config.space.file.supernet.epochs
        self._told = 0  # epochs of the present task that were answered
        super().__init__(trainer_config)

    def _start(self) -> None:
        self.connection, self._theirs = Pipe()

    def close(self) -> None:
        self.connection.close()
        self._theirs.close()

    def _send(self, words: Any) -> None:
        if words is self.task:
            self._begin(words)
        else:
            self._go_on(words)

    def _begin(self, task: Any) -> None:
        if isinstance(task, SupernetTask):
            for epoch in range(1, self._shared_epochs + 1):
                self._say(SupernetProgress(epoch=epoch, seconds=0.0))
            task.weights_file.touch()
            self._say(SupernetTrained(seconds={}))
        elif isinstance(task, TestTask):
            self._say(Tested(number=task.number, accuracy=0.0, seconds={}))  # Table.way knows it
        elif isinstance(task, AccuraciesTask):
            known = [self._table.ways[config, SUBNET].epochs[-1].accuracy for config in task.configs]
            self._say(Accuracies(accuracies=tuple(known), seconds={}))
        elif isinstance(task, SubnetTask):
            self._say(self._trained(task.result, self._table.ways[task.result.config, SUBNET], Outcome.SUBNET))
        else:
            self._told = 0
            self._say(Epoch(metrics=self._of(task).epochs[0]))

    def _go_on(self, stop_because: str | None) -> None:
        """Answer with the next epoch, or with the result."""
        task: Task = self.task
        found = self._of(task)
        self._told += 1
        if stop_because is not None:
            stopped = replace(found, epochs=found.epochs[: self._told])
            self._say(self._trained(task.result, stopped, Outcome.STOPPED, stop_because))
        elif self._told < len(found.epochs):
            self._say(Epoch(metrics=found.epochs[self._told]))
        else:
            self._say(self._trained(task.result, found, found.outcome))

    def _of(self, task: Task) -> Recorded:
        return self._table.way(task.result, self._strategy)

    def _trained(self, known: TrialResult, found: Recorded, outcome: Outcome, reason: str | None = None) -> Trained:
        result = replace(
            known,
            outcome=outcome,
            reason=reason or outcome.value,
            epochs=(*known.epochs, *found.epochs),
            layers=found.layers,
        )
        return Trained(result=result, seconds={})

    def _say(self, message: Message) -> None:
        self._theirs.send(message)


class ReplayedTrainers(TrainerProcesses):
    """Trainers that answer from a table, in place of processes."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def make_trainer(self, config: TrainerConfig) -> ReplayedTrainer:
        return ReplayedTrainer(config, self._table)


# ---------------------------------------------------------------- searches


class _Silent:
    """A watcher that takes no notice."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_words, **_more: None


def replayed(name: str, strategy: Strategy, seed: int) -> Curve:
    """Return the curve of a strategy in the recorded space of this name."""
    try_out = {UNIFORM: tried_uniform, LONGER: tried_long}.get(strategy.name, searched)
    return curve(name, strategy, seed, try_out(name, strategy, seed))


def curve(name: str, strategy: Strategy, seed: int, results: Sequence[TrialResult]) -> Curve:
    table, space = read_table(name), prepared_space(name, strategy.settings).space
    trained, judged = samples(space)
    held = fronts(results, Prices.of(space, strategy, samples=trained, judged=judged))
    trained_so = LONG if strategy.name == LONGER else space.file.search.strategy
    ways = {one.number: table.way(one, trained_so) for one in results if one.is_measured}
    return curve_of(strategy, seed, results, held, {number: found.test_accuracy for number, found in ways.items()})


def searched(name: str, strategy: Strategy, seed: int) -> tuple[TrialResult, ...]:
    """Search with trainers that answer from the table, the only difference from a live search; return all results."""
    prepared = prepared_space(name, (*strategy.settings, f"search.seed={seed}", "search.workers=1"))
    _, judged = samples(prepared.space)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(path=Path(folder) / "run")
        facts = RunFacts(
            source=prepared.space.source,
            command="",
            data="",
            classes=tuple(map(str, range(prepared.input.classes))),
            validation_samples=judged,
            test_samples=0,
        )
        open_run(run, prepared.space.file, facts)
        return run_search(
            prepared,
            run,
            trainer_config=TrainerConfig(space=prepared.space, device="cpu", cache=run.path),
            limits=Limits(trials=prepared.space.file.search.trials),
            watcher=_Silent(),
            trainer_source=ReplayedTrainers(read_table(name)),
        )


def tried_uniform(name: str, strategy: Strategy, seed: int) -> tuple[TrialResult, ...]:
    """Try one value a parameter for all layers that can choose (the nearest where one lacks it), in random order."""
    prepared = prepared_space(name, strategy.settings)
    space, way = prepared.space, prepared.space.file.search.strategy
    values: dict[str, set[Any]] = {}
    for address, options in space.choices().items():
        if len(options) > 1:
            values.setdefault(address.parameter, set()).update(options)

    def uniform(common: Mapping[str, Any]) -> NetworkConfig:
        return space.config(
            {
                address: min(options, key=lambda option: abs(option - common[address.parameter]))
                if len(options) > 1
                else options[0]
                for address, options in space.choices().items()
            }
        )

    grid = [uniform(dict(zip(values, common, strict=True))) for common in product(*map(sorted, values.values()))]
    random.Random(seed).shuffle(grid)
    return _tried(prepared, read_table(name), Origin.REFERENCE, dict.fromkeys(grid), way)


def tried_long(name: str, strategy: Strategy, seed: int) -> tuple[TrialResult, ...]:
    """Try the configurations that were trained for longer, in random order, for as long as there are any."""
    prepared = prepared_space(name, strategy.settings)
    table = read_table(name)
    configs = [config for config, way in table.ways if way == LONG]
    random.Random(seed).shuffle(configs)
    return _tried(prepared, table, Origin.RANDOM, configs, LONG)


def _tried(
    prepared: Prepared, table: Table, origin: Origin, configs: Iterable[NetworkConfig], way: str
) -> tuple[TrialResult, ...]:
    """Return the results of the baseline and of these configurations in turn, as they were recorded."""
    tried = [(config, origin, table.ways[config, way]) for config in configs]
    everything = [(prepared.space.baseline(), Origin.BASELINE, table.baseline), *tried]
    return tuple(
        _recorded_result(prepared, number, origin, config, found)
        for number, (config, origin, found) in enumerate(everything)
    )


def _recorded_result(
    prepared: Prepared, number: int, origin: Origin, config: NetworkConfig, found: Recorded
) -> TrialResult:
    cost = cost_report(prepared.shapes, config)
    known = unmeasured(
        number=number,
        origin=origin,
        config=config,
        seed=0,
        cost=cost,
        device=None,
        outcome=found.outcome,
        reason=found.outcome.value,
    )
    return replace(known, epochs=found.epochs, layers=found.layers)


def of_every_configuration(name: str) -> list[dict[str, Any]]:
    """Summarize by way the trials of all recorded configurations: no search can hold more, but by luck.

    ``hypervolume`` is of the front's test accuracies, ``hypervolume_explained`` that of all test accuracies and
    operations as `explained` predicts them, without the scatter of single trainings; ``unexplained`` the standard
    deviation of that in the accuracies. ``spearman``: the rank correlation of validation accuracies with those after
    fine-tuning.
    """
    table, prepared = read_table(name), prepared_space(name)
    baseline = _recorded_result(prepared, BASELINE, Origin.BASELINE, prepared.space.baseline(), table.baseline)
    corner = corners(baseline, table.baseline.test_accuracy)[WORTHWHILE]
    rows = []
    for way in (*WAYS, LONG) if SPACES[name] else WAYS:
        configs = [config for config, recorded in table.ways if recorded == way]
        found = [table.ways[config, way] for config in configs]
        tuned = [table.ways[config, TUNED].epochs[-1].accuracy for config in configs]
        results = [
            _recorded_result(prepared, number, Origin.RANDOM, config, one)
            for number, (config, one) in enumerate(zip(configs, found, strict=True), start=1)
        ]
        members = front(results, DEFAULT_COSTS)
        points = [(table.ways[one.config, way].test_accuracy, one.memory_bytes, one.effective_flops) for one in members]
        accuracies = np.array([one.test_accuracy for one in found])
        operations = np.array([one.effective_flops for one in results])
        known = explained(configs, np.column_stack([accuracies, np.log(operations)]))
        expected = np.column_stack([known[:, 0], [one.memory_bytes for one in results], np.exp(known[:, 1])])
        rows.append(
            {
                "way": way,
                "configurations": len(configs),
                "test_accuracy": statistics.mean(one.test_accuracy for one in found),
                "least_macs": min(one.effective_macs for one in results) / baseline.effective_macs,
                "members": len(members),
                "hypervolume": hypervolume(np.array(points), corner),
                "hypervolume_explained": hypervolume(expected, corner),
                "unexplained": float(np.std(accuracies - known[:, 0])),
                "spearman": float(stats.spearmanr([one.accuracy for one in results], tuned).statistic),
            }
        )
    return rows


def explained(
    configs: Sequence[NetworkConfig], figures: Float[np.ndarray, "configs figures"]
) -> Float[np.ndarray, "configs figures"]:
    """Predict figures from choices and pairs of choices, by least squares."""
    chosen = [
        {(name, *choice) for name, layer in config.layers for choice in asdict(layer).items()}
        | {("", "time_steps", config.time_steps)}
        for config in configs
    ]
    varied = sorted(set.union(*chosen) - set.intersection(*chosen), key=str)
    single = [np.array([choice in one for one in chosen], dtype=float) for choice in varied]
    columns = [np.ones(len(configs)), *single, *(one * other for one, other in combinations(single, 2))]
    of_choices = np.column_stack(columns)  # they depend on each other: the least of all solutions is taken
    return of_choices @ np.linalg.lstsq(of_choices, figures)[0]


def replay(name: str, wanted: Sequence[Strategy], seeds: Sequence[int], workers: int) -> dict[str, list[Curve]]:
    found: dict[str, list[Curve]] = {}
    # Spawned: nothing of Optuna's or torch's is to be shared.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [(one, pool.submit(replayed, name, one, seed)) for one in wanted for seed in seeds]
        for one, job in jobs:
            found.setdefault(one.name, []).append(job.result())
            print(f"{one.name}: seed {found[one.name][-1].seed}", file=sys.stderr)
    return found
