"""Evaluate a network: accuracy, operations and density on a split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn

from spquant_search.runs.results import LayerActivity
from spquant_search.snn.activity import read_together
from spquant_search.snn.constants import constants_kept
from spquant_search.snn.layers import measured
from spquant_search.training.loader import DeviceSplit, LoadedSplit, evaluation_batches
from spquant_search.training.precision import exact_fp32


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A network's accuracy and activity on a split, in the one defined form of evaluation."""

    accuracy: float
    layers: tuple[tuple[str, LayerActivity], ...]
    neurons: tuple[int, ...]  # of each layer, times samples and time steps: the weights of the mean density

    @property
    def effective_macs(self) -> float:
        return sum(activity.effective_macs for _, activity in self.layers)

    @property
    def synaptic_ops(self) -> float:
        return sum(activity.synaptic_ops for _, activity in self.layers)

    @property
    def density(self) -> float:
        spikes = sum(activity.density * count for (_, activity), count in zip(self.layers, self.neurons, strict=True))
        return spikes / max(sum(self.neurons), 1)


@torch.inference_mode()
def evaluate(network: nn.Module, split: LoadedSplit) -> Evaluation:
    """Measure accuracy and activity on a split. The lowest class index wins a tie, as on the device."""
    with measured(network) as activities:
        share = accuracy(network, split)
    read_together(activities.values())
    layers = tuple((name, activity.per_sample()) for name, activity in activities.items())
    neurons = tuple(round(activity.total("neuron_steps")) for activity in activities.values())
    return Evaluation(accuracy=share, layers=layers, neurons=neurons)


@torch.inference_mode()
def accuracy(network: nn.Module, split: LoadedSplit) -> float:
    """Measure the accuracy alone: as nothing is counted, in a half to three quarters of the time of
    :func:`evaluate`."""
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.device)
    with exact_fp32(), constants_kept():
        for batch in evaluation_batches(split):
            correct += correctly_classified(network, batch)
    return int(correct) / max(len(split), 1)


def correctly_classified(network: nn.Module, batch: DeviceSplit) -> Int[Tensor, ""]:
    """Count the samples of a batch that a network, which must be set to evaluation, classifies correctly."""
    logits: Tensor = network(batch.spikes(torch.float32).repeated())
    return (logits.sum(dim=0).argmax(dim=1) == batch.labels).sum()
