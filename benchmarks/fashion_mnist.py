"""All of Fashion-MNIST, as still images and as simulated camera events: VGG-9 trained for a given time.

    apt-get install dataset-fashion-mnist      # Debian's package; or name another folder by --root
    .venv/bin/python benchmarks/fashion_mnist.py --minutes 20      # a table; --json for its figures

VGG-9 at width 0.25 in floating point with the default space's recipe, pooling before the neuron. The two run side by
side, one core each. The number of whole epochs that comes nearest to the minutes is computed from the first steps,
which are then thrown away, so that the learning rate's schedule ends with the time. Accuracy is that of the last epoch
on the 10,000 test images.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

from measurement import as_document, markdown_table

from spquant_search.processes import available_cores, keep_compiled_code, tune_allocator
from spquant_search.runs.files import cache_folder
from spquant_search.training.data_set import load_data
from spquant_search.training.prepare import prepare

SPACE = Path(__file__).parents[1] / "spaces" / "vgg9.yaml"
WIDTH = 0.25
FORMS = {"still images": ("time_steps=2",), "events": ("time_steps=4", "data.as_events=true")}
TIMED_STEPS, WARM_UP_STEPS = 20, 5


def overrides(form: str, root: str) -> list[str]:
    data = ["data={name: fashion-mnist}", f"data.root={root}"]
    return [*data, *FORMS[form], f"model.width={WIDTH}", "search.references=[]"]


def train_for(job: tuple[str, argparse.Namespace]) -> dict[str, Any]:
    """Train one form for its minutes, in a process of its own."""
    form, options = job
    tune_allocator()
    keep_compiled_code(cache_folder())

    import torch

    from spquant_search.snn.layers import configure
    from spquant_search.training.data_set import input_shape, split_on_device
    from spquant_search.training.evaluation import evaluate
    from spquant_search.training.loop import TrainingRun, epoch_losses
    from spquant_search.training.network import new_network
    from spquant_search.training.schedule import Schedule

    torch.set_num_threads(1)
    prepared = prepare(SPACE, overrides(form, options.root))
    file, device = prepared.space.file, torch.device("cpu")
    data = load_data(file, cache=cache_folder())
    training = split_on_device(data, "train", device)

    def losses(samples: int, epochs: int) -> Any:
        network = new_network(file, input_shape(data), seed=0, device=device)
        configure(network, prepared.space.baseline(), file.neuron)
        rate = file.train.baseline_learning_rate
        schedule = Schedule(epochs=epochs, learning_rate=rate)
        chosen = training.batch(slice(0, samples))
        return network, epoch_losses(
            TrainingRun(network=network, training=chosen, recipe=file.train, schedule=schedule, seed=0)
        )

    list(losses(WARM_UP_STEPS * file.train.batch_size, 1)[1])  # compiles
    started = time.perf_counter()
    list(losses(TIMED_STEPS * file.train.batch_size, 1)[1])
    an_epoch = (time.perf_counter() - started) * len(training) / (TIMED_STEPS * file.train.batch_size)
    epochs = max(1, round(60 * options.minutes / an_epoch))
    started = time.perf_counter()
    network, trained = losses(len(training), epochs)
    loss = list(trained)[-1]
    seconds = time.perf_counter() - started
    row = {
        "form": form,
        "time_steps": file.most_time_steps,
        "training_samples": len(training),
        "epochs": epochs,
        "seconds": seconds,
        "loss": loss,
        "validation_accuracy": evaluate(network, split_on_device(data, "validation", device)).accuracy,
        "test_accuracy": evaluate(network, split_on_device(data, "test", device)).accuracy,
    }
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description="VGG-9 on all of Fashion-MNIST, for a given time.")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--root", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for form in options.forms:  # made once, on all cores, before the clock runs
        file = prepare(SPACE, overrides(form, options.root)).space.file
        load_data(file, cache=cache_folder(), processes=available_cores())
    with multiprocessing.get_context("spawn").Pool(len(options.forms), maxtasksperchild=1) as pool:
        rows = pool.map(train_for, [(form, options) for form in options.forms], chunksize=1)
    names = {"still images": "static", "events": "events"}
    document = as_document(rows, {f"{names[row['form']]}_test_accuracy": row["test_accuracy"] for row in rows})
    print(json.dumps(document, indent=1) if options.json else table(document))


def table(document: dict[str, Any]) -> str:
    cells = [
        (
            row["form"],
            f"{row['time_steps']}",
            f"{row['epochs']}",
            f"{row['seconds'] / 60:.1f}",
            f"{100 * row['validation_accuracy']:.1f}",
            f"{100 * row['test_accuracy']:.1f}",
        )
        for row in document["rows"]
    ]
    return "\n".join(markdown_table(("samples as", "time steps", "epochs", "minutes", "validation %", "test %"), cells))


if __name__ == "__main__":
    main()
