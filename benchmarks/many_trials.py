"""A search of very many trials, training replaced by a recorded curve: does the coordinator stay quick and small?

    .venv/bin/python benchmarks/many_trials.py --trials 10000 --sampled 1000

The real coordinator with its study, sampler, stopping rule and files, on `spaces/vgg9.yaml` with eight trainers that
answer at once, one of them at a time. The first trials are proposed at random, to save an hour, the last 1,000 by the
grey-box sampler, which has all before them to learn from. A trial's accuracies are a learning curve recorded from the
default data, moved down by what its configuration lacks in bits and in open channels. Ends with a count of what is in
the run's folder and in the study.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from measurement import as_document

from spquant_search.driver.coordinator import run_search
from spquant_search.driver.limits import Limits
from spquant_search.driver.storage.journal import Journal
from spquant_search.driver.study import Study, study_in
from spquant_search.runs.events import SearchPlan
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.opening import open_run
from spquant_search.runs.records import RunFacts, read_results
from spquant_search.runs.results import EpochMetrics, Outcome, TrialResult
from spquant_search.runs.work import Part
from spquant_search.training.prepare import prepare
from spquant_search.training.tasks import Task, TestTask
from spquant_search.workers.messages import Epoch, Message, Tested, Trained, TrainerConfig

SPACE = Path(__file__).parents[1] / "spaces" / "vgg9.yaml"
WORKERS, PART = 8, 500
# Validation accuracy after every epoch of the default search's float baseline.
CURVE = (0.6885, 0.791, 0.801, 0.83, 0.829, 0.8445, 0.8655, 0.871, 0.874, 0.8755)
FULL_BITS, LOST_PER_BIT, NOISE = 8, 0.012, 0.006
Play = Generator[Message, str | None, None]


def _accuracy(result: TrialResult, index: int) -> float:
    bits = [min(layer.weight_bits, FULL_BITS) for _, layer in result.config.layers]
    mass = [layer.channel_mass for _, layer in result.config.layers]
    noise = random.Random(result.number).gauss(0, NOISE)
    lost = LOST_PER_BIT * (FULL_BITS - statistics.mean(bits)) + 0.1 * (1 - statistics.mean(mass))
    return max(0.1, CURVE[min(index, len(CURVE) - 1)] - lost + noise)


def _plays(task: Task) -> Play:
    result = task.result
    kept = statistics.mean(layer.channel_mass for _, layer in result.config.layers)
    for index in range(task.schedule.epochs):
        metrics = EpochMetrics(
            epoch=index + 1,
            loss=1.0,
            accuracy=_accuracy(result, index),
            effective_macs=result.dense_macs * kept,
            synaptic_ops=result.dense_macs * kept * 0.1,
            energy_uj=result.dense_macs * kept * 1e-8,
            density=0.1,
            seconds=1.0,
        )
        result = replace(result, epochs=(*result.epochs, metrics))
        reason = yield Epoch(metrics=metrics)
        if reason is not None:
            yield Trained(result=replace(result, outcome=Outcome.STOPPED, reason=reason), seconds={})
            return
    yield Trained(result=replace(result, outcome=Outcome.COMPLETE, reason="complete"), seconds={})


def _tests(task: TestTask) -> Play:
    yield Tested(number=task.number, accuracy=0.5, seconds={})


class _Trainer:
    """A trainer in place of a process; it answers at once, from the curve."""

    def __init__(self, _setup: TrainerConfig) -> None:
        self.task: Any = None
        self.begun_again = False
        self._answer: str | None = None
        self._play: Play | None = None

    def give(self, task: Any) -> None:
        self.task = task
        self._play = _tests(task) if isinstance(task, TestTask) else _plays(task)

    def restart(self) -> None:
        self.task = None

    def begin_again(self) -> None:
        raise AssertionError("these trainers never die")

    def answer(self, stop_because: str | None) -> None:
        self._answer = stop_because

    def receive(self) -> Message:
        assert self._play is not None
        answer, self._answer = self._answer, None
        return next(self._play) if answer is None else self._play.send(answer)

    def close(self) -> None: ...


class _Trainers:
    """The source of such trainers; a random trainer speaks next."""

    def __init__(self) -> None:
        self._chance = random.Random(0)

    def make_trainer(self, config: TrainerConfig) -> _Trainer:
        return _Trainer(config)

    def wait(self, trainers: Sequence[Any], *, timeout: float | None) -> list[Any]:
        return [self._chance.choice(trainers)]


class _Watching:
    """A watcher that notes how large the coordinator is, and how far it has come."""

    def __init__(self, seconds: dict[str, list[float]]) -> None:
        self.ended, self.rows, self._seconds = 0, list[dict[str, float]](), seconds
        self._since = time.perf_counter()

    def plan(self, plan: SearchPlan) -> None: ...
    def stage(self, text: str, done: int = 0, total: int = 0, *, part: Part | None = None) -> None: ...
    def started(self, task: TrialResult, epochs: int) -> None: ...
    def epoch(self, number: int, metrics: EpochMetrics) -> None: ...

    def finished(self, result: TrialResult) -> None:
        self.ended += 1
        if self.ended % PART:
            return
        now = time.perf_counter()
        row = {"trials": float(self.ended), "seconds": now - self._since, "resident_mib": _resident_mib()}
        for name, taken in self._seconds.items():
            row[f"{name}_ms"] = 1e3 * statistics.median(taken)
            row[f"{name}_most_ms"] = 1e3 * max(taken)
            taken.clear()
        self.rows.append(row)
        self._since = now
        print({name: round(value, 1) for name, value in row.items()}, file=sys.stderr, flush=True)

    def warning(self, text: str) -> None:
        print(text, file=sys.stderr)

    def close(self) -> None: ...


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


def _timed(plain: Callable[..., Any], taken: list[float]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return plain(*args, **kwargs)
        finally:
            taken.append(time.perf_counter() - began)

    return call


def measure(trials: int, sampled: int, folder: Path) -> dict[str, Any]:
    """Run the search; its last ``sampled`` proposals are the grey-box sampler's, those before them random."""
    overrides = [
        *("search.strategy=warm-start", "search.budget_ladder=0", "search.references=[]"),
        *(f"search.trials={trials}", f"search.workers={WORKERS}"),
    ]
    at_random, grey_box = (
        prepare(SPACE, [*overrides, f"search.sampler={sampler}"]) for sampler in ("random", "grey-box")
    )
    run = RunFolder(path=folder / "run")
    facts = RunFacts(source="", command="", data="", classes=tuple("0123456789"), validation_samples=1, test_samples=1)
    open_run(run, grey_box.space.file, facts)
    seconds: dict[str, list[float]] = {"ask": [], "tell": []}
    Study.ask = _timed(Study.ask, seconds["ask"])  # type: ignore[method-assign]
    Study.tell = _timed(Study.tell, seconds["tell"])  # type: ignore[method-assign]
    watching, trainers = _Watching(seconds), _Trainers()
    for prepared, limit in ((at_random, trials - sampled), (grey_box, trials)):
        run_search(
            prepared,
            run,
            trainer_config=TrainerConfig(space=prepared.space, device="cpu", cache=folder),
            limits=Limits(trials=limit),
            watcher=watching,
            trainer_source=trainers,
        )

    study = study_in(Journal(run.study_file))
    states = [trial.state.name for trial in study.trials]
    numbers = [result.number for result in read_results(run)]
    last, first = watching.rows[-1], watching.rows[0]
    return {
        "rows": watching.rows,
        "figures": {
            "trials": len(numbers),
            "lost": len(set(range(len(states))) - set(numbers)) + states.count("RUNNING"),
            "ask_tell_s_at_end": (last["ask_ms"] + last["tell_ms"]) / 1e3,
            "ask_most_s_at_end": last["ask_most_ms"] / 1e3,
            "resident_mib_first": first["resident_mib"],
            "resident_mib_last": last["resident_mib"],
            "kib_a_trial": 1024 * (last["resident_mib"] - first["resident_mib"]) / (last["trials"] - first["trials"]),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="A coordinator with very many trials.")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--sampled", type=int, default=1000, help="the last so many are proposed by the sampler")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.trials, options.sampled, Path(folder))
    print(json.dumps(as_document(**found), indent=1))


if __name__ == "__main__":
    main()
