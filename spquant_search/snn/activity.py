"""Count a layer's operations, spikes and open channels while it is measured."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from spquant_search.runs.results import LayerActivity


class Operations(NamedTuple):
    """Operations of a layer, summed over samples and time steps."""

    effective_macs: Tensor
    synaptic_ops: Tensor

    def negative(self) -> Operations:
        return Operations(-self.effective_macs, -self.synaptic_ops)


class Activity:
    """A layer's figures by name: sums over samples and time steps, kept on the device until they are read."""

    def __init__(self) -> None:
        self.samples = 0
        self._numbers: dict[str, float] = {}
        self._sums: dict[str, list[Tensor]] = {}  # what has not been read, beside the numbers

    def add(self, name: str, value: Tensor | int) -> None:
        """Add a number, or the sum of a tensor, to a figure."""
        if isinstance(value, int):
            self._numbers[name] = self._numbers.get(name, 0.0) + value
            return
        value = value.detach()
        total = value.sum(dtype=torch.float64) if value.dim() else value.double()
        self._sums.setdefault(name, []).append(total)

    def add_operations(self, operations: Operations) -> None:
        """Add a layer's operations to the figures."""
        for name, value in operations._asdict().items():
            self.add(name, value)

    def total(self, name: str) -> float:
        """Return a figure's sum so far."""
        if self._sums:
            read_together([self])
        return self._numbers.get(name, 0.0)

    def per_sample(self) -> LayerActivity:
        """Return the figures of one sample over all its time steps."""
        samples = max(self.samples, 1)
        neuron_steps, channel_steps = self.total("neuron_steps"), self.total("channel_steps")
        return LayerActivity(
            effective_macs=self.total("effective_macs") / samples,
            synaptic_ops=self.total("synaptic_ops") / samples,
            density=self.total("spikes") / neuron_steps if neuron_steps else 0.0,
            open_share=self.total("open_channels") / channel_steps if channel_steps else 1.0,
        )


def read_together(activities: Collection[Activity]) -> None:
    """Read the sums of all these figures from their device at once: each read waits for it."""
    found = [(one, name, total) for one in activities for name, totals in one._sums.items() for total in totals]
    if found:
        read = torch.stack([total for _, _, total in found]).cpu().tolist()
        for (activity, name, _), value in zip(found, read, strict=True):
            activity._numbers[name] = activity._numbers.get(name, 0.0) + value
    for activity in activities:
        activity._sums.clear()
