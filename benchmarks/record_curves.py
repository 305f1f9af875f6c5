"""Train every configuration of a small space, in every way that a search might, and keep the learning curves.

    .venv/bin/python benchmarks/record_curves.py narrow         # hours; goes on where it was stopped; or wide

Four ways: from scratch, from the float baseline's weights, evaluated as subnets of the supernet, and that trained on;
and for a part of the configurations of the narrow space from scratch for three times as long. Each configuration is
trained with a seed of its own, as the trials of a search are, and each way's weights are tested on the test split. What
comes out is NAME.jsonl.gz beside the space, one line a configuration, which `benchmarks/search_efficiency.py --replay
NAME` searches in minutes: see curves/README.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from replay import (
    CURVES,
    LONG,
    SCRATCH,
    SPACES,
    SUBNET,
    TIMES_AS_LONG,
    TUNED,
    WARM,
    WAYS,
    every_configuration,
    trained_long,
)
from search_efficiency import test_accuracies

from spquant_search.costs.memory import cost_report
from spquant_search.driver.seeds import trial_seed
from spquant_search.runs.environment import describe_environment
from spquant_search.runs.files import cache_folder, write_bytes, write_text
from spquant_search.runs.folder import RunFolder, find_run
from spquant_search.runs.records import read_result
from spquant_search.runs.results import BASELINE, Origin, Outcome, TrialResult, unmeasured
from spquant_search.space.configuration import NetworkConfig
from spquant_search.training.prepare import prepare
from spquant_search.training.prepared import Prepared
from spquant_search.training.schedule import Schedule
from spquant_search.training.tasks import SubnetTask, Task, TestTask
from spquant_search.workers.messages import Epoch, Tested, Trained, TrainerConfig
from spquant_search.workers.pool import TrainerPool
from spquant_search.workers.trainer import Trainer


class Recording:
    """One configuration in one way: trained or evaluated as a subnet, and then tested."""

    def __init__(self, number: int, config: NetworkConfig, way: str, prepared: Prepared, run: RunFolder) -> None:
        self.number, self.way, self._prepared, self._run = number, way, prepared, run
        file = prepared.space.file
        cost = cost_report(prepared.shapes, config)
        self._known = unmeasured(
            number=number,
            origin=Origin.BASELINE if number == BASELINE else Origin.RANDOM,
            config=config,
            seed=trial_seed(file.search.seed, number),
            cost=cost,
            device=None,
            outcome=Outcome.FAILED,
            reason="not finished",
        )

    def first_task(self) -> Task | SubnetTask:
        file, known = self._prepared.space.file, self._known
        baseline, weights_file = self._run.weights_file(BASELINE), self._weights(self.way)[-1]
        if self.way == SUBNET:
            return SubnetTask(result=known, supernet_weights=self._run.supernet_file, weights_file=weights_file)
        recipe = file.train
        schedule = {
            # As the float network is trained.
            SCRATCH: Schedule(epochs=recipe.baseline_epochs, learning_rate=recipe.baseline_learning_rate),
            LONG: Schedule(epochs=TIMES_AS_LONG * recipe.baseline_epochs, learning_rate=recipe.baseline_learning_rate),
            WARM: Schedule(epochs=recipe.epochs, learning_rate=recipe.learning_rate),
            TUNED: Schedule.of_finalists(file.final),
        }[self.way]
        begins = {WARM: (baseline,), TUNED: self._weights(SUBNET)}.get(self.way, ())
        return Task(
            result=known,
            schedule=schedule,
            initial_weights=begins,
            weights_file=weights_file,
            teacher_weights=baseline if begins else None,
        )

    def test_task(self) -> TestTask:
        return TestTask(number=self.number, config=self._known.config, weights=self._weights(self.way))

    def line(self, result: TrialResult, test_accuracy: float) -> dict[str, Any]:
        """Return the line of the table; ``layers`` are the activity of every layer after the last epoch."""
        return {
            "number": self.number,
            "way": self.way,
            "outcome": result.outcome.name,
            "test_accuracy": test_accuracy,
            "epochs": [asdict(epoch) for epoch in result.epochs],
            "layers": {name: asdict(activity) for name, activity in result.layers},
        }

    def remove_weights(self) -> None:
        """Remove the weights that nothing begins with."""
        if self.way == TUNED:
            self._weights(SUBNET)[-1].unlink(missing_ok=True)
        if self.way != SUBNET:
            self._weights(self.way)[-1].unlink(missing_ok=True)

    def _weights(self, way: str) -> tuple[Path, ...]:
        own = self._run.path / f"{self.number}-{way}.safetensors"
        return (self._run.supernet_file, own) if way == SUBNET else (own,)


def train_what_all_share(space: Path, run: str, workers: int) -> None:
    """Train the float baseline and the supernet, with its sensitivity analysis."""
    words = ["sensitivity", "--space", str(space), "--run", run, "--workers", str(workers)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "spquant_search.cli", *words], env=environment, check=True)


def record(missing: Sequence[Recording], trainer_config: TrainerConfig, workers: int) -> Iterator[dict[str, Any]]:
    """Yield the line of each recording, as soon as it is complete."""
    pool = TrainerPool(trainer_config, workers, warn=lambda words: print(words, file=sys.stderr))
    waiting = list(missing)
    given: dict[Trainer, Recording] = {}
    results: dict[Trainer, TrialResult] = {}
    try:
        while waiting or given:
            for trainer in pool.idle():
                if waiting:
                    given[trainer] = waiting.pop(0)
                    trainer.give(given[trainer].first_task())
            for trainer, message in pool.messages():
                recording = given[trainer]
                if isinstance(message, Epoch):
                    trainer.answer(None)
                elif isinstance(message, Trained):
                    results[trainer] = message.result
                    trainer.give(recording.test_task())
                elif isinstance(message, Tested):
                    pool.mark_done(trainer, message.seconds)
                    del given[trainer]
                    yield recording.line(results[trainer], message.accuracy)
                    recording.remove_weights()
                else:
                    raise SystemExit(f"configuration {recording.number}, {recording.way}: {message}")
    finally:
        pool.close()


def recorded(lines: Path) -> list[dict[str, Any]]:
    """Read the lines so far; a line that was being written at an interruption is dropped."""
    if not lines.is_file():
        return []
    whole = [line for line in lines.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    write_text(lines, "".join(whole))
    return [json.loads(line) for line in whole]


def pack(run: RunFolder, table: Sequence[dict[str, Any]], prepared: Prepared, file: Path) -> None:
    """Write the table: a first line of float baseline and machine, then a line of each configuration in each way."""
    baseline = read_result(run, BASELINE)
    if baseline is None:
        raise SystemExit(f"{run.path}: its float baseline is missing")
    tested = test_accuracies(run, [baseline], 1)[BASELINE]
    recording = Recording(BASELINE, prepared.space.baseline(), "baseline", prepared, run)
    head = {"versions": describe_environment(), "baseline": recording.line(baseline, tested)}
    ordered = sorted(table, key=lambda line: ((*WAYS, LONG).index(line["way"]), line["number"]))
    content = "".join(json.dumps(line) + "\n" for line in [head, *ordered])
    write_bytes(file, gzip.compress(content.encode(), mtime=0))
    print(f"written to {file.resolve()}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Learning curves of every configuration of a small space.")
    parser.add_argument("space", choices=SPACES, help="which one, of those in benchmarks/curves")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=(*WAYS, LONG), default=[*WAYS, LONG], help="only these, for now")
    parser.add_argument("--configurations", type=int, help="stop after so many of each way")
    options = parser.parse_args()
    os.chdir(CURVES)  # where model.build looks for the network
    os.environ["PYTHONPATH"] = os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])])
    space = Path(f"{options.space}.yaml")
    train_what_all_share(space, options.space, options.workers)
    run, prepared = find_run(options.space), prepare(space, [f"search.workers={options.workers}"])
    configs = every_configuration(prepared.space)
    lines = run.path / "curves.jsonl"
    table = recorded(lines)
    known = {(line["number"], line["way"]) for line in table}
    chosen = set(trained_long(options.space, len(configs)))
    missing = [
        Recording(number, config, way, prepared, run)
        for way in (*WAYS, LONG)
        if way in options.ways
        for number, config in enumerate(configs[: options.configurations])
        if (number, way) not in known and (way != LONG or number in chosen)
    ]
    trainer_config = TrainerConfig(space=prepared.space, device="cpu", cache=cache_folder())
    with lines.open("a", encoding="utf-8") as file:
        for line in record(missing, trainer_config, options.workers):
            file.write(json.dumps(line) + "\n")
            file.flush()
            table.append(line)
            print(f"{len(table)} of {len(configs) * len(WAYS) + len(chosen)}: {line['way']}", flush=True)
    if len(table) == len(configs) * len(WAYS) + len(chosen):
        pack(run, table, prepared, Path(f"{options.space}.jsonl.gz"))


if __name__ == "__main__":
    main()
