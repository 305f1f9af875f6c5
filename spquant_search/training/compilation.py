"""Compile what a search will run, while a trainer has no task."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from torch import nn

from spquant_search.snn.kernels import batch_norm
from spquant_search.snn.kernels import compile as compiled
from spquant_search.snn.layers import configure
from spquant_search.snn.neuron.module import Neuron
from spquant_search.snn.neuron.rule import Rule
from spquant_search.snn.neuron.training import compile_backward
from spquant_search.space.configuration import OFF, NetworkConfig
from spquant_search.space.search_space import SearchSpace
from spquant_search.space.shapes import InputShape
from spquant_search.training.evaluation import evaluate
from spquant_search.training.loader import LoadedSplit, at_time_steps, take
from spquant_search.training.network import new_network
from spquant_search.training.precision import exact_fp32, training_dtype
from spquant_search.training.supernet import measure_statistics

# That are shown to networks to have them compiled. On a GPU the compiler chooses blocks by how many numbers it sees at
# first: with so many samples the first layer has enough for the largest ones.
SAMPLES = {"cpu": 3, "cuda": 16}


def compile_ahead(space: SearchSpace, *, training: LoadedSplit, shape: InputShape) -> Iterator[None]:
    """Compile most of what a search runs, a piece for each value asked for, what every trial needs first.

    For a trainer without a task: the others find in the cache folder what it compiled. Where the first piece was there
    already, it goes no further, as the others train on all cores meanwhile.
    """
    network = new_network(space.file, shape, seed=0, device=training.device)
    few = take(training, SAMPLES[training.device.type])
    dtype = training_dtype(space.file.train, training.device)
    with exact_fp32():  # as in training: it is part of what compiled code is found by in the cache
        for time_steps, (rule, learns_leak) in product(space.file.time_steps, _forms(network)):
            compile_backward(time_steps, dtype, training.device, rule, learns_leak=learns_leak)
        if training.device.type == "cpu":
            batch_norm.compile_ahead(dtype)
    yield
    if compiled.all_was_cached():
        return
    for time_steps in reversed(space.file.time_steps):
        shown = at_time_steps(few, time_steps)
        for config in (space.baseline(), _with_everything(space)):
            configure(network, config, space.file.neuron)
            evaluate(network, shown)
            yield
        measure_statistics(network, shown, samples=len(few))
        yield


def _forms(network: nn.Module) -> list[tuple[Rule, bool]]:
    """Return what backward passes of neurons a network has: by their rule, and whether they learn their leak."""
    neurons = (module for module in network.modules() if isinstance(module, Neuron))
    return sorted({(neuron.rule, neuron.leak_logit is not None) for neuron in neurons})


def _with_everything(space: SearchSpace) -> NetworkConfig:
    """Return a configuration with all the gates and masks that the space has."""
    values = {}
    for address, options in space.choices().items():
        parameter = address.parameter
        switched_on = [option for option in options if parameter not in OFF or option != OFF[parameter]]
        values[address] = (switched_on or options)[0]
    return space.config(values)
