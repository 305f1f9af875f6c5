"""Float, quantized, and quantized and sparse: the paper's three systems on its networks, at reduced width.

    .venv/bin/python benchmarks/networks.py                                     # a table; --json for its figures
    .venv/bin/python benchmarks/networks.py --quantizers statistics sawb mean   # ways to quantize weights instead
    .venv/bin/python benchmarks/networks.py --channel-mass 0.9 0.85             # or other gates

`fashion-events` (simulated), several seeds. As in a search, a float network is trained first, and every system starts
from its weights, the float one too: all have the same total number of epochs, and those that are quantized imitate it
(`train.distillation`). The systems are the presets `snn-bl`,
`quant-snn` and `spquant-snn`; with `--quantizers`, 2 and 4 bits in every layer with ternary membranes, by each
quantizer that has those bits. Accuracy is that of the last epoch on the validation and test splits together; operations
are the measured effective MACs of a sample over all time steps, gates' predictors included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from measurement import as_document, figure_lines, markdown_table

from spquant_search.processes import keep_compiled_code, tune_allocator
from spquant_search.runs.files import cache_folder
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.fields import QUANTIZER_BITS
from spquant_search.space.presets import Preset
from spquant_search.space.references import preset_config
from spquant_search.training.data_set import load_data
from spquant_search.training.prepare import prepare
from spquant_search.training.prepared import Prepared

SPACE = Path(__file__).parents[1] / "spaces" / "vgg9.yaml"
# Width factors that bring the three to comparable work; pooling after the neuron, as in the paper.
NETWORKS = {"vgg9": 0.125, "resnet19": 0.0625, "spikformer4-256": 0.125}
SAMPLES, FLOAT_EPOCHS, EPOCHS, SEEDS, WORKERS = 3600, 4, 3, 3, 2
WATCHED = 250  # validation samples after every epoch, on which nothing depends
COMPARED_BITS = (2, 4)


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """A precision that is trained from the float network's weights."""

    name: str
    preset: Preset
    weight_bits: int | None = None  # None: the preset's
    quantizer: str = "statistics"
    channel_mass: float | None = None  # of every gate; None: the preset's

    def config(self, prepared: Prepared) -> NetworkConfig:
        shapes = prepared.shapes
        network, time_steps = prepared.space.file.model.network, prepared.space.file.most_time_steps
        preset = preset_config(
            self.preset, network=network, shapes=shapes, time_steps=time_steps, weight_bits=self.weight_bits
        )
        if self.channel_mass is None:
            return preset
        layers = (
            (name, replace(layer, channel_mass=self.channel_mass) if layer.channel_mass < 1 else layer)
            for name, layer in preset.layers
        )
        return replace(preset, layers=tuple(layers))


PRESETS = tuple(System(name=preset.value, preset=preset) for preset in Preset)


def compared(quantizers: list[str]) -> tuple[System, ...]:
    """List the float system, and every quantizer at those of the compared bits that it has."""
    quantized = [
        System(name=f"{bits} bits, {name}", preset=Preset.QUANT_SNN, weight_bits=bits, quantizer=name)
        for bits in COMPARED_BITS
        for name in quantizers
        if bits in QUANTIZER_BITS[name]  # type: ignore[index]
    ]
    return (System(name="float", preset=Preset.SNN_BL), *quantized)


def gated(masses: list[float]) -> tuple[System, ...]:
    """List the float system, and `spquant-snn` with other shares of the activity in its open channels."""
    sparse = [System(name=f"mass {mass:g}", preset=Preset.SPQUANT_SNN, channel_mass=mass) for mass in masses]
    return (System(name="float", preset=Preset.SNN_BL), *sparse)


def train_all(job: tuple[str, int, tuple[System, ...], argparse.Namespace]) -> list[dict[str, Any]]:
    """Train a float network from one seed, and from it all systems, in a process of its own."""
    network, seed, systems, options = job
    tune_allocator()
    keep_compiled_code(cache_folder())

    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "float.safetensors"
        float_system = System(name="float", preset=Preset.SNN_BL)
        train_one(network, float_system, seed, options, epochs=options.float_epochs, write_to=weights)
        runs = []
        for system in systems:
            runs.append(train_one(network, system, seed, options, epochs=options.epochs, start_from=weights))
            words = f"{network}, seed {seed}, {system.name}: {100 * runs[-1]['accuracy']:.1f} %"
            print(f"{words}, {runs[-1]['seconds']:.0f} s", file=sys.stderr, flush=True)
        return runs


def train_one(
    network_name: str,
    system: System,
    seed: int,
    options: argparse.Namespace,
    *,
    epochs: int,
    start_from: Path | None = None,
    write_to: Path | None = None,
) -> dict[str, Any]:
    """Train one system, from random weights at the float network's rate or from weights at the candidates' rate."""
    import torch

    from spquant_search.snn.layers import configure
    from spquant_search.training.data_set import input_shape, split_on_device
    from spquant_search.training.evaluation import evaluate
    from spquant_search.training.loader import take
    from spquant_search.training.loop import TrainingRun, train
    from spquant_search.training.network import load_weights, new_network, write_weights
    from spquant_search.training.schedule import Schedule
    from spquant_search.training.trial import float_teacher

    prepared = prepare(SPACE, overrides(network_name, system, options))
    file = prepared.space.file
    data = load_data(file, cache=cache_folder())
    device = torch.device("cpu")
    network = new_network(file, input_shape(data), seed=seed, device=device)
    configure(network, system.config(prepared), file.neuron)
    if start_from is not None:
        load_weights(network, start_from)
    training = split_on_device(data, "train", device)
    teacher = None
    if start_from is not None and system.preset is not Preset.SNN_BL:
        teacher = float_teacher(start_from, prepared.space, training=training, shape=input_shape(data))
    rate = file.train.baseline_learning_rate if start_from is None else file.train.learning_rate
    validation, test = split_on_device(data, "validation", device), split_on_device(data, "test", device)
    seconds = 0.0
    for metrics, _ in train(
        TrainingRun(
            network=network,
            training=training,
            recipe=file.train,
            schedule=Schedule(epochs=epochs, learning_rate=rate),
            seed=seed if start_from is None else seed + 1000,
            step_hook=teacher,
        ),
        take(validation, WATCHED),
    ):
        seconds += metrics.seconds
    if write_to is not None:
        write_weights(network, write_to)
    splits = [(evaluate(network, split), len(split)) for split in (validation, test)]
    samples = sum(count for _, count in splits)
    return {
        "network": network_name,
        "system": system.name,
        "seed": seed,
        "accuracy": sum(found.accuracy * count for found, count in splits) / samples,
        "effective_macs": sum(found.effective_macs * count for found, count in splits) / samples,
        "density": sum(found.density * count for found, count in splits) / samples,
        "seconds": seconds,
    }


def overrides(network: str, system: System, options: argparse.Namespace) -> list[str]:
    """Take the default space's data and recipe with another network; choices and references are not needed here."""
    return [
        f"model.network={network}",
        f"model.width={NETWORKS[network]}",
        f"model.pool={options.pool}",
        f"model.quantizer={system.quantizer}",
        f"data.train_samples={options.samples}",
        "layers={all: {}}",
        "search.references=[]",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="The paper's three systems on its networks, at reduced width.")
    parser.add_argument("--float-epochs", type=int, default=FLOAT_EPOCHS, help="of the network that all start from")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of every system, from there")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes of one thread")
    parser.add_argument("--pool", default="after", choices=["before", "after"])
    parser.add_argument("--networks", nargs="+", default=None, choices=list(NETWORKS))
    parser.add_argument("--quantizers", nargs="+", default=None, choices=list(QUANTIZER_BITS))
    parser.add_argument("--channel-mass", nargs="+", type=float, default=None, help="of spquant-snn's gates")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    alone = options.quantizers or options.channel_mass
    options.networks = options.networks or (["vgg9"] if alone else list(NETWORKS))
    systems = PRESETS
    if options.quantizers:
        systems = compared(options.quantizers)
    elif options.channel_mass:
        systems = gated(options.channel_mass)
    first = prepare(SPACE, overrides(options.networks[0], systems[0], options)).space.file
    load_data(first, cache=cache_folder())  # simulated once, before the processes
    # The last network is the slowest: what takes longest begins first.
    networks = reversed(options.networks)
    jobs = [(network, seed, systems, options) for network in networks for seed in range(options.seeds)]
    with multiprocessing.get_context("spawn").Pool(options.workers, maxtasksperchild=1) as pool:
        runs = [run for of_job in pool.map(train_all, jobs, chunksize=1) for run in of_job]
    document = summary(runs, systems, options)
    print(json.dumps(document, indent=1) if options.json else table(document))


def summary(runs: list[dict[str, Any]], systems: tuple[System, ...], options: argparse.Namespace) -> dict[str, Any]:
    rows = [
        row([run for run in runs if (run["network"], run["system"]) == (network, system.name)])
        for network in options.networks
        for system in systems
    ]
    epochs = f"{options.float_epochs} float epochs, then {options.epochs} of every system"
    recipe = (
        f"fashion-events, {options.samples} training samples, {epochs}, {options.seeds} seeds, "
        f"pooling {options.pool} the neuron"
    )
    return as_document(rows, figures(rows, systems), recipe=recipe, runs=runs)


def row(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Summarize one system of one network over its seeds; ``spread`` is largest less smallest accuracy, in points."""
    accuracies = [100 * run["accuracy"] for run in runs]
    return {
        "network": runs[0]["network"],
        "system": runs[0]["system"],
        "accuracy": statistics.mean(accuracies),
        "spread": max(accuracies) - min(accuracies),
        "effective_mmacs": statistics.mean(run["effective_macs"] for run in runs) / 1e6,
        "density": statistics.mean(run["density"] for run in runs),
        "seconds": statistics.mean(run["seconds"] for run in runs),
    }


def figures(rows: list[dict[str, Any]], systems: tuple[System, ...]) -> dict[str, float]:
    """Compute every system's mean accuracy less the float system's, in points, and the gates' factor of fewer MACs."""
    found: dict[str, float] = {}
    for start in range(0, len(rows), len(systems)):
        float_row, *others = rows[start : start + len(systems)]
        name = float_row["network"].partition("-")[0]
        for other in others:
            system = other["system"].removesuffix("-snn")
            system = system.replace(" bits, ", "_").replace("-", "_").replace(" ", "_").replace(".", "_")
            found[f"{name}_{system}_minus_float_points"] = other["accuracy"] - float_row["accuracy"]
            if other["effective_mmacs"] < float_row["effective_mmacs"]:
                of = "" if other["system"] == Preset.SPQUANT_SNN else f"{system}_"
                found[f"{name}_{of}mac_reduction"] = float_row["effective_mmacs"] / other["effective_mmacs"]
    return found


def table(document: dict[str, Any]) -> str:
    headings = ("network", "system", "accuracy %", "largest - smallest", "effective MMACs", "density", "training s")
    cells = [
        (
            row["network"],
            row["system"],
            f"{row['accuracy']:.1f}",
            f"{row['spread']:.1f}",
            f"{row['effective_mmacs']:.1f}",
            f"{row['density']:.3f}",
            f"{row['seconds']:.0f}",
        )
        for row in document["rows"]
    ]
    lines = [document["recipe"], *markdown_table(headings, cells, text_columns=2)]
    return "\n".join([*lines, *figure_lines(document["figures"], ".3g")])


if __name__ == "__main__":
    main()
