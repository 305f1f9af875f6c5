"""The grids of stored membranes for each kind of neuron: accuracy by levels and range, as trained and fine-tuned.

    .venv/bin/python benchmarks/membrane_grids.py                  # a table; --json for its rows
    .venv/bin/python benchmarks/membrane_grids.py --forms subtract IF --levels 16

The small network of `curves/` on the default data. For every form of neurons and seed a network is trained with float
weights and membranes. Then its membranes are stored on one grid after another, with these weights as they are, and
fine-tuned from there; weights stay floats, so that nothing but the grid makes a difference. Accuracy is that on the
validation and test splits together; a figure is the mean over seeds, in points above that of the float network. Ranges
are those of steps that are powers of two: with a reset to zero nothing above 1 is ever stored, so that [-2, 2) is
[-2, 1] there.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from measurement import as_document, markdown_table
from torch import nn

from spquant_search.processes import keep_compiled_code, tune_allocator
from spquant_search.runs.files import cache_folder
from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.snn.neuron.module import Neuron
from spquant_search.space.grid import MembraneGrid
from spquant_search.training.data_set import input_shape, load_data, split_on_device
from spquant_search.training.evaluation import accuracy
from spquant_search.training.loader import LoadedSplit
from spquant_search.training.loop import TrainingRun, epoch_losses
from spquant_search.training.network import new_network
from spquant_search.training.prepare import prepare
from spquant_search.training.prepared import Prepared
from spquant_search.training.schedule import Schedule

SPACE = Path(__file__).parents[1] / "spaces" / "vgg9.yaml"
FORMS: dict[str, tuple[str, ...]] = {
    "zero": ("neuron.leak=0.5",),
    "subtract": ("neuron.leak=0.9", "neuron.reset=subtract"),
    "delayed": ("neuron.leak=0.9", "neuron.reset=delayed-subtract"),
    "IF": ("neuron.leak=1", "neuron.reset=subtract"),
}
LEVELS = (3, 16, 64, 256)
RANGES = (1.0, 2.0)  # from minus that to that, less a step where the number of levels is even
SEEDS, FLOAT_EPOCHS, EPOCHS = 3, 8, 1


def grid(levels: int, reach: float) -> MembraneGrid:
    """Return so many levels from ``-reach`` on, by the smallest power of two that comes up to ``reach`` or near it."""
    step = 2.0 ** math.ceil(math.log2(2 * reach / levels)) if levels > 3 else reach
    return MembraneGrid(levels=levels, lowest=-reach, step=step)


class Bench:
    """A space of one form of neurons, with its data."""

    def __init__(self, form: str, options: argparse.Namespace) -> None:
        more = [*FORMS[form], "layers={all: {}}", "search.references=[]", f"data.train_samples={options.samples}"]
        self.prepared: Prepared = prepare(SPACE, ["model.build=curves.small_network:wide", *more])
        self.file = self.prepared.space.file
        data = load_data(self.file, cache=cache_folder())
        device = torch.device("cpu")
        self.shape = input_shape(data)
        self.training = split_on_device(data, "train", device)
        self.measured = [split_on_device(data, name, device) for name in ("validation", "test")]

    def new_network(self, seed: int) -> nn.Module:
        network = new_network(self.file, self.shape, seed=seed, device=torch.device("cpu"))
        configure(network, self.prepared.space.baseline(), self.file.neuron)
        return network

    def train(self, network: nn.Module, seed: int, *, epochs: int, rate: float) -> None:
        schedule = Schedule(epochs=epochs, learning_rate=rate)
        run = TrainingRun(network=network, training=self.training, recipe=self.file.train, schedule=schedule, seed=seed)
        for _loss in epoch_losses(run):
            pass

    def accuracy(self, network: nn.Module) -> float:
        return 100 * mean_accuracy(network, self.measured)

    def use(self, network: nn.Module, chosen: MembraneGrid) -> None:
        for layer in searchable_layers(network).values():
            if isinstance(neuron := getattr(layer, "neuron", None), Neuron):
                neuron.configure(self.file.neuron.form, grid=chosen, skip_below=None)


def mean_accuracy(network: nn.Module, splits: Sequence[LoadedSplit]) -> float:
    correct = sum(accuracy(network, split) * len(split) for split in splits)
    return correct / sum(map(len, splits))


def rows_of(form: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train and measure all grids of a form: a row for each grid and seed."""
    bench, rows = Bench(form, options), []
    for seed in range(options.seeds):
        network = bench.new_network(seed)
        bench.train(network, seed, epochs=options.float_epochs, rate=bench.file.train.baseline_learning_rate)
        weights, float_accuracy = copy.deepcopy(network.state_dict()), bench.accuracy(network)
        for levels in options.levels:
            for reach in RANGES:
                network.load_state_dict(weights)
                bench.use(network, grid(levels, reach))
                found = {"form": form, "levels": levels, "reach": reach, "seed": seed, "float": float_accuracy}
                found["as_trained"] = bench.accuracy(network)
                bench.train(network, seed + 1000, epochs=options.epochs, rate=bench.file.train.learning_rate)
                found["fine_tuned"] = bench.accuracy(network)
                rows.append(found)
                print(json.dumps(found), file=sys.stderr, flush=True)
    return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean over seeds of each grid, in points above the float network of the same seed."""
    kinds = dict.fromkeys((row["form"], row["levels"], row["reach"]) for row in rows)
    found = []
    for form, levels, reach in kinds:
        same = [row for row in rows if (row["form"], row["levels"], row["reach"]) == (form, levels, reach)]
        one: dict[str, Any] = {"form": form, "levels": levels, "reach": reach}
        one["float"] = statistics.mean(row["float"] for row in same)
        for name in ("as_trained", "fine_tuned"):
            points = [row[name] - row["float"] for row in same]
            one[name] = statistics.mean(points)
            one[f"{name}_spread"] = max(points) - min(points)
        found.append(one)
    return found


def table(means: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each form and number of levels: points of each range, with how far the seeds are apart."""
    lines: dict[tuple[str, int], list[str]] = {}
    for one in means:
        line = lines.setdefault((one["form"], one["levels"]), [f"{one['float']:.1f}"])
        line += [f"{one[name]:+.1f} ({one[f'{name}_spread']:.1f})" for name in ("as_trained", "fine_tuned")]
    headings = ["form", "levels", "float, %"]
    headings += [f"[-{reach:g}, {reach:g}) {kind}" for reach in RANGES for kind in ("as trained", "fine-tuned")]
    return markdown_table(headings, [(form, str(levels), *line) for (form, levels), line in lines.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy by the grid of stored membranes, for each kind of neuron.")
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS))
    parser.add_argument("--levels", nargs="+", type=int, default=LEVELS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--float-epochs", type=int, default=FLOAT_EPOCHS)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of fine-tuning on a grid")
    parser.add_argument("--samples", type=int, default=1500, help="to train on")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tune_allocator()
    keep_compiled_code(cache_folder())
    torch.set_num_threads(1)
    rows = [row for form in options.forms for row in rows_of(form, options)]
    means = summary(rows)
    figures = {
        f"{one['form']}_{one['levels']}_{one['reach']:g}_{name}": one[name]
        for one in means
        for name in ("as_trained", "fine_tuned")
    }
    print(json.dumps(as_document(rows, figures), indent=1) if options.json else "\n".join(table(means)))


if __name__ == "__main__":
    main()
