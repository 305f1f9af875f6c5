"""Float, quantized, and quantized and sparse: the paper's three systems on its networks, at reduced width.

    .venv/bin/python benchmarks/networks.py            # a table; --json for its figures

`fashion-events` (simulated), equal epochs from equal random weights for all three systems, several seeds. The systems
are the presets `snn-bl`, `quant-snn` and `spquant-snn`. Accuracy is that of the last epoch on the validation and test
splits together; operations are the measured effective MACs of a sample over all time steps, gates' predictors included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
from pathlib import Path
from typing import Any

from spquant_search.prepare import load_data, prepare
from spquant_search.presets import Preset
from spquant_search.runfolder import describe_environment
from spquant_search.runtime import cache_folder, keep_compiled_code, tune_allocator

SPACE = Path(__file__).parents[1] / "spaces" / "vgg9.yaml"
# Width factors that bring the three to comparable work; pooling after the neuron, as in the paper.
NETWORKS = {"vgg9": 0.125, "resnet19": 0.0625, "spikformer4-256": 0.25}
SAMPLES, EPOCHS, SEEDS, WORKERS = 6000, 6, 3, 2
LEARNING_RATE = 4e-3


def train_once(job: tuple[str, str, int, argparse.Namespace]) -> dict[str, Any]:
    """Train one system of one network in a process of its own."""
    network_name, preset_name, seed, options = job
    tune_allocator()
    keep_compiled_code(cache_folder())

    import torch

    from spquant_search.snn.networks import configure
    from spquant_search.space import preset_config
    from spquant_search.train import Schedule, evaluate, train
    from spquant_search.trial import input_shape, new_network, on_device

    torch.set_num_threads(1)
    prepared = prepare(SPACE, overrides(network_name, options))
    file = prepared.space.file
    data = load_data(file, cache=cache_folder())
    device = torch.device("cpu")
    network = new_network(file, input_shape(data), seed=seed, device=device)
    sites = [shape.site for shape in prepared.shapes]
    configure(network, preset_config(Preset(preset_name), network=network_name, sites=sites), file.neuron)
    validation, test = on_device(data, "validation", device), on_device(data, "test", device)
    seconds = 0.0
    for metrics, _ in train(
        network,
        training=on_device(data, "train", device),
        validation=validation,
        recipe=file.train,
        schedule=Schedule(epochs=options.epochs, learning_rate=LEARNING_RATE),
        seed=seed,
    ):
        seconds += metrics.seconds
    splits = [(evaluate(network, split), len(split)) for split in (validation, test)]
    samples = sum(count for _, count in splits)
    return {
        "network": network_name,
        "preset": preset_name,
        "seed": seed,
        "accuracy": sum(found.accuracy * count for found, count in splits) / samples,
        "effective_macs": sum(found.effective_macs * count for found, count in splits) / samples,
        "density": sum(found.density * count for found, count in splits) / samples,
        "seconds": seconds,
    }


def overrides(network: str, options: argparse.Namespace) -> list[str]:
    """The default space's data and recipe with another network; its references are not needed here."""
    return [
        f"model.network={network}",
        f"model.width={NETWORKS[network]}",
        "model.pool=after",
        f"data.train_samples={options.samples}",
        "search.references=[]",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="The paper's three systems on its networks, at reduced width.")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    first = prepare(SPACE, overrides(options.networks[0], options)).space.file
    load_data(first, cache=cache_folder())  # simulated once, before the processes
    jobs = [
        (network, preset.value, seed, options)
        for network in options.networks
        for seed in range(options.seeds)
        for preset in Preset
    ]
    with multiprocessing.get_context("spawn").Pool(WORKERS, maxtasksperchild=1) as pool:
        runs = pool.map(train_once, jobs, chunksize=1)
    document = summary(runs, options)
    print(json.dumps(document, indent=1) if options.json else table(document))


def summary(runs: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    rows, figures = [], {}
    for network in options.networks:
        mean = {}
        for preset in Preset:
            chosen = [run for run in runs if run["network"] == network and run["preset"] == preset.value]
            accuracies = [100 * run["accuracy"] for run in chosen]
            mean[preset] = {
                "network": network,
                "preset": preset.value,
                "accuracy": statistics.mean(accuracies),
                "spread": max(accuracies) - min(accuracies),
                "effective_mmacs": statistics.mean(run["effective_macs"] for run in chosen) / 1e6,
                "density": statistics.mean(run["density"] for run in chosen),
            }
            rows.append(mean[preset])
        float_row, quant, sparse = (mean[preset] for preset in (Preset.SNN_BL, Preset.QUANT_SNN, Preset.SPQUANT_SNN))
        name = network.partition("-")[0]
        figures[f"{name}_quant_minus_float_points"] = quant["accuracy"] - float_row["accuracy"]
        figures[f"{name}_spquant_minus_float_points"] = sparse["accuracy"] - float_row["accuracy"]
        figures[f"{name}_mac_reduction"] = float_row["effective_mmacs"] / sparse["effective_mmacs"]
    versions = describe_environment()
    return {
        "machine": {name: versions[name] for name in ("processor", "cores", "system")},
        "versions": versions,
        "recipe": f"fashion-events, {options.samples} training samples, {options.epochs} epochs, {options.seeds} seeds",
        "rows": rows,
        "runs": runs,
        "figures": figures,
    }


def table(document: dict[str, Any]) -> str:
    lines = [
        document["recipe"],
        "| network | system | accuracy % | largest - smallest | effective MMACs | density |",
        "|:--|:--|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row['network']} | {row['preset']} | {row['accuracy']:.1f} | {row['spread']:.1f} | "
        f"{row['effective_mmacs']:.1f} | {row['density']:.3f} |"
        for row in document["rows"]
    ]
    return "\n".join([*lines, *(f"{name}: {value:.3g}" for name, value in document["figures"].items())])


if __name__ == "__main__":
    main()
