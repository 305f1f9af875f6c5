"""Spiking self-attention of Spikformer (Zhou et al., ICLR 2023): products of binary signals, no softmax, no weights.

With the tokens of one sample, time step and head as rows of q, k and v, all of them 0 or 1::

    S = (q k^T) v          whole numbers up to tokens * head channels
    I = 0.125 * S / 0.5    the current of a neuron whose threshold is 1

0.125 is the scale of the released code and 0.5 the threshold of its attention neuron; dividing a neuron's input and its
threshold by one number leaves its spikes as they are. Two differences from the released code remain. Its neurons halve
their input (SpikingJelly's ``decay_input``): batch norm makes up for that in every other layer, but the neuron of
attention sees half of this current. And neurons here spike above the threshold, not at it, which matters only where
currents are multiples of 1/4: a potential of exactly 1 does not fire.

(q k^T) v and q (k^T v) are the same whole numbers. The cheaper of the two is executed: by tokens^2 products for
every channel, or by tokens * head channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spquant_search.snn.activity import Activity
from spquant_search.snn.convolution import EXACT_FP32
from spquant_search.snn.layers import SearchableLayer, check_channels, check_count
from spquant_search.snn.neuron.module import Neuron
from spquant_search.snn.neuron.rule import THRESHOLD
from spquant_search.snn.spikes import Spikes
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.neuron_form import NeuronForm
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.shapes import LayerShape

ATTENTION_SCALE, ATTENTION_THRESHOLD = 0.125, 0.5
GAIN = ATTENTION_SCALE * THRESHOLD / ATTENTION_THRESHOLD  # a power of two: currents are exact


class Products(NamedTuple):
    """Both products of attention; ``inner`` is q k^T, or k^T v where that comes first."""

    inner: Float[Tensor, "time_batch heads inner_rows inner_columns"]
    sums: Float[Tensor, "time_batch heads tokens head_channels"]


def attend(
    q: Float[Tensor, "time_batch heads tokens head_channels"],
    k: Float[Tensor, "time_batch heads tokens head_channels"],
    v: Float[Tensor, "time_batch heads tokens head_channels"],
    *,
    by_tokens: bool,
) -> Products:
    """Multiply (q k^T) v if ``by_tokens``, otherwise q (k^T v)."""
    if by_tokens:
        inner = q @ k.transpose(2, 3)
        return Products(inner, inner @ v)
    inner = k.transpose(2, 3) @ v
    return Products(inner, q @ inner)


class SpikingSelfAttention(SearchableLayer):
    """Attention and its neurons: no weights and no gate; membrane levels and skip mask are searched.

    Sums of products of spikes are never negative, and so is no potential but what a spike that subtracts more than the
    threshold leaves: there is no cut.

    Channels fall into ``heads`` groups that do not see each other, tokens are the positions. ``neuron``: the form of
    neurons that are not as a space has all of them.

    Operations follow the order of the products that is executed (see the module). ``effective_macs`` is what a dense
    device computes: the second product for every neuron that is not skipped and whose v channel is open, and of the
    first product the rows of q k^T (the columns of k^T v) that at least one of those neurons reads. Sums over a head's
    channels leave out those that q's or k's gate closed. Without gates and masks that is the dense count.
    ``synaptic_ops`` takes of these the products of which both factors are not zero.
    """

    def __init__(self, channels: int, heads: int, *, neuron: NeuronForm | None = None) -> None:
        super().__init__(LayerPrecision())
        check_count("channels", channels)
        check_count("heads", heads)
        if channels % heads:
            raise ValueError(f"the heads must divide the channels; got {channels} channels and {heads} heads")
        self.channels, self.heads = channels, heads
        self.neuron = Neuron(neuron)

    def set_precision(self, precision: LayerPrecision, neuron: NeuronSpace) -> None:
        super().set_precision(precision, neuron)
        self.neuron.set_precision(precision, neuron)

    def forward(self, q: Spikes, k: Spikes, v: Spikes) -> Spikes:
        if any(spikes.largest * spikes.divisor != 1 for spikes in (q, k, v)):
            raise ValueError("attention takes binary spikes: no counts, no averages")
        products = self._products(q, k, v)
        samples, _, height, width = q.values.shape
        current = GAIN * products.sums.transpose(1, 2).reshape(samples, height, width, self.channels)
        if not self.training:
            current = current.double()  # in which no potential is rounded, whatever the grid and the threshold
        fired, potentials = self.neuron(current.reshape(q.time_steps, -1))
        # Neurons lie in memory with channels last, as those of the convolutions.
        values, is_silent = fired.view(current.shape).permute(0, 3, 1, 2), self.neuron.is_silent_without_current
        opened = self._open(q, k, v) if is_silent or self.activity is not None else None
        out = Spikes(values=values, time_steps=q.time_steps, open=opened if is_silent else None)
        if self.activity is not None:
            self._measure(self.activity, (q, k, v), out, products, self._computed(out, opened, potentials))
        return out

    def _by_tokens(self, tokens: int) -> bool:
        return tokens <= self.channels // self.heads

    def _products(self, q: Spikes, k: Spikes, v: Spikes) -> Products:
        """Multiply, in training in the type that autocast chooses, in evaluation by exact sums of integers."""
        parts = [self._by_head(spikes.values) for spikes in (q, k, v)]
        tokens, head_channels = parts[0].shape[2:]
        if not self.training:
            exact = torch.float32 if tokens * head_channels < EXACT_FP32 else torch.float64
            parts = [part.to(exact) for part in parts]
        products = attend(*parts, by_tokens=self._by_tokens(tokens))
        return products if self.training else Products(*(product.float() for product in products))

    def _by_head(
        self, values: Float[Tensor, "time_batch channels height width"]
    ) -> Float[Tensor, "time_batch heads tokens head_channels"]:
        samples, channels, height, width = values.shape
        rows = values.permute(0, 2, 3, 1).reshape(samples, height * width, self.heads, channels // self.heads)
        return rows.transpose(1, 2)

    def _shared(self, q: Spikes, k: Spikes) -> Float[Tensor, "time_batch heads head_channels"]:
        """Return 1 where a channel is open in q and in k: over these channels the two are multiplied."""
        opened = torch.ones(q.values.shape[:2], dtype=torch.bool, device=q.values.device)
        for spikes in (q, k):
            opened = opened if spikes.open is None else opened & spikes.open
        return opened.view(len(opened), self.heads, -1).float()

    def _open(self, q: Spikes, k: Spikes, v: Spikes) -> Bool[Tensor, "time_batch channels"] | None:
        """Find the channels with a current: v's channel is open, and q and k have an open channel in common in its
        head.
        """
        if q.open is None and k.open is None and v.open is None:
            return None
        seen = self._shared(q, k).amax(dim=2).bool().repeat_interleave(self.channels // self.heads, dim=1)
        return seen if v.open is None else seen & v.open

    def _measure(
        self,
        activity: Activity,
        inputs: tuple[Spikes, Spikes, Spikes],
        out: Spikes,
        products: Products,
        computed: Float[Tensor, "time_batch heads tokens head_channels"],
    ) -> None:
        q, k, v = inputs
        activity.samples += out.values.shape[0] // out.time_steps
        activity.add("spikes", out.values.sum(dim=(1, 2, 3)))
        activity.add("neuron_steps", out.values.numel())
        shared, tokens = self._shared(q, k), computed.shape[2]
        by_tokens = self._by_tokens(tokens)
        lines = computed.amax(dim=3 if by_tokens else 2)  # rows of q k^T or columns of k^T v that are needed
        terms = tokens if by_tokens else shared.sum(dim=2)  # of one neuron's second product
        activity.add("effective_macs", lines.sum(dim=2) * shared.sum(dim=2) * tokens)
        activity.add("effective_macs", computed.sum(dim=(2, 3)) * terms)

        present = (products.inner != 0).float()
        if by_tokens:
            first = products.inner * lines[:, :, :, None]
            second = present @ self._by_head(v.values).float()
        else:
            first = products.inner * lines[:, :, None] * shared[:, :, :, None]
            second = self._by_head(q.values).float() @ present
        # Of binary factors the inner product is the number of pairs that are both 1.
        activity.add("synaptic_ops", first.sum(dim=(2, 3)))
        activity.add("synaptic_ops", (second * computed).sum(dim=(2, 3)))

    def _computed(
        self, out: Spikes, opened: Tensor | None, potentials: Tensor
    ) -> Float[Tensor, "time_batch heads tokens head_channels"]:
        """Return 1 for the neurons whose current is worked out: open and not skipped."""
        computed = torch.ones_like(out.values, dtype=torch.float32)
        if self.neuron.skips:
            samples, channels, height, width = out.values.shape
            missed = self.neuron.skipped(potentials).view(samples, height, width, channels)
            computed = computed - missed.permute(0, 3, 1, 2)
        if opened is not None:
            computed = computed * opened[:, :, None, None]
        return self._by_head(computed)

    def shape(self, name: str, *inputs: Spikes) -> LayerShape:
        check_channels(inputs, self.channels)
        if len({spikes.values.shape for spikes in inputs}) > 1:
            raise ValueError(f"q, k and v must have one shape; got {[tuple(spikes.values.shape) for spikes in inputs]}")
        height, width = inputs[0].values.shape[2:]
        tokens = height * width
        shorter = tokens if self._by_tokens(tokens) else self.channels // self.heads
        return LayerShape(
            name=name,
            kind="attention",
            in_channels=self.channels,
            out_channels=self.channels,
            kernel_area=1,
            positions=tokens,
            neurons=self.channels * tokens,
            can_gate=False,
            weightless_macs=2 * self.channels * tokens * shorter,
            own_form=self.neuron.own_form,
        )
