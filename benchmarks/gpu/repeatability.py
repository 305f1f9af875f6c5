"""Whether equal seeds give equal results on the device: of an evaluation they must, of a training they may not."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gpu.part import Found, run
from gpu.small_space import noise, small_space
from spquant_search.training.evaluation import evaluate
from spquant_search.training.network import new_network
from spquant_search.training.schedule import Schedule
from spquant_search.training.supernet import train_supernet

SAMPLES, EPOCHS = 64, 2


def measure(device: torch.device, *, samples: int = SAMPLES) -> Iterator[Found]:
    """Train twice from one seed, then evaluate one network twice."""
    prepared = small_space()
    split = noise(prepared, samples, device)

    def trained() -> tuple[dict[str, Tensor], bool]:
        network = new_network(prepared.space.file, prepared.input, seed=0, device=device)
        schedule = Schedule(epochs=EPOCHS, learning_rate=1e-3)
        list(train_supernet(network, prepared.space, training=split, schedule=schedule, seed=0))
        return network.state_dict(), evaluate(network, split) == evaluate(network, split)

    (first, repeats), (second, repeats_again) = trained(), trained()
    differences = {name: float((values.double() - second[name].double()).abs().max()) for name, values in first.items()}
    yield {
        "same_seed_same_weights": all(torch.equal(values, second[name]) for name, values in first.items()),
        "tensors": len(first),
        "tensors_differ": sum(value > 0 for value in differences.values()),
        "largest_difference": max(differences.values()),
        "checks": {"evaluation_repeats": repeats and repeats_again},
    }


if __name__ == "__main__":
    run(__doc__, measure)
