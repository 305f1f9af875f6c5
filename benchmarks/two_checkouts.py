"""Training steps of the shipped networks in two checkouts of this repository, which take turns.

    git worktree add ../before COMMIT
    .venv/bin/python benchmarks/two_checkouts.py ../before                 # against this one; --json for its figures
    .venv/bin/python benchmarks/two_checkouts.py ../before --at-most 1.05  # exits with 1 if a step takes more

Steps in floating point and with all gates and masks, at small widths and batches, on frames that are made up. Both
checkouts run at once, each in a process of its own, and take turns step by step, so that a busy moment of the machine
meets both: a pair is a step of each, the first of which changes from pair to pair. Every round begins with new
processes. A figure is the median of all pairs, after over before. What is compiled is kept between processes, and what
is compiled for the first time is compiled before the first round.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
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
WARM_UP, STEPS, ROUNDS = 2, 20, 3
KINDS = 2  # of steps of a space
NEXT_KIND = "next"  # the line that ends a kind
Pair = tuple[float, float]  # milliseconds of a step before and after


# ---------------------------------------------------------------- in a process of one checkout


def _sparse(space: SearchSpace) -> NetworkConfig:
    """Return a configuration with all the gates and masks that the space has."""
    values = {}
    for address, options in space.layer_choices().items():
        on = [option for option in options if OFF.get(address.parameter, "") != option]
        values[address] = (on or options)[0]
    return space.config(values)


def steps_of(name: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Give a space's training steps, in floating point and with gates and masks, with their names."""
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
    for kind, config in (("float", prepared.space.baseline()), ("sparse", _sparse(prepared.space))):
        network = new_network(file, shape, seed=0, device=torch.device("cpu")).train()
        configure(network, config, file.neuron)
        optimizer = new_optimizer(network, file.train, Schedule(epochs=1, learning_rate=1e-4))
        yield f"{name}, {kind}", partial(train_step, network, batch, file.train, optimizer)


def run_when_told(spaces: Sequence[str]) -> None:
    """Run a step for each line of standard input but the last of a kind, and print its milliseconds."""
    tune_allocator()
    keep_compiled_code(cache_folder())
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    print(Path(spquant_search.__file__).resolve().parents[1], flush=True)
    for name in spaces:
        for kind, step in steps_of(name):
            for _ in range(WARM_UP):
                step()
            print(kind, flush=True)
            for line in sys.stdin:
                if line.strip() == NEXT_KIND:
                    break
                started = time.perf_counter()
                step()
                print(1000 * (time.perf_counter() - started), flush=True)


# ---------------------------------------------------------------- both of them


class Checkout:
    """A process that runs the training steps of one checkout, one at a time."""

    def __init__(self, folder: Path, spaces: Sequence[str], threads: int) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), str(folder), "--here", "--spaces", *spaces]
        environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": str(threads)}
        pipe = subprocess.PIPE
        self._folder = folder
        self._process = subprocess.Popen(command, cwd=folder, env=environment, stdin=pipe, stdout=pipe, text=True)
        if Path(package := self.answer()) != folder:
            raise SystemExit(f"{folder}: its package was not taken, but that of {package}")

    def answer(self) -> str:
        """Return the next line that the process prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._folder}: its process ended with {self._process.wait()}")
        return line.strip()

    def tell(self, word: str) -> None:
        """Send a line to the process."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def step(self) -> float:
        """Run a step and return its milliseconds."""
        self.tell("step")
        return float(self.answer())

    def close(self) -> None:
        """Wait for the process, whose steps are done."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def measure_round(folders: Sequence[Path], options: argparse.Namespace, *, steps: int) -> dict[str, list[Pair]]:
    """Measure each kind of step in both checkouts, before and after, in turns."""
    before, after = (Checkout(folder, options.spaces, options.threads) for folder in folders)
    found: dict[str, list[Pair]] = {}
    for _ in range(KINDS * len(options.spaces)):
        kind = before.answer()
        after.answer()
        pairs = found.setdefault(kind, [])
        for number in range(steps):
            if number % 2:
                late = after.step()
                pairs.append((before.step(), late))
            else:
                early = before.step()
                pairs.append((early, after.step()))
        for checkout in (before, after):
            checkout.tell(NEXT_KIND)
    for checkout in (before, after):
        checkout.close()
    return found


def in_turns(folders: Sequence[Path], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the checkouts in turns: a row for each kind of step."""
    measure_round(folders, options, steps=0)  # compiles
    seen: dict[str, list[list[Pair]]] = {}
    for number in range(options.rounds):
        for kind, pairs in measure_round(folders, options, steps=options.steps).items():
            seen.setdefault(kind, []).append(pairs)
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    rows = []
    for kind, rounds in seen.items():
        by_round = [statistics.median(after / before for before, after in pairs) for pairs in rounds]
        all_pairs = [pair for pairs in rounds for pair in pairs]
        before, after = (statistics.median(pair[index] for pair in all_pairs) for index in (0, 1))
        ratio = statistics.median(after / before for before, after in all_pairs)
        middle = {"before_ms": before, "after_ms": after, "ratio": ratio}
        rows.append({"step": kind, **middle, "lowest": min(by_round), "highest": max(by_round)})
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
    parser.add_argument("--steps", type=int, default=STEPS, help="of each kind in a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--at-most", type=float, help="exit with 1 if a step takes more than so many times the other's")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        run_when_told(options.spaces)
        return
    rows = in_turns((options.before.resolve(), HERE), options)
    figures = {f"ratio_{re.sub('[^a-z0-9]+', '_', row['step'])}": row["ratio"] for row in rows}
    print(json.dumps(as_document(rows, figures), indent=1) if options.json else "\n".join(table(rows)))
    if options.at_most is not None and any(ratio > options.at_most for ratio in figures.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
