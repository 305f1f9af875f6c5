"""The ranking of configurations by their evaluation as subnets, against training each on at its own precision.

    .venv/bin/python benchmarks/subnet_evaluation.py runs/vgg9             # or --drawn: at random from the space

A finished run of the default search has evaluated its configurations as subnets of the supernet. Some of them, alike
many of each number of time steps and of those evenly from the least to the most accurate, are trained on as the search
trains its finalists (`final.epochs`; with `--train-gates` their gates too), and measured on the whole validation
split. A search proposes few configurations of a number of time steps that it finds no use for, and those alike: with
`--drawn` configurations are drawn as the supernet's training draws them, and evaluated as subnets first. Figures:
Spearman's rank correlation, the mean difference (the subnet's accuracy less that after training on) and the lowest
one, of all configurations, of each number of time steps, and of those without 1-bit layers; and the ratio of the
operations after training on to those of the subnet: least, mean, most.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measurement import as_document

from spquant_search.costs.memory import cost_report
from spquant_search.driver.grey_box.gaussian_process import rank_correlation
from spquant_search.driver.seeds import trial_seed
from spquant_search.processes import keep_compiled_code
from spquant_search.runs.files import cache_folder
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.records import read_frozen_space, read_results
from spquant_search.runs.results import BASELINE, Origin, Outcome, TrialResult, unmeasured
from spquant_search.space.configuration import NetworkConfig
from spquant_search.training.prepare import bind_network
from spquant_search.training.prepared import Prepared
from spquant_search.training.schedule import Schedule
from spquant_search.training.supernet import random_configuration
from spquant_search.training.tasks import SubnetTask, Task
from spquant_search.workers.messages import Epoch, Trained, TrainerConfig
from spquant_search.workers.pool import TrainerPool
from spquant_search.workers.trainer import Trainer

COUNT, WORKERS = 60, 2
FIRST_DRAWN = 10_000  # the number of the first configuration that no trial has tried


def chosen(results: tuple[TrialResult, ...], count: int) -> list[TrialResult]:
    """Choose subnets: alike many of each number of time steps, as far as there are, evenly from the least accurate."""
    subnets = [result for result in results if result.outcome is Outcome.SUBNET]
    groups = [
        sorted((one for one in subnets if one.config.time_steps == steps), key=lambda one: one.accuracy)
        for steps in {one.config.time_steps for one in subnets}
    ]
    found, left = [], count
    for index, group in enumerate(sorted(groups, key=len)):  # what a small group lacks, larger ones make up for
        share = min(len(group), left // (len(groups) - index))
        places = np.unique(np.linspace(0, len(group) - 1, share).astype(int))
        found += [group[place] for place in places]
        left -= len(places)
    return found


def drawn_configurations(prepared: Prepared, count: int) -> list[NetworkConfig]:
    """Draw alike many configurations of each number of time steps, as the supernet's training draws them.

    There are fewer where a space has fewer.
    """
    generator, steps = random.Random(0), prepared.space.file.time_steps
    found: dict[int, dict[NetworkConfig, None]] = {number: {} for number in steps}
    for _ in range(100 * count):
        config = random_configuration(prepared.space, generator)
        if len(found[config.time_steps]) < count // len(steps):
            found[config.time_steps][config] = None
    return [config for group in found.values() for config in group]


def evaluate_drawn(
    run: RunFolder, prepared: Prepared, pool: TrainerPool, folder: Path, count: int
) -> list[tuple[TrialResult, tuple[Path, ...]]]:
    """Evaluate drawn configurations as subnets; return their results, each with the files of its weights."""
    tasks = []
    for number, config in enumerate(drawn_configurations(prepared, count), start=FIRST_DRAWN):
        cost = cost_report(prepared.shapes, config)
        result = unmeasured(
            number=number,
            origin=Origin.RANDOM,
            config=config,
            seed=0,
            cost=cost,
            device=prepared.footprint(cost),
            outcome=Outcome.FAILED,
            reason="",
        )
        statistics = folder / f"{number}.statistics.safetensors"
        tasks.append(SubnetTask(result=result, supernet_weights=run.supernet_file, weights_file=statistics))
    found = []
    for task, message in pool.work_off(tasks):
        if not isinstance(message, Trained):
            raise SystemExit(f"{task.result.number}: {message}")
        found.append((message.result, (run.supernet_file, task.weights_file)))
    return found


def train_on(pool: TrainerPool, tasks: list[Task]) -> dict[int, TrialResult]:
    """Fine-tune as the search does, and return the results by number."""
    waiting, found = list(tasks), dict[int, TrialResult]()
    while waiting or pool.busy():
        for trainer in pool.idle():
            if waiting:
                trainer.give(waiting.pop(0))
        for trainer, message in pool.messages():
            _listen(pool, trainer, message, found)
    return found


def _task(run: RunFolder, member: TrialResult, weights: tuple[Path, ...], folder: Path, *, gates: bool) -> Task:
    """Return the task that trains a member on from its weights; ``gates``: its gates too."""
    file = read_frozen_space(run)
    schedule = Schedule.of_finalists(file.final).at(member.config.time_steps, most=file.most_time_steps)
    return Task(
        result=replace(member, seed=trial_seed(file.search.seed, 10_000 + member.number), final=None),
        schedule=replace(schedule, trains_gates=gates),
        initial_weights=weights,
        weights_file=folder / f"{member.number}.safetensors",
        teacher_weights=run.weights_file(BASELINE),
    )


def _listen(pool: TrainerPool, trainer: Trainer, message: Any, found: dict[int, TrialResult]) -> None:
    if isinstance(message, Epoch):
        trainer.answer(None)
    elif isinstance(message, Trained):
        pool.mark_done(trainer, message.seconds)
        found[message.result.number] = message.result
        print(f"trial {message.result.number}: {100 * message.result.accuracy:.1f} %", file=sys.stderr, flush=True)
    else:
        raise SystemExit(f"{trainer.task.result.number}: {message}")


def figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    parts = {"": rows, "_from_2_bits": [row for row in rows if row["fewest_bits"] > 1]}
    for steps in sorted({row["time_steps"] for row in rows}):
        parts[f"_at_{steps}_steps"] = [row for row in rows if row["time_steps"] == steps]
    for name, part in parts.items():
        if len(part) < 2:
            continue
        subnet, trained = (np.array([row[key] for row in part]) for key in ("subnet", "trained_on"))
        found |= {
            f"count{name}": len(part),
            f"subnet_spearman{name}": rank_correlation(subnet, trained),
            f"mean_difference_points{name}": 100 * float((subnet - trained).mean()),
            f"worst_difference_points{name}": 100 * float((subnet - trained).min()),
        }
    ratios = [row["macs_trained_on"] / row["macs_subnet"] for row in rows]
    return found | {
        "least_macs_ratio": min(ratios),
        "macs_ratio": float(np.mean(ratios)),
        "most_macs_ratio": max(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluation as subnets against training on.")
    parser.add_argument("run", type=Path, help="the folder of a finished search with strategy supernet")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--train-gates", action="store_true", help="train gates too, which a search does not")
    parser.add_argument("--drawn", action="store_true", help="configurations drawn at random, not the search's")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    keep_compiled_code(cache_folder())
    run = RunFolder(path=options.run)
    prepared = bind_network(read_frozen_space(run), source=str(run.space_file))
    trainer_config = TrainerConfig(space=prepared.space, device="cpu", cache=cache_folder())
    pool = TrainerPool(trainer_config, options.workers, warn=lambda words: print(words, file=sys.stderr))
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if options.drawn:
                subnets = evaluate_drawn(run, prepared, pool, folder, options.count)
            else:
                subnets = [(member, run.weights_of(member)) for member in chosen(read_results(run), options.count)]
            tasks = [_task(run, member, weights, folder, gates=options.train_gates) for member, weights in subnets]
            trained = train_on(pool, tasks)
    finally:
        pool.close()
    rows = [
        {
            "trial": member.number,
            "time_steps": member.config.time_steps,
            "memory_bytes": member.memory_bytes,
            "fewest_bits": min(layer.weight_bits for _, layer in member.config.layers),
            "subnet": member.accuracy,
            "trained_on": trained[member.number].accuracy,
            "macs_subnet": member.effective_macs,
            "macs_trained_on": trained[member.number].effective_macs,
        }
        for member, _ in subnets
    ]
    document = as_document(rows, figures(rows))
    print(json.dumps(document if options.json else document["figures"], indent=1))


if __name__ == "__main__":
    main()
