"""The readout, the last layer of a network: logits from the spikes of the layer before."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from spquant_search.snn.activity import Activity
from spquant_search.snn.constants import kept
from spquant_search.snn.convolution import EXACT_FP32
from spquant_search.snn.fixedpoint import OFFSET_BITS
from spquant_search.snn.layers import SearchableLayer, check_count
from spquant_search.snn.quantize import fake_quantize, highest_integer, quantize_weight
from spquant_search.snn.spikes import Spikes
from spquant_search.space.configuration import FLOAT_BITS, LayerPrecision
from spquant_search.space.fields import Quantizer
from spquant_search.space.shapes import LayerShape


class _EvaluationForm(NamedTuple):
    """A readout's weight as evaluation multiplies by it, the value of one of its sums, and where they start."""

    weight: Float[Tensor, "classes inputs"]
    unit: Float[Tensor, ""]
    start: Float[Tensor, " classes"]


def _evaluation_form(
    weight: Tensor, bias: Tensor, bits: int, quantizer: Quantizer, dtype: torch.dtype, divisor: int, time_steps: int
) -> _EvaluationForm:
    integers, scale = quantize_weight(weight, bits, per_tensor=True, quantizer=quantizer)
    unit = scale.reshape(()) / divisor
    return _EvaluationForm(integers.to(dtype), unit, _start(bias, unit, time_steps))


def _start(bias: Tensor, unit: Float[Tensor, ""], time_steps: int) -> Float[Tensor, " classes"]:
    limit = 2.0 ** (OFFSET_BITS - 1) - 1
    return (bias.double() * time_steps / unit.double()).round().clamp(-limit, limit)


def _in_units(sums: Float[Tensor, "time batch classes"], form: _EvaluationForm) -> Float[Tensor, "time batch classes"]:
    """Return logits in whole numbers of a unit, in double precision: their sums over time are exact.

    The biases of all time steps come with the first step, as whole numbers too: an accumulator starts from them.
    """
    sums = sums.double()
    sums[0] += form.start
    return sums * form.unit.double()


class Readout(SearchableLayer):
    """A linear layer with logits at every time step; the prediction is their mean over time."""

    def __init__(self, in_channels: int, positions: int, classes: int) -> None:
        super().__init__(LayerPrecision(membrane_levels=None))
        for name, value in (("in_channels", in_channels), ("positions", positions), ("classes", classes)):
            check_count(name, value)
        self.in_channels, self.positions, self.classes = in_channels, positions, classes
        self.linear = nn.Linear(in_channels * positions, classes)

    def forward(self, spikes: Spikes) -> Float[Tensor, "time batch classes"]:
        values = spikes.over_time(spikes.values).flatten(1)
        if self.activity is not None:
            self._measure(self.activity, spikes)
        bits, divisor = self.precision.weight_bits, spikes.divisor
        if self.training:
            weight = fake_quantize(self.linear.weight, bits, per_tensor=True, quantizer=self.quantizer)
            logits = F.linear(values, weight / divisor, self.linear.bias)
        else:
            form = self._form(spikes)
            sums = F.linear(values.to(form.weight.dtype), form.weight)
            if bits != FLOAT_BITS:
                return _in_units(sums.reshape(spikes.time_steps, -1, self.classes), form)
            logits = sums * form.unit + self.linear.bias
        return logits.reshape(spikes.time_steps, -1, self.classes).float()

    def start(self, unit: Float[Tensor, ""], time_steps: int) -> Float[Tensor, " classes"]:
        """Return the start of the classes' accumulators: the biases of all time steps, rounded to ``unit``s."""
        return _start(self.linear.bias, unit, time_steps)

    def _form(self, spikes: Spikes) -> _EvaluationForm:
        weight, bias, bits = self.linear.weight, self.linear.bias, self.precision.weight_bits
        bound = self.in_channels * self.positions * highest_integer(bits) * spikes.largest
        dtype = torch.float32 if bits == FLOAT_BITS or bound < EXACT_FP32 else torch.float64
        return kept(
            self, _evaluation_form, weight, bias, bits, self.quantizer, dtype, spikes.divisor, spikes.time_steps
        )

    def _measure(self, activity: Activity, spikes: Spikes) -> None:
        activity.samples += spikes.values.shape[0] // spikes.time_steps
        activity.add("effective_macs", spikes.open_channels() * self.positions * self.classes)
        activity.add("synaptic_ops", (spikes.values != 0).sum(dim=(1, 2, 3)) * self.classes)

    def shape(self, name: str, *inputs: Spikes) -> LayerShape:
        (spikes,) = inputs
        channels, height, width = spikes.values.shape[1:]
        if (channels, height * width) != (self.in_channels, self.positions):
            raise ValueError(
                f"the readout was made for {self.in_channels} channels at {self.positions} positions; it gets "
                f"{channels} at {height}x{width}"
            )
        return LayerShape(
            name=name,
            kind="readout",
            in_channels=self.in_channels * self.positions,
            out_channels=self.classes,
            kernel_area=1,
            positions=1,
            neurons=0,
            can_gate=False,
        )
