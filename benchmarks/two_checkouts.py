"""Training steps of the shipped networks in two checkouts of this repository, which take turns.

    git worktree add ../before COMMIT
    .venv/bin/python benchmarks/two_checkouts.py ../before                 # against this one; --json for its figures
    .venv/bin/python benchmarks/two_checkouts.py ../before --at-most 1.05  # exits with 1 if a step takes more

Steps in floating point and with all gates and masks, at small widths and batches, on frames that are made up. Every
round measures each checkout in a process of its own, and the one that comes first changes from round to round, so that
a busy moment of the machine meets both. A figure is the median over rounds of the median step, after over before. What
is compiled is kept between processes; what is compiled for the first time is compiled before the first round.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from measurement import as_document, markdown_table

import spquant_search
from spquant_search.processes import keep_compiled_code, tune_allocator
from spquant_search.runs.files import cache_folder
from spquant_search.snn.layers import configure
from spquant_search.space.configuration import OFF, NetworkConfig
from spquant_search.space.search_space import SearchSpace
from spquant_search.space.shipped import shipped_spaces
from spquant_search.training.loader import DeviceSplit
from spquant_search.training.loop import train_step
from spquant_search.training.network import new_network
from spquant_search.training.optimizer import new_optimizer
from spquant_search.training.prepare import prepare
from spquant_search.training.schedule import Schedule

HERE = Path(__file__).resolve().parents[1]
# Events with pools and all kinds of quantizers, still images, residuals, attention, depthwise convolutions.
SPACES: dict[str, tuple[str, ...]] = {
    "vgg9": ("train.batch_size=32",),
    "vgg5-images": ("data.classes=10", "train.batch_size=32"),
    "resnet19-cifar10": ("model.width=0.125", "train.batch_size=8"),
    "spikformer4-256-cifar10": ("model.width=0.25", "train.batch_size=8"),
    "mobilenet-cifar10dvs": ("model.width=0.25", "train.batch_size=2"),
}
WARM_UP, STEPS, ROUNDS = 2, 7, 7


# ---------------------------------------------------------------- in a process of one checkout


def _sparse(space: SearchSpace) -> NetworkConfig:
    """Return a configuration with all the gates and masks that the space has."""
    values = {}
    for address, options in space.layer_choices().items():
        on = [option for option in options if OFF.get(address.parameter, "") != option]
        values[address] = (on or options)[0]
    return space.config(values)


def measure(name: str, *, steps: int) -> dict[str, float]:
    """Measure the median milliseconds of a space's training steps, in floating point and with gates and masks."""
    prepared = prepare(shipped_spaces()[name], SPACES[name])
    file, shape = prepared.space.file, prepared.input
    generator = torch.Generator().manual_seed(0)
    samples, time_steps = file.train.batch_size, 1 if name.endswith("images") else file.most_time_steps
    size = (samples, time_steps, shape.channels, shape.height, shape.width)
    batch = DeviceSplit(
        frames=(torch.rand(size, generator=generator) < 0.1).to(torch.uint8),
        labels=torch.randint(shape.classes, (samples,), generator=generator),
        time_steps=file.most_time_steps,
        largest=shape.largest,
    )
    found = {}
    for kind, config in (("float", prepared.space.baseline()), ("sparse", _sparse(prepared.space))):
        network = new_network(file, shape, seed=0, device=torch.device("cpu")).train()
        configure(network, config, file.neuron)
        optimizer = new_optimizer(network, file.train, Schedule(epochs=1, learning_rate=1e-4))
        milliseconds = []
        for _ in range(WARM_UP + steps):
            started = time.perf_counter()
            train_step(network, batch, file.train, optimizer)
            milliseconds.append(1000 * (time.perf_counter() - started))
        found[f"{name}, {kind}"] = statistics.median(milliseconds[WARM_UP:])
    return found


def measure_all(spaces: Sequence[str], *, steps: int) -> dict[str, Any]:
    """Measure spaces with the package that this process found."""
    tune_allocator()
    keep_compiled_code(cache_folder())
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    found: dict[str, float] = {}
    for name in spaces:
        found |= measure(name, steps=steps)
    return {"package": str(Path(spquant_search.__file__).resolve().parents[1]), "ms": found}


# ---------------------------------------------------------------- both of them


def of_checkout(checkout: Path, spaces: Sequence[str], *, steps: int, threads: int) -> dict[str, float]:
    """Measure one checkout in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), str(checkout), "--here", "--spaces", *spaces]
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [*command, "--steps", str(steps)], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{checkout}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    if Path(found["package"]) != checkout:
        raise SystemExit(f"{checkout}: its package was not taken, but that of {found['package']}")
    ms: dict[str, float] = found["ms"]
    return ms


def in_turns(checkouts: Mapping[str, Path], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the checkouts in turns: a row for each kind of step."""
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
    for number in range(-1, options.rounds):
        for name in list(checkouts)[:: -1 if number % 2 else 1]:
            steps = options.steps if number >= 0 else 1  # the round before the first one compiles
            ms = of_checkout(checkouts[name], options.spaces, steps=steps, threads=options.threads)
            if number >= 0:
                seen[name].append(ms)
                print(f"round {number + 1}, {name}: {json.dumps(ms)}", file=sys.stderr, flush=True)
    rows = []
    for kind in seen["before"][0]:
        before, after = ([ms[kind] for ms in seen[name]] for name in ("before", "after"))
        by_round = [late / early for early, late in zip(before, after, strict=True)]
        middle = {"before_ms": statistics.median(before), "after_ms": statistics.median(after)}
        ratio = middle["after_ms"] / middle["before_ms"]
        rows.append({"step": kind, **middle, "ratio": ratio, "lowest": min(by_round), "highest": max(by_round)})
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    numbers = ("before_ms", "after_ms", "ratio", "lowest", "highest")
    cells = [(row["step"], *(f"{row[one]:.{1 if one.endswith('ms') else 3}f}" for one in numbers)) for row in rows]
    return markdown_table(("step", "before, ms", "after, ms", "ratio", "of a round, lowest", "highest"), cells)


def main() -> None:
    parser = argparse.ArgumentParser(description="Training steps of two checkouts, which take turns.")
    parser.add_argument("before", type=Path, help="the folder of another checkout")
    parser.add_argument("--spaces", nargs="+", choices=list(SPACES), default=list(SPACES))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--at-most", type=float, help="exit with 1 if a step takes more than so many times the other's")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure_all(options.spaces, steps=options.steps)))
        return
    rows = in_turns({"before": options.before.resolve(), "after": HERE}, options)
    figures = {f"ratio_{re.sub('[^a-z0-9]+', '_', row['step'])}": row["ratio"] for row in rows}
    print(json.dumps(as_document(rows, figures), indent=1) if options.json else "\n".join(table(rows)))
    if options.at_most is not None and any(ratio > options.at_most for ratio in figures.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
