"""The supernet: one network for every precision, trained with another configuration at every step.

A step of training draws a configuration, sets it (bits, levels, thresholds and masks are data, nothing is rebuilt), and
teaches the network its labels and what the float network says of the same samples. A subnet is the supernet at one
configuration, with statistics of batch norm measured anew on a few hundred training samples, as those of another
precision do not fit. Evaluating it costs a few forward passes, and the network that was evaluated can be deployed: the
shared weights with the subnet's statistics.

After "Once for all" (Cai et al., ICLR 2020) and "Any-precision deep neural networks" (Yu et al., AAAI 2021), with
membrane levels and sparsity thresholds beside the bits.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from spquant_search.runs import work
from spquant_search.runs.random_streams import Purpose, derived_seed
from spquant_search.snn.constants import constants_kept
from spquant_search.snn.layers import configure
from spquant_search.space.address import Address
from spquant_search.space.configuration import OFF, PARAMETERS, TIME_STEPS, NetworkConfig
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.search_space import SearchSpace
from spquant_search.training.loader import DeviceSplit, LoadedSplit, take
from spquant_search.training.loop import Lesson, StepHook, TrainingRun, epoch_losses
from spquant_search.training.precision import exact_fp32
from spquant_search.training.schedule import Schedule

# This share of the steps has one value a parameter for all layers: independent draws hardly ever come near the corners
# of the space, where the smallest and the largest network and all uniform ones lie.
UNIFORM_SHARE = 0.25
# This share has neither gates nor masks, as the most accurate configurations do.
DENSE_SHARE = 0.4


@dataclass(frozen=True, kw_only=True, slots=True)
class SupernetEpoch:
    """One epoch of the supernet; configurations change from step to step, so that the loss is all it can tell."""

    epoch: int  # from 1
    loss: float
    seconds: float


def random_configuration(space: SearchSpace, generator: random.Random) -> NetworkConfig:
    """Draw a configuration for one step of training; any of the space may come.

    A number of time steps is drawn the more often the fewer they are, so that each gets as much work: drawn alike, one
    step, which differs most from what the float network has learned, would learn least.
    """
    uniform, dense = generator.random() < UNIFORM_SHARE, generator.random() < DENSE_SHARE
    common = {parameter: generator.random() for parameter in PARAMETERS}
    values: dict[Address, Any] = {}
    for address, options in space.layer_choices().items():
        parameter = address.parameter
        place = common[parameter] if uniform else generator.random()
        values[address] = options[int(place * len(options))]
        if dense and parameter in OFF and OFF[parameter] in options:
            values[address] = OFF[parameter]
    steps = space.file.time_steps
    if len(steps) > 1:
        (values[TIME_STEPS],) = generator.choices(steps, weights=[1 / number for number in steps])
    return space.config(values)


class RandomSubnets:
    """A step hook that sets a random configuration and its time steps, with the logits that ``teacher`` gives."""

    def __init__(self, network: nn.Module, space: SearchSpace, *, seed: int, teacher: StepHook | None) -> None:
        self._network, self._space, self._teacher = network, space, teacher
        self._generator = random.Random(derived_seed(seed, Purpose.SUBNETS))

    def __call__(self, batch: DeviceSplit, chosen: Int[Tensor, " batch"]) -> Lesson:
        config = random_configuration(self._space, self._generator)
        configure(self._network, config, self._space.file.neuron)
        lesson = Lesson(batch) if self._teacher is None else self._teacher(batch, chosen)
        return lesson._replace(batch=replace(batch, time_steps=config.time_steps))


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

    ``teacher`` is the float network, if it is to be imitated.

    Raises:
        Diverged: after an epoch its loss or a weight is not finite.
    """
    started = time.perf_counter()
    run = TrainingRun(
        network=network,
        training=training,
        recipe=space.file.train,
        schedule=schedule,
        seed=seed,
        step_hook=RandomSubnets(network, space, seed=seed, teacher=teacher),
    )
    for epoch, loss in enumerate(epoch_losses(run), start=1):
        yield SupernetEpoch(epoch=epoch, loss=loss, seconds=time.perf_counter() - started)
        started = time.perf_counter()


def norm_layers(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """Find the layers whose statistics every subnet has for itself, by name."""
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}


@contextmanager
def gathering_statistics(network: nn.Module, training: LoadedSplit, samples: int) -> Iterator[Iterator[DeviceSplit]]:
    """Let ``network`` evaluate in this context, but batch norm gather the statistics of its batches anew.

    Yields the batches of the first ``samples``, for the network to see one after the other. At the end batch norm holds
    the means over them.
    """
    found = norm_layers(network).values()
    momenta = [norm.momentum for norm in found]
    network.eval()
    for norm in found:
        norm.reset_running_stats()
        norm.train()

    def batches() -> Iterator[DeviceSplit]:
        for number, batch in enumerate(statistics_batches(training, samples), start=1):
            for norm in found:
                # The mean over all batches, each weighing the same. Without a momentum torch would count them on the
                # device, and wait for the count.
                norm.momentum = 1.0 / number
            yield batch

    try:
        with torch.no_grad(), exact_fp32():
            yield batches()
    finally:
        for norm, momentum in zip(found, momenta, strict=True):
            norm.eval()
            norm.momentum = momentum


def statistics_batches(training: LoadedSplit, samples: int) -> Iterator[DeviceSplit]:
    """Return the batches of the first ``samples``, on which statistics are measured.

    They differ by a sample at most, as each weighs as much as the others.
    """
    count = work.statistics_samples(len(training), samples)
    batches = -(-count // min(work.STATISTICS_BATCH, training.together.statistics))
    return take(training, count).batches(-(-count // max(batches, 1)))


def measure_statistics(network: nn.Module, training: LoadedSplit, *, samples: int) -> None:
    """Set the running statistics of batch norm to their means over the batches of the first ``samples``."""
    with gathering_statistics(network, training, samples) as batches, constants_kept():
        for batch in batches:
            network(batch.spikes(torch.float32))


def activate_subnet(
    network: nn.Module, config: NetworkConfig, neuron: NeuronSpace, *, training: LoadedSplit, samples: int
) -> None:
    """Turn ``network`` into the subnet of a configuration, without any further training: ready to be evaluated."""
    configure(network, config, neuron)
    measure_statistics(network, training, samples=samples)
