"""Accuracies of several subnets of one supernet: the layers that they have in common are computed once.

Batch by batch all configurations take turns. The layers of the first configuration keep their results up to the first
layer that another configuration has at another precision, and the other configurations begin there. A subnet so has the
accuracy that evaluating it by itself gives, and no more than one batch is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spquant_search.profile import PROCESS
from spquant_search.snn.constants import Constants, constants_kept
from spquant_search.snn.layers import SearchableLayer, configure, searchable_layers
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.schema import NeuronSpace
from spquant_search.training.evaluation import correctly_classified
from spquant_search.training.loader import LoadedSplit, at_time_steps, evaluation_batches
from spquant_search.training.precision import exact_fp32
from spquant_search.training.supernet import gathering_statistics, norm_layers


def subnet_accuracies(
    network: nn.Module,
    configs: Sequence[NetworkConfig],
    neuron: NeuronSpace,
    *,
    training: LoadedSplit,
    samples: int,
    validation: LoadedSplit,
) -> tuple[float, ...]:
    """Return the accuracy of each configuration as a subnet.

    It is the accuracy that :func:`spquant_search.training.supernet.activate_subnet`, on ``samples`` of ``training``,
    and then :func:`spquant_search.training.evaluation.accuracy`, on all of ``validation``, give.

    Raises:
        ValueError: the configurations differ in their time steps, so that no layer has a result in common.
    """
    steps, *others = {config.time_steps for config in configs}
    if others:
        raise ValueError(f"configurations of {steps} and {others[0]} time steps cannot take turns")
    training, validation = (at_time_steps(split, steps) for split in (training, validation))
    turns = _Turns(network, configs, neuron)
    with PROCESS.on("statistics"), gathering_statistics(network, training, samples) as batches:
        turns.keep_norms_apart()
        for batch in batches:
            turns.each(network, batch.spikes(torch.float32))
    correct = torch.zeros(len(configs), dtype=torch.int64, device=validation.device)
    with PROCESS.on("evaluation"), torch.inference_mode(), exact_fp32():
        for batch in evaluation_batches(validation):
            correct += torch.stack(turns.each(partial(correctly_classified, network), batch))
    return tuple(count / max(len(validation), 1) for count in correct.cpu().tolist())


class _Turns:
    """Configurations that take turns in one network, each with its own buffers of batch norm."""

    def __init__(self, network: nn.Module, configs: Sequence[NetworkConfig], neuron: NeuronSpace) -> None:
        self._network, self._configs, self._neuron = network, configs, neuron
        self._norms = norm_layers(network)
        self._buffers: list[dict[tuple[str, str], Tensor]] = [{} for _ in configs]  # of batch norm, by its name and own
        self._constants = Constants(configurations=len(configs))
        first = dict(configs[0].layers)
        self._changing = {name for config in configs for name, layer in config.layers if layer != first[name]}

    def keep_norms_apart(self) -> None:
        """Let every configuration begin with what the network's batch norms hold now."""
        self._buffers = [
            {(name, key): values.clone() for name, norm in self._norms.items() for key, values in norm.named_buffers()}
            for _ in self._configs
        ]

    def each(self, run: Callable[[Any], Any], batch: Any) -> list[Any]:
        """Return what ``run`` gives for a batch with each configuration."""
        found = []
        layers = searchable_layers(self._network)
        with _Beginning(layers, self._changing) as beginning, constants_kept(self._constants):
            for config, buffers in zip(self._configs, self._buffers, strict=True):
                configure(self._network, config, self._neuron)
                for (name, key), values in buffers.items():
                    setattr(self._norms[name], key, values)
                found.append(run(batch))
                beginning.restart()
        return found


class _Beginning:
    """A context in which the layers before the first of ``changing`` repeat their results of the first run."""

    def __init__(self, layers: dict[str, SearchableLayer], changing: set[str]) -> None:
        self._layers, self._changing = layers, changing
        self._kept: list[Any] = []  # in the order of the calls
        self._is_complete = False  # nothing more is kept
        self._next = 0

    def __enter__(self) -> _Beginning:
        for name, layer in self._layers.items():
            layer.forward = self._instead_of(layer.forward, name in self._changing)
        return self

    def __exit__(self, *_raised: object) -> None:
        for layer in self._layers.values():
            del layer.forward

    def restart(self) -> None:
        """Begin from the network's input once more."""
        self._is_complete, self._next = True, 0

    def _instead_of(self, forward: Callable[..., Any], changes: bool) -> Callable[..., Any]:
        def given(*inputs: Any, **named: Any) -> Any:
            if self._is_complete and self._next < len(self._kept):
                self._next += 1
                return self._kept[self._next - 1]
            result = forward(*inputs, **named)
            self._is_complete = self._is_complete or changes
            if not self._is_complete:
                self._kept.append(result)
                self._next += 1
            return result

        return given
