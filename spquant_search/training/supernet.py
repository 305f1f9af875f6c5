"""One network for every precision: trained with another configuration at every step, then subnets at any of them.

A step of training draws a configuration, sets it (bits, levels, thresholds and masks are data, nothing is rebuilt), and
teaches the network its labels and what the float network says of the same samples. Reading a configuration out sets it,
takes the statistics of batch norm anew from a few hundred training samples, as those of another precision do not fit,
and evaluates in the one defined form. That costs a few forward passes, and the network that was measured can be
deployed: the shared weights with statistics of its own.

After "Once for all" (Cai et al., ICLR 2020) and "Any-precision deep neural networks" (Yu et al., AAAI 2021), with
membrane levels and sparsity thresholds beside the bits.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from spquant_search.snn.layers import configure
from spquant_search.space.configuration import OFF, PARAMETERS, NetworkConfig
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.search_space import SearchSpace
from spquant_search.training.loader import DeviceSplit, LoadedSplit
from spquant_search.training.loop import StepHook, epoch_losses
from spquant_search.training.schedule import Schedule

# Of the steps, this share has one value a parameter for all layers: independent draws hardly ever come near the corners
# of the space, where the smallest and the largest network and all uniform ones lie.
UNIFORM_SHARE = 0.25
# And this share has neither gates nor masks, as the most accurate configurations do.
DENSE_SHARE = 0.4
STATISTICS_BATCH = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class SupernetEpoch:
    """One epoch of the supernet: configurations change from step to step, so that only its loss says anything."""

    epoch: int  # from 1
    loss: float
    seconds: float


def random_configuration(space: SearchSpace, generator: random.Random) -> NetworkConfig:
    """A configuration for one step of training; every one of the space can come."""
    uniform, dense = generator.random() < UNIFORM_SHARE, generator.random() < DENSE_SHARE
    common = {parameter: generator.random() for parameter in PARAMETERS}
    values = {}
    for address, options in space.choices().items():
        parameter = address.parameter
        place = common[parameter] if uniform else generator.random()
        values[address] = options[int(place * len(options))]
        if dense and parameter in OFF and OFF[parameter] in options:
            values[address] = OFF[parameter]
    return space.config(values)


class _Lesson:
    """Before every step another configuration, and the float network's logits of its samples."""

    def __init__(self, network: nn.Module, space: SearchSpace, *, seed: int, teacher: StepHook | None) -> None:
        self._network, self._space, self._teacher = network, space, teacher
        self._generator = random.Random(seed)

    def __call__(self, batch: DeviceSplit, chosen: Int[Tensor, " batch"]) -> Float[Tensor, "batch classes"] | None:
        configure(self._network, random_configuration(self._space, self._generator), self._space.file.neuron)
        return None if self._teacher is None else self._teacher(batch, chosen)


def train_supernet(
    network: nn.Module,
    space: SearchSpace,
    *,
    training: LoadedSplit,
    schedule: Schedule,
    seed: int,
    teacher: StepHook | None = None,
) -> Iterator[SupernetEpoch]:
    """Train ``network``, which holds the float baseline's weights, in place, one epoch for each value asked for.

    ``teacher`` is the float network, where it is to be imitated.
    Raises:
        Diverged: after an epoch its loss or a weight is not finite.
    """
    started = time.perf_counter()
    lesson = _Lesson(network, space, seed=seed, teacher=teacher)
    losses = epoch_losses(
        network, training=training, recipe=space.file.train, schedule=schedule, seed=seed, lesson=lesson
    )
    for epoch, loss in enumerate(losses, start=1):
        yield SupernetEpoch(epoch=epoch, loss=loss, seconds=time.perf_counter() - started)
        started = time.perf_counter()


def norms(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """The layers whose statistics a configuration has of its own, by name."""
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}


@contextmanager
def gathering_statistics(network: nn.Module) -> Iterator[None]:
    """Within this context ``network`` evaluates, but for batch norm, which gathers the statistics of its batches anew.

    What it holds at the end are their means over the batches.
    """
    found = norms(network).values()
    momenta = [norm.momentum for norm in found]
    network.eval()
    for norm in found:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches, each weighing the same
        norm.train()
    try:
        with torch.no_grad():
            yield
    finally:
        for norm, momentum in zip(found, momenta, strict=True):
            norm.eval()
            norm.momentum = momentum


def statistics_batches(training: LoadedSplit, samples: int) -> Iterator[DeviceSplit]:
    """The batches of the first ``samples`` that statistics are taken of."""
    count = min(samples, len(training))
    # Whole batches alone, as a small last one would weigh as much as the others.
    count -= count % STATISTICS_BATCH if count > STATISTICS_BATCH else 0
    return training.batches(STATISTICS_BATCH, order=torch.arange(count))


def take_statistics(network: nn.Module, training: LoadedSplit, *, samples: int) -> None:
    """Set the running statistics of batch norm to their means over the batches of the first ``samples``."""
    with gathering_statistics(network):
        for batch in statistics_batches(training, samples):
            network(batch.spikes(torch.float32))


def take_subnet(
    network: nn.Module, config: NetworkConfig, neuron: NeuronSpace, *, training: LoadedSplit, samples: int
) -> None:
    """Make ``network`` what it is at a configuration, without any training of its own: ready to be evaluated."""
    configure(network, config, neuron)
    take_statistics(network, training, samples=samples)
