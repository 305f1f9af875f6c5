"""The neurons of a layer as a module."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spquant_search.snn.constants import kept
from spquant_search.snn.neuron.exact import (
    Fired,
    affine_step,
    fire_exactly,
    fire_sums,
    positions_together,
    skipped_exactly,
)
from spquant_search.snn.neuron.parameters import (
    PACKED_BYTES,
    ExactParameters,
    NeuronParameters,
    UnpackedParameters,
    packed_parameters,
    threshold_gain,
    unpack_parameters,
)
from spquant_search.snn.neuron.training import fire, fire_and_pool
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.grid import MembraneGrid
from spquant_search.space.schema import NeuronSpace


class Neuron(nn.Module):
    """The neurons of a layer; their precision is data in a buffer and may change between any two calls.

    All parameters lie in ``packed``, and stay where they are when they change. A layer that learns its threshold has
    ``log_threshold`` among its weights.
    """

    packed: Tensor

    log_threshold: nn.Parameter | None

    def __init__(self) -> None:
        super().__init__()
        # Not persistent: they belong to a configuration, and weights are shared between configurations.
        self.register_buffer("packed", torch.empty(PACKED_BYTES, dtype=torch.uint8), persistent=False)
        self._unpacked: tuple[Tensor, UnpackedParameters] | None = None  # the latest, and of which tensor
        self.register_parameter("log_threshold", None)
        self.spikes = nn.Identity()  # all spikes pass through it, for hooks to see
        self.configure(leak=0.5, grid=None, skip_below=None)

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
            self.log_threshold = nn.Parameter(torch.zeros((), device=self.packed.device))
        self.packed.copy_(packed_parameters(leak, grid, skip_below, self.packed.device))

    @property
    def parameters_now(self) -> NeuronParameters:
        """The parameters in force in training, as they lie in the buffer."""
        return self._unpack().training

    @property
    def exact_parameters_now(self) -> ExactParameters:
        """The parameters in force in evaluation, as they lie in the buffer."""
        return self._unpack().exact

    def _unpack(self) -> UnpackedParameters:
        if self._unpacked is None or self._unpacked[0] is not self.packed:  # the module was moved to another device
            self._unpacked = (self.packed, unpack_parameters(self.packed))
        return self._unpacked[1]

    @property
    def threshold(self) -> float:
        """The threshold in force: 1, or a learned threshold after rounding."""
        return 1.0 if self.log_threshold is None else 1.0 / float(threshold_gain(self.log_threshold).detach())

    def forward(self, current: Float[Tensor, "time neurons"]) -> tuple[Tensor, Tensor]:
        """Return spikes, and potentials in units of the threshold, see :func:`fire`.

        In double precision, which only evaluation has, see :func:`fire_exactly`.
        """
        current = self._in_thresholds(current)
        if current.dtype is torch.float64:
            spikes, potentials = fire_exactly(current, self.exact_parameters_now)
        else:
            spikes, potentials = fire(current, self.parameters_now)
        return self.spikes(spikes), potentials

    def skipped(self, potentials: Float[Tensor, "time *neurons"]) -> Float[Tensor, "time *neurons"]:
        """Return 1 where a neuron was skipped in evaluation, from the potentials of :meth:`forward`; 0 elsewhere."""
        return skipped_exactly(potentials, self.exact_parameters_now)

    def pooled(self, current: Float[Tensor, "time sample height width channel"]) -> Tensor:
        """Return sums of spikes over 2x2 neurons, see :func:`fire_and_pool`."""
        return fire_and_pool(self._in_thresholds(current), self.parameters_now)

    def fire_sums(
        self,
        sums: Float[Tensor, "time batch positions groups channels"],
        slope: Float[Tensor, " all_channels"],
        offset: Float[Tensor, " all_channels"],
        *,
        opened: Bool[Tensor, "time batch 1 groups channels"],
        residual: Float[Tensor, "time batch positions groups channels"] | None = None,
        reached: Float[Tensor, "time batch positions groups 1"] | None = None,
        are_whole: bool = True,
    ) -> Fired:
        """Return, in evaluation, the spikes of a convolution's sums, see :func:`fire_sums`."""
        groups, together = sums.shape[3], positions_together(sums.shape)
        step = kept(self, affine_step, slope, offset, self._gain, groups, together, are_whole)
        residual = None if residual is None else self._in_thresholds(residual)
        fired = fire_sums(sums, step, self.exact_parameters_now, opened=opened, residual=residual, reached=reached)
        return fired._replace(spikes=self.spikes(fired.spikes))

    @property
    def _gain(self) -> Tensor | None:
        return None if self.log_threshold is None else kept(self, threshold_gain, self.log_threshold)

    def _in_thresholds(self, current: Tensor) -> Tensor:
        gain = self._gain
        return current if gain is None else current * gain

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if self.log_threshold is not None:  # weights that were trained without one had a threshold of 1
            state_dict.setdefault(f"{prefix}log_threshold", torch.zeros(()))
        super()._load_from_state_dict(state_dict, prefix, *rest)
