"""The growth of a training step with the network: its time against its multiply-accumulates.

    .venv/bin/python benchmarks/scaling.py            # a table; --json for its figures

VGG-9 on 34x34 events, 4-bit weights and 3 levels, pooling before the neuron, one core. Width, time steps and batch size
grow one at a time from a common middle; in every series the last doubling's growth in time is compared with its growth
in work. 1 means linear; below 1 the larger network is the more efficient one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from typing import Any

import torch
from measurement import as_document, figure_lines, markdown_table

from spquant_search.costs.memory import cost_report
from spquant_search.processes import keep_compiled_code, tune_allocator
from spquant_search.runs.files import cache_folder
from spquant_search.snn.inspection import inspect_network
from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.snn.networks.catalog import build
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.schema import ModelSpace, NeuronSpace, Training
from spquant_search.space.shapes import InputShape
from spquant_search.training.loader import DeviceSplit
from spquant_search.training.loop import train_step
from spquant_search.training.optimizer import new_optimizer
from spquant_search.training.schedule import Schedule

SHAPE = InputShape(channels=2, height=34, width=34, classes=10)
MIDDLE = {"width": 0.25, "time_steps": 4, "batch": 32}
SERIES: dict[str, tuple[float, ...]] = {
    "width": (0.0625, 0.125, 0.25, 0.5),
    "time_steps": (2, 4, 8, 16),
    "batch": (8, 16, 32, 64),
}
WARM_UP, STEPS = 3, 5


def measure(width: float, time_steps: int, batch: int) -> dict[str, float]:
    """Measure the median milliseconds of a training step, and count the millions of MACs of its forward pass."""
    model = ModelSpace(network="vgg9", width=width, pool="before")
    shapes = inspect_network(model, SHAPE, time_steps=time_steps, source="benchmark").shapes
    torch.manual_seed(0)
    network = build(model, SHAPE, source="benchmark").to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    config = NetworkConfig(
        time_steps=time_steps,
        layers=tuple(
            (name, replace(LayerPrecision(weight_bits=4), membrane_levels=3 if hasattr(layer, "neuron") else None))
            for name, layer in searchable_layers(network).items()
        ),
    )
    configure(network, config, NeuronSpace())
    recipe = Training()
    optimizer = new_optimizer(network, recipe, Schedule(epochs=1, learning_rate=1e-3))
    generator = torch.Generator().manual_seed(0)
    frames = (torch.rand(batch, time_steps, 2, 34, 34, generator=generator) < 0.1).to(torch.uint8)
    labels = torch.randint(SHAPE.classes, (batch,), generator=generator)
    batch_of = DeviceSplit(frames=frames, labels=labels, time_steps=time_steps, largest=15)
    milliseconds = []
    for _ in range(WARM_UP + STEPS):
        started = time.perf_counter()
        train_step(network, batch_of, recipe, optimizer)
        milliseconds.append(1000 * (time.perf_counter() - started))
    macs = cost_report(shapes, config).dense_macs_all_steps * batch
    return {"ms": statistics.median(milliseconds[WARM_UP:]), "forward_mmacs": macs / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of a training step against its work.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tune_allocator()
    keep_compiled_code(cache_folder())
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name, values in SERIES.items():
        for value in values:
            chosen = {**MIDDLE, name: value}
            found = measure(chosen["width"], int(chosen["time_steps"]), int(chosen["batch"]))
            rows.append(
                {"series": name, "value": value, **found, "ms_per_gmac": 1000 * found["ms"] / found["forward_mmacs"]}
            )
    figures = {}
    for name in SERIES:
        smaller, larger = [row for row in rows if row["series"] == name][-2:]
        work = larger["forward_mmacs"] / smaller["forward_mmacs"]
        figures[f"growth_with_{name}"] = larger["ms"] / smaller["ms"] / work
    document = as_document(rows, figures)
    print(json.dumps(document, indent=1) if options.json else table(document))


def table(document: dict[str, Any]) -> str:
    cells = [
        (
            row["series"],
            f"{row['value']:g}",
            f"{row['forward_mmacs']:.0f}",
            f"{row['ms']:.1f}",
            f"{row['ms_per_gmac']:.1f}",
        )
        for row in document["rows"]
    ]
    lines = markdown_table(("series", "value", "forward MMACs", "ms a step", "ms a GMAC"), cells)
    return "\n".join([*lines, *figure_lines(document["figures"], ".2f")])


if __name__ == "__main__":
    main()
