"""The neurons of a layer as a module."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spquant_search.snn.neuron.exact import Fired, fire_sums
from spquant_search.snn.neuron.parameters import NeuronParameters, neuron_parameters, threshold_gain
from spquant_search.snn.neuron.training import fire, fire_and_pool
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.grid import MembraneGrid
from spquant_search.space.schema import NeuronSpace


class Neuron(nn.Module):
    """The neurons of a layer; their precision is data in buffers and may change between any two calls.

    Each of the :class:`NeuronParameters` is a buffer of that name. A layer that learns its threshold has
    ``log_threshold`` among its weights.
    """

    log_threshold: nn.Parameter | None

    def __init__(self) -> None:
        super().__init__()
        for name, value in neuron_parameters(leak=0.5, grid=None, skip_below=None)._asdict().items():
            # Not persistent: they belong to a configuration, and weights are shared between configurations.
            self.register_buffer(name, value, persistent=False)
        self.register_parameter("log_threshold", None)
        self.skips = False
        self.spikes = nn.Identity()  # all spikes pass through it, for hooks to see

    def set_precision(self, precision: LayerPrecision, space: NeuronSpace) -> None:
        """Take a layer's precision, with what a space says of all neurons."""
        grid = space.grid(precision.membrane_levels) if precision.membrane_levels else None
        self.configure(
            leak=space.leak, grid=grid, skip_below=precision.skip_below, learn_threshold=space.learn_threshold
        )

    def configure(
        self, *, leak: float, grid: MembraneGrid | None, skip_below: float | None, learn_threshold: bool = False
    ) -> None:
        """Take other parameters; nothing is rebuilt or recompiled. A threshold that was learned is kept."""
        self.skips = skip_below is not None
        if not learn_threshold:
            self.log_threshold = None
        elif self.log_threshold is None:
            self.log_threshold = nn.Parameter(torch.zeros_like(self.parameters_now.leak))
        for name, value in neuron_parameters(leak=leak, grid=grid, skip_below=skip_below)._asdict().items():
            getattr(self, name).copy_(value)

    @property
    def parameters_now(self) -> NeuronParameters:
        """The parameters in force, as they lie in the buffers."""
        return NeuronParameters(*(getattr(self, name) for name in NeuronParameters._fields))

    @property
    def threshold(self) -> float:
        """The threshold in force: 1, or a learned threshold after rounding."""
        return 1.0 if self.log_threshold is None else 1.0 / float(threshold_gain(self.log_threshold).detach())

    def forward(self, current: Float[Tensor, "time neurons"]) -> tuple[Tensor, Tensor]:
        """Return spikes, and potentials in units of the threshold, see :func:`fire`."""
        spikes, potentials = fire(self._in_thresholds(current), self.parameters_now)
        return self.spikes(spikes), potentials

    def pooled(self, current: Float[Tensor, "time sample height width channel"]) -> Tensor:
        """Return sums of spikes over 2x2 neurons, see :func:`fire_and_pool`."""
        return fire_and_pool(self._in_thresholds(current), self.parameters_now)

    def fire_sums(
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
        """Return, in evaluation, the spikes of a convolution's sums, see :func:`fire_sums`."""
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
