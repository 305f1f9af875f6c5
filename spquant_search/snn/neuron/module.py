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
    exact_parameters,
    leak_logit_of,
    learned_leak,
    packed_parameters,
    threshold_gain,
    unpack_parameters,
    with_leak,
)
from spquant_search.snn.neuron.rule import THRESHOLD, Rule
from spquant_search.snn.neuron.training import fire, fire_and_pool
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.grid import MembraneGrid
from spquant_search.space.neuron_form import NeuronForm
from spquant_search.space.schema import NeuronSpace


@torch.no_grad()
def _learned_exactly(leak_logit: Tensor, packed: Tensor, is_delayed: bool) -> ExactParameters:
    p = unpack_parameters(packed).training
    return exact_parameters(with_leak(p, learned_leak(leak_logit, p.is_float), is_delayed=is_delayed))


class Neuron(nn.Module):
    """The neurons of a layer; their precision is data in a buffer and may change between any two calls.

    All parameters lie in ``packed``, and stay where they are when they change. A layer that learns its threshold has
    ``log_threshold`` among its weights, one that learns its leak ``leak_logit``. ``own_form``: of a layer that does not
    take the form that a space gives to all neurons.
    """

    packed: Tensor

    log_threshold: nn.Parameter | None
    leak_logit: nn.Parameter | None

    def __init__(self, own_form: NeuronForm | None = None) -> None:
        super().__init__()
        self.own_form = own_form
        # Not persistent: they belong to a configuration, and weights are shared between configurations.
        self.register_buffer("packed", torch.empty(PACKED_BYTES, dtype=torch.uint8), persistent=False)
        self._unpacked: tuple[Tensor, UnpackedParameters] | None = None  # the latest, and of which tensor
        self.register_parameter("log_threshold", None)
        self.register_parameter("leak_logit", None)
        self.spikes = nn.Identity()  # all spikes pass through it, for hooks to see
        self.configure(own_form or NeuronForm(), grid=None, skip_below=None)

    def set_precision(self, precision: LayerPrecision, space: NeuronSpace) -> None:
        """Take a layer's precision, with what a space says of all neurons."""
        form = self.own_form or space.form
        grid = space.grid(precision.membrane_levels, form) if precision.membrane_levels else None
        self.configure(form, grid=grid, skip_below=precision.skip_below, learn_threshold=space.learn_threshold)

    def configure(
        self, form: NeuronForm, *, grid: MembraneGrid | None, skip_below: float | None, learn_threshold: bool = False
    ) -> None:
        """Take other parameters; nothing is rebuilt or recompiled. What was learned is kept."""
        self.skips = skip_below is not None
        self.form, self.rule = form, Rule.of(form)
        self._grid = grid
        if not learn_threshold:
            self.log_threshold = None
        elif self.log_threshold is None:
            self.log_threshold = nn.Parameter(torch.zeros((), device=self.packed.device))
        if not form.learn_leak:
            self.leak_logit = None
        elif self.leak_logit is None:
            self.leak_logit = nn.Parameter(torch.full((), leak_logit_of(form.leak), device=self.packed.device))
        self.packed.copy_(packed_parameters(form, grid, skip_below, self.packed.device))

    @property
    def is_silent_without_current(self) -> bool:
        """Whether no neuron spikes that takes no current: the highest potential that is stored leaks to too little."""
        if self._grid is None:
            return not self.form.subtracts  # otherwise nothing is stored that would have spiked
        most = self._grid.highest * (1.0 if self.form.learn_leak else self.form.rounded_leak)
        return most < THRESHOLD or (most == THRESHOLD and not self.rule.at_threshold)

    @property
    def _is_delayed(self) -> bool:
        return self.form.reset == "delayed-subtract"

    @property
    def parameters_now(self) -> NeuronParameters:
        """The parameters in force in training: as they lie in the buffer, at a leak that is learned."""
        p = self._unpack().training
        if self.leak_logit is None:
            return p
        return with_leak(p, learned_leak(self.leak_logit, p.is_float), is_delayed=self._is_delayed)

    @property
    def exact_parameters_now(self) -> ExactParameters:
        """The parameters in force in evaluation: as they lie in the buffer, at a leak that is learned."""
        if self.leak_logit is None:
            return self._unpack().exact
        return kept(self, _learned_exactly, self.leak_logit, self.packed, self._is_delayed)

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
            spikes, potentials = fire_exactly(current, self.exact_parameters_now, self.rule)
        else:
            spikes, potentials = fire(current, self.parameters_now, self.rule)
        return self.spikes(spikes), potentials

    def skipped(self, potentials: Float[Tensor, "time *neurons"]) -> Float[Tensor, "time *neurons"]:
        """Return 1 where a neuron was skipped in evaluation, from the potentials of :meth:`forward`; 0 elsewhere."""
        return skipped_exactly(potentials, self.exact_parameters_now, self.rule)

    def pooled(self, current: Float[Tensor, "time sample height width channel"]) -> Tensor:
        """Return sums of spikes over 2x2 neurons, see :func:`fire_and_pool`."""
        return fire_and_pool(self._in_thresholds(current), self.parameters_now, self.rule)

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
        parameters = (self.exact_parameters_now, self.rule)
        fired = fire_sums(sums, step, *parameters, opened=opened, residual=residual, reached=reached)
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
        if self.leak_logit is not None:  # weights that were trained at a fixed leak begin there
            state_dict.setdefault(f"{prefix}leak_logit", torch.tensor(leak_logit_of(self.form.leak)))
        super()._load_from_state_dict(state_dict, prefix, *rest)
