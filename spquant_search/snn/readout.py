"""The readouts, the last part of a network: logits from the spikes of the layer before.

:class:`Readout` is linear; what it adds up over time is its logits, or the membrane of neurons that do not spike.
:class:`CountReadout` counts the spikes of a last layer of neurons, so that its logits are whole numbers. Of classes
with equal logits the first is predicted.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from spquant_search.snn import tracing
from spquant_search.snn.activity import Activity
from spquant_search.snn.constants import kept
from spquant_search.snn.convolution import EXACT_FP32
from spquant_search.snn.fixedpoint import OFFSET_BITS
from spquant_search.snn.layers import SearchableLayer, check_count
from spquant_search.snn.quantize import fake_quantize, highest_integer, quantize_weight
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.tracing import Signal
from spquant_search.space.configuration import FLOAT_BITS, LayerPrecision
from spquant_search.space.fields import Quantizer
from spquant_search.space.neuron_form import NeuronForm
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


def _integrated(
    currents: Float[Tensor, "time batch classes"], leak: float, *, is_whole: bool
) -> Float[Tensor, "time batch classes"]:
    """Return the membranes of neurons that do not spike; where all ``is_whole``, what is kept is rounded, halves up."""
    membranes = [currents[0]]
    for current in currents[1:]:
        kept_now = leak * membranes[-1]
        membranes.append((torch.floor(kept_now + 0.5) if is_whole else kept_now) + current)
    return torch.stack(membranes)


class Readout(SearchableLayer):
    """A linear layer with logits at every time step; the prediction is their mean over time.

    ``membrane``: each class is a neuron that does not spike, and keeps the share ``leak`` of its membrane from one step
    to the next. The logits are its membrane in every step ("sum"), or in every step that of the last one ("last"). With
    quantized weights a membrane is a whole number of the weights' scale, rounded in every step, halves up.
    """

    def __init__(
        self,
        in_channels: int,
        positions: int,
        classes: int,
        *,
        membrane: Literal["sum", "last"] | None = None,
        leak: float | None = None,
    ) -> None:
        super().__init__(LayerPrecision(membrane_levels=None))
        if membrane not in (None, "sum", "last"):
            raise ValueError(f'membrane must be "sum", "last" or None; got {membrane!r}')
        if membrane is None and leak is not None:
            raise ValueError(f'a leak is that of a membrane, "sum" or "last"; got membrane None and leak {leak!r}')
        form = NeuronForm(leak=1.0 if leak is None else leak)  # which checks it
        self.membrane, self.leak, self.rounded_leak = membrane, form.leak, form.rounded_leak
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
                return self._of_integers(sums.reshape(spikes.time_steps, -1, self.classes), form)
            logits = sums * form.unit + self.linear.bias
        logits = logits.reshape(spikes.time_steps, -1, self.classes).float()
        return logits if self.membrane is None else self._shown(_integrated(logits, self.leak, is_whole=False))

    def _of_integers(
        self, sums: Float[Tensor, "time batch classes"], form: _EvaluationForm
    ) -> Float[Tensor, "time batch classes"]:
        """Return the logits of whole sums, in double precision, in which all of them are exact."""
        if self.membrane is None:
            return _in_units(sums, form)
        membranes = _integrated(sums.double() + form.start, self.rounded_leak, is_whole=True)
        return self._shown(membranes) * form.unit.double()

    def _shown(self, membranes: Float[Tensor, "time batch classes"]) -> Float[Tensor, "time batch classes"]:
        return membranes[-1].expand_as(membranes) if self.membrane == "last" else membranes

    def start(self, unit: Float[Tensor, ""], time_steps: int) -> Float[Tensor, " classes"]:
        """Return what the classes' accumulators start from, in whole ``unit``s: the biases of all time steps.

        Membranes start from 0, and this is what they take in every step: the bias of one.
        """
        return _start(self.linear.bias, unit, self._biases(time_steps))

    def _biases(self, time_steps: int) -> int:
        """Return how many steps' biases come at once."""
        return time_steps if self.membrane is None else 1

    def _form(self, spikes: Spikes) -> _EvaluationForm:
        weight, bias, bits = self.linear.weight, self.linear.bias, self.precision.weight_bits
        bound = self.in_channels * self.positions * highest_integer(bits) * spikes.largest
        dtype = torch.float32 if bits == FLOAT_BITS or bound < EXACT_FP32 else torch.float64
        biases = self._biases(spikes.time_steps)
        return kept(self, _evaluation_form, weight, bias, bits, self.quantizer, dtype, spikes.divisor, biases)

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
            own_form=None if self.membrane is None else NeuronForm(leak=self.leak),
            sums_membranes=self.membrane == "sum",
        )


class CountReadout(nn.Module):
    """Counts spikes: the logits of a time step are how many each class has in it, over all positions.

    The channels of what it reads are ``votes`` neighbours for each class. It has no weights and nothing to search.
    """

    def __init__(self, classes: int, *, votes: int = 1) -> None:
        super().__init__()
        for name, value in (("classes", classes), ("votes", votes)):
            check_count(name, value)
        self.classes, self.votes = classes, votes

    def forward(self, spikes: Spikes) -> Float[Tensor, "time batch classes"]:
        values = spikes.over_time(spikes.values)
        if values.shape[1] != self.classes * self.votes:
            raise ValueError(
                f"{self.classes} classes of {self.votes} votes are {self.classes * self.votes} channels; got "
                f"{values.shape[1]}"
            )
        # In fp32, as bf16 holds whole numbers up to 256 only.
        counts = values.float().sum(dim=(2, 3)).view(spikes.time_steps, -1, self.classes, self.votes)
        logits = counts.sum(dim=3)
        tracing.record("count", (spikes.signal,), Signal(logits))
        return logits
