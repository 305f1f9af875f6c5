"""How often the host waits for the device: in a step, a step of the supernet, a batch, a subnet, an evaluation.

What is done once an epoch, or once for all subnets, is told apart by doing twice as much: the difference is that of the
steps or subnets. torch notices copies and numbers that are read; a few operations that wait it does not.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from gpu.part import Found, run, waits
from gpu.small_space import noise, small_space
from spquant_search.training import supernet
from spquant_search.training.evaluation import evaluate
from spquant_search.training.loader import HostSplit
from spquant_search.training.loop import TrainingRun, epoch_losses
from spquant_search.training.network import new_network
from spquant_search.training.prefix_reuse import subnet_accuracies
from spquant_search.training.prepared import Prepared
from spquant_search.training.schedule import Schedule

STEPS, SUBNETS, SAMPLES = 3, 2, 32
MOST = {"step": 0.0, "host_step": 0.0, "supernet_step": 0.0, "subnet": 1.0, "evaluation": 3.0}
SHOWN = 4  # places, the most frequent ones

Work = Callable[[int], object]  # so many steps or subnets of something


def measure(device: torch.device, *, steps: int = STEPS, samples: int = SAMPLES) -> Iterator[Found]:
    """Count one kind of work after another."""
    prepared = small_space()
    found: Found = {"waits": {}, "places": {}}
    for name, work in _works(prepared, device, samples).items():
        fewer = steps if "step" in name else SUBNETS
        work(fewer)  # compiles, and fills what is kept
        counts = []
        for number in (fewer, 2 * fewer):
            with waits(device) as seen:
                work(number)
            counts.append(len(seen))
        each = counts[0] if name == "evaluation" else (counts[1] - counts[0]) / fewer
        found["waits"][name] = each
        if each > 0:
            found["places"][name] = dict(Counter(seen).most_common(SHOWN))
        kept = {one: value <= MOST[one] for one, value in found["waits"].items()}
        yield found | {"checks": {f"{one}_waits_at_most_{MOST[one]:g}": holds for one, holds in kept.items()}}


def _works(prepared: Prepared, device: torch.device, samples: int) -> dict[str, Work]:
    space, file = prepared.space, prepared.space.file
    network = new_network(file, prepared.input, seed=0, device=device)
    batch = min(file.train.batch_size, samples)
    recipe = replace(file.train, batch_size=batch)
    space = replace(space, file=replace(file, train=recipe))
    subnets = random.Random(0)

    def split(samples: int) -> object:
        return noise(prepared, samples, device)

    def host(samples: int) -> HostSplit:
        kept = noise(prepared, samples, torch.device("cpu"))
        return HostSplit(
            frames=kept.frames, labels=kept.labels, time_steps=kept.time_steps, largest=kept.largest, device=device
        )

    def trained(make: Callable[[int], object], count: int) -> None:
        schedule = Schedule(epochs=1, learning_rate=1e-3)
        training = TrainingRun(network=network, training=make(count * batch), recipe=recipe, schedule=schedule, seed=0)
        list(epoch_losses(training))

    def as_supernet(count: int) -> None:
        training, schedule = split(count * batch), Schedule(epochs=1, learning_rate=1e-3)
        list(supernet.train_supernet(network, space, training=training, schedule=schedule, seed=0))

    def judged(count: int) -> None:
        configs = [supernet.random_configuration(space, subnets) for _ in range(count)]
        given = {"training": split(samples), "samples": samples, "validation": split(samples)}
        subnet_accuracies(network, configs, file.neuron, **given)

    held = split(samples)
    return {
        "step": partial(trained, split),
        "host_step": partial(trained, host),
        "supernet_step": as_supernet,
        "subnet": judged,
        "evaluation": lambda _count: evaluate(network, held),
    }


if __name__ == "__main__":
    run(__doc__, measure)
