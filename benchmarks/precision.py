"""The accuracy that training in bf16 costs: pairs of trainings that differ in nothing else.

    .venv/bin/python benchmarks/precision.py --space spaces/vgg9.yaml        # a table; --json for its figures

Each seed trains the same network twice on the space's training split, in bf16 and in fp32, from equal weights and in
equal order; both are evaluated in the one form of evaluation, on the validation and test splits together. The figure is
the mean of the differences in points, with its 95 % interval (Student's t).
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from measurement import as_document, figure_lines, markdown_table

from spquant_search.processes import keep_compiled_code, tune_allocator
from spquant_search.runs.files import cache_folder
from spquant_search.training.data_set import load_data
from spquant_search.training.prepare import prepare
from spquant_search.training.prepared import Prepared

SEEDS, EPOCHS, WORKERS = 5, 6, 2
BITS, LEVELS = 4, 3
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 8: 2.365, 10: 2.262}  # two-sided, by number of pairs


def train_once(job: tuple[str, int, str, int]) -> dict[str, Any]:
    """Train one network in a process of its own, and measure it on all samples that it was not trained on."""
    space, seed, precision, epochs = job
    tune_allocator()
    keep_compiled_code(cache_folder())

    import torch

    from spquant_search.snn.layers import configure
    from spquant_search.training.data_set import input_shape, split_on_device
    from spquant_search.training.evaluation import evaluate
    from spquant_search.training.loop import TrainingRun, train
    from spquant_search.training.network import new_network
    from spquant_search.training.schedule import Schedule

    torch.set_num_threads(1)
    prepared = prepare(Path(space))
    file = prepared.space.file
    data = load_data(file, cache=cache_folder())
    device = torch.device("cpu")
    network = new_network(file, input_shape(data), seed=seed, device=device)
    configure(network, uniform(prepared), file.neuron)
    validation, test = split_on_device(data, "validation", device), split_on_device(data, "test", device)
    list(
        train(
            TrainingRun(
                network=network,
                training=split_on_device(data, "train", device),
                recipe=replace(file.train, precision=precision),
                schedule=Schedule(epochs=epochs, learning_rate=file.train.baseline_learning_rate),
                seed=seed,
            ),
            validation,
        )
    )
    correct = sum(evaluate(network, split).accuracy * len(split) for split in (validation, test))
    return {"seed": seed, "precision": precision, "accuracy": correct / (len(validation) + len(test))}


def uniform(prepared: Prepared) -> Any:
    """Set every layer to ``BITS`` bits and ``LEVELS`` levels, without gates and masks."""
    baseline = prepared.space.baseline()
    layers = tuple(
        (name, replace(one, weight_bits=BITS, membrane_levels=None if one.membrane_levels is None else LEVELS))
        for name, one in baseline.layers
    )
    return replace(baseline, layers=layers)


def main() -> None:
    parser = argparse.ArgumentParser(description="bf16 against fp32 training, in points of accuracy.")
    parser.add_argument("--space", default="spaces/vgg9.yaml")
    parser.add_argument("--seeds", type=int, default=SEEDS, choices=sorted(T_95))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    load_data(prepare(Path(options.space)).space.file, cache=cache_folder())  # simulated once, before the processes
    jobs = [(options.space, seed, kind, options.epochs) for seed in range(options.seeds) for kind in ("bf16", "fp32")]
    with multiprocessing.get_context("spawn").Pool(WORKERS, maxtasksperchild=1) as pool:
        runs = pool.map(train_once, jobs, chunksize=1)
    document = summary(runs, options)
    print(json.dumps(document, indent=1) if options.json else table(document))


def summary(runs: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    by_seed: dict[int, dict[str, float]] = {}
    for run in runs:
        by_seed.setdefault(run["seed"], {})[run["precision"]] = run["accuracy"]
    rows = [{"seed": seed, **both, "points": 100 * (both["bf16"] - both["fp32"])} for seed, both in by_seed.items()]
    points = [row["points"] for row in rows]
    half_width = T_95[len(points)] * statistics.stdev(points) / math.sqrt(len(points))
    figures = {
        "bf16_minus_fp32_points": statistics.mean(points),
        "interval_low": statistics.mean(points) - half_width,
        "interval_high": statistics.mean(points) + half_width,
    }
    network = f"{options.space}, {BITS}-bit weights, {LEVELS} levels, {options.epochs} epochs from random weights"
    return as_document(rows, figures, network=network)


def table(document: dict[str, Any]) -> str:
    cells = [
        (f"{row['seed']}", f"{100 * row['bf16']:.2f}", f"{100 * row['fp32']:.2f}", f"{row['points']:+.2f}")
        for row in document["rows"]
    ]
    lines = markdown_table(("seed", "bf16", "fp32", "points"), cells, text_columns=0)
    return "\n".join([document["network"], *lines, *figure_lines(document["figures"], "+.3f")])


if __name__ == "__main__":
    main()
