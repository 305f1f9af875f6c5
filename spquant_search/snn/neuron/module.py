"""The neurons of a layer as a module, whose precision may change between any two calls."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spquant_search.snn.neuron.exact import Fired, fire_sums
from spquant_search.snn.neuron.parameters import NeuronParameters, neuron_parameters, threshold_gain
from spquant_search.snn.neuron.training import fire, fire_and_pool
from spquant_search.space.grid import MembraneGrid


class Neuron(nn.Module):
    """The neurons of a layer; their precision is data in buffers and may change between any two calls.

    ``log_threshold`` is there where the layer learns its threshold, and among its weights then.
    """

    log_threshold: nn.Parameter | None
    leak: Tensor
    lowest: Tensor
    highest: Tensor
    grid_step: Tensor
    is_float: Tensor
    skip_below: Tensor
    reset_cut: Tensor
    steps_per_unit: Tensor
    leaked_step: Tensor
    lowest_code: Tensor
    highest_code: Tensor
    middle: Tensor
    half_range: Tensor
    rate: Tensor
    leaked_gain: Tensor
    tail: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, value in neuron_parameters(leak=0.5, grid=None, skip_below=None)._asdict().items():
            # Not persistent: the configuration holds them, weights are shared between configurations.
            self.register_buffer(name, value, persistent=False)
        self.register_parameter("log_threshold", None)
        self.skips = False
        self.spikes = nn.Identity()  # all spikes pass through it, for hooks to see

    def configure(
        self, *, leak: float, grid: MembraneGrid | None, skip_below: float | None, learn_threshold: bool = False
    ) -> None:
        """Take a new precision; nothing is rebuilt or recompiled. A threshold that was learned is kept."""
        self.skips = skip_below is not None
        if not learn_threshold:
            self.log_threshold = None
        elif self.log_threshold is None:
            self.log_threshold = nn.Parameter(torch.zeros_like(self.leak))
        for name, value in neuron_parameters(leak=leak, grid=grid, skip_below=skip_below)._asdict().items():
            getattr(self, name).copy_(value)

    @property
    def parameters_now(self) -> NeuronParameters:
        return NeuronParameters(*(getattr(self, name) for name in NeuronParameters._fields))

    @property
    def threshold(self) -> float:
        """The threshold that is in force: 1, or the learned one after rounding."""
        return 1.0 if self.log_threshold is None else 1.0 / float(threshold_gain(self.log_threshold).detach())

    def forward(self, current: Float[Tensor, "time neurons"]) -> tuple[Tensor, Tensor]:
        """Spikes, and potentials in units of the threshold, see :func:`fire`."""
        spikes, potentials = fire(self._in_thresholds(current), self.parameters_now)
        return self.spikes(spikes), potentials

    def pooled(self, current: Float[Tensor, "time sample height width channel"]) -> Tensor:
        """Sums of spikes over 2x2 neurons, see :func:`fire_and_pool`."""
        return fire_and_pool(self._in_thresholds(current), self.parameters_now)

    def of_sums(
        self,
        sums: Float[Tensor, "time batch positions groups channels"],
        slope: Float[Tensor, "groups channels"],
        offset: Float[Tensor, "groups channels"],
        *,
        opened: Bool[Tensor, "time batch 1 groups channels"],
        residual: Float[Tensor, "time batch positions groups channels"] | None = None,
        reached: Float[Tensor, "time batch positions groups 1"] | None = None,
        are_whole: bool = True,
    ) -> Fired:
        """In evaluation, spikes of a convolution's sums, see :func:`fire_sums`."""
        slope, offset = self._in_thresholds(slope), self._in_thresholds(offset)
        residual = None if residual is None else self._in_thresholds(residual)
        p = self.parameters_now
        fired = fire_sums(
            sums, slope, offset, p, opened=opened, residual=residual, reached=reached, are_whole=are_whole
        )
        return fired._replace(spikes=self.spikes(fired.spikes))

    def _in_thresholds(self, current: Tensor) -> Tensor:
        return current if self.log_threshold is None else current * threshold_gain(self.log_threshold)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if self.log_threshold is not None:  # weights that were trained without one had a threshold of 1
            state_dict.setdefault(f"{prefix}log_threshold", torch.zeros(()))
        super()._load_from_state_dict(state_dict, prefix, *rest)
