"""The spiking convolution: a convolution, a channel gate, neurons, pooling, and their counts."""

from __future__ import annotations

import math
from typing import get_args

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from spquant_search.snn.activity import Activity
from spquant_search.snn.convolution import Convolution, Sums, TakenCurrent, cropped
from spquant_search.snn.gate import ChannelGate, channel_activity
from spquant_search.snn.layers import check_channels
from spquant_search.snn.neuron.exact import Fired
from spquant_search.snn.neuron.module import Neuron
from spquant_search.snn.pools import TWO_BY_TWO, Pool, PoolKind, pooled, words_of_kinds
from spquant_search.snn.reached import present_inputs, reached_by_position
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.window import Padding, Sides, window
from spquant_search.space.configuration import FLOAT_BITS, LayerPrecision
from spquant_search.space.neuron_form import NeuronForm
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.shapes import LayerShape


class SpikingConv2d(Convolution):
    """A convolution with batch norm, channel gate, residual, neurons, and pooling before or after the neurons (or
    none).

    Its precision (:meth:`set_precision`) may change between any two calls. A layer made with ``can_gate`` owns a gate,
    which works where ``channel_mass`` is below 1.

    ``kernel_size``, ``stride`` and ``groups`` as in :class:`torch.nn.Conv2d`; ``padding`` too, and further that of four
    sides as in :class:`torch.nn.ZeroPad2d`. Without one it is half of an odd kernel. ``pool`` is a :class:`Pool`, or
    the word of one of 2x2: "before" averages the current, "max-before" takes the largest of four currents, "after"
    averages the spikes, "max" takes the largest of four spikes. Rows and columns that are in no window are not
    computed: they have no neurons. With ``norm`` False a bias replaces batch norm. ``neuron``: the form of neurons that
    are not as a space has all of them.
    """

    def __init__(  # noqa: PLR0913 - options by name, each with the value that most layers have
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: Sides = 3,
        stride: Sides = 1,
        padding: Padding | None = None,
        groups: int = 1,
        pool: PoolKind | Pool | None = None,
        can_gate: bool = True,
        norm: bool = True,
        neuron: NeuronForm | None = None,
    ) -> None:
        if pool is not None and not isinstance(pool, Pool) and pool not in get_args(PoolKind):
            raise ValueError(f"pool must be {words_of_kinds()}, a Pool or None; got {pool!r}")
        super().__init__(
            in_channels,
            out_channels,
            precision=LayerPrecision(),
            kernel=window(kernel_size, stride, padding),
            groups=groups,
            pool=Pool(pool) if isinstance(pool, str) else pool,
            norm=norm,
        )
        self.gate = ChannelGate(in_channels, out_channels) if can_gate else None
        self.neuron = Neuron(neuron)

    def set_precision(self, precision: LayerPrecision, neuron: NeuronSpace) -> None:
        super().set_precision(precision, neuron)
        self.neuron.set_precision(precision, neuron)

    @property
    def is_gated(self) -> bool:
        return self.gate is not None and self.precision.channel_mass < 1.0

    def forward(self, spikes: Spikes, residual: Float[Tensor, "time_batch out height width"] | None = None) -> Spikes:
        """Fire on the convolution's current plus ``residual``, a current from elsewhere.

        The gate judges and closes the convolution alone: a closed channel takes the residual as its whole current. It
        may spike, so that with a residual no output channel is known to be silent, and all count as open; so it is
        where a stored potential alone may reach the threshold. A skipped neuron takes neither current.
        """
        if not self.training:
            return self._evaluate(spikes, residual)
        current = self.current(spikes)
        opened = self._open(spikes, current)
        if opened is not None:
            current = current * opened[:, :, None, None].to(current.dtype)
        if residual is not None:
            current = current + self._taken(residual, spikes, current.shape).to(current.dtype)
        known = self._silent(opened, residual)
        if self.pool is not None and self.pool.kind == "after" and self.pool.window == TWO_BY_TWO:
            sums = self._fire_and_pool(current, spikes.time_steps)
            terms = TWO_BY_TWO.area
            return Spikes(values=sums, time_steps=spikes.time_steps, largest=terms, divisor=terms, open=known)
        return self._pooled(
            Spikes(values=self._fire(current, spikes.time_steps), time_steps=spikes.time_steps, open=known)
        )

    @torch.no_grad()
    def _evaluate(self, spikes: Spikes, residual: Tensor | None) -> Spikes:
        """Do what :meth:`forward` says, in the one defined form of evaluation."""
        sums, slope, offset, are_whole = self._sums_of_all_steps(spikes)
        spikes = spikes.repeated() if spikes.constant else spikes
        opened = self._open(spikes)
        if residual is not None:
            residual = self._taken(residual, spikes, sums.shape)
        open_now = torch.ones(sums.shape[:2], dtype=torch.bool, device=sums.device) if opened is None else opened
        present = None if self.activity is None else present_inputs(spikes, self.groups)
        reached = None if present is None or not self.neuron.skips else self._reached(present, sums.shape)
        fired = self.neuron.fire_sums(
            self._by_time(sums, spikes.time_steps),
            slope,
            offset,
            opened=self._by_time(open_now[:, :, None, None], spikes.time_steps),
            residual=None if residual is None else self._by_time(residual.detach(), spikes.time_steps),
            reached=None if reached is None else self._by_time(reached, spikes.time_steps),
            are_whole=are_whole,
        )
        samples, channels, height, width = sums.shape
        values = fired.spikes.view(samples, height, width, channels).permute(0, 3, 1, 2)
        out = Spikes(values=values, time_steps=spikes.time_steps, open=self._silent(opened, residual))
        if self.activity is not None and present is not None:
            self._measure(self.activity, spikes, out, open_now, present, fired)
        return self._pooled(out)

    def _sums_of_all_steps(self, spikes: Spikes) -> Sums:
        """Return the sums of all time steps; those of a still image are computed once.

        That is not so for float weights, whose sums depend on how many rows are computed together, nor where batch norm
        gathers statistics, which depend on their number.
        """
        gathers = self.norm is not None and self.norm.training
        once = spikes.of_one_step()
        if not once.constant or gathers or self.precision.weight_bits == FLOAT_BITS:
            return self._evaluation_sums(spikes.repeated() if spikes.constant else spikes)
        found = self._evaluation_sums(once)
        return found._replace(sums=once.over_time(found.sums))

    def _silent(self, opened: Tensor | None, residual: Tensor | None) -> Tensor | None:
        """Return which channels are open where all others are known to be silent, None elsewhere."""
        return opened if residual is None and self.neuron.is_silent_without_current else None

    def _by_time(self, values: Tensor, time_steps: int) -> Shaped[Tensor, "time batch positions groups channels"]:
        samples, channels, height, width = values.shape
        last = values.permute(0, 2, 3, 1).contiguous()
        return last.view(time_steps, samples // time_steps, height * width, self.groups, channels // self.groups)

    def _reached(self, present: Tensor, shape: torch.Size) -> Float[Tensor, "time_batch groups rows columns"]:
        """Count the non-zero inputs of each current of this ``shape``."""
        reached = reached_by_position(present, self.kernel, self.pool_before)
        return cropped(reached, (shape[2], shape[3]))

    def _taken(self, residual: Tensor, spikes: Spikes, shape: torch.Size) -> Tensor:
        """Return the part of a residual that is added to a current of this ``shape``, and let a shortcut count it.

        Raises:
            ValueError: it has neither the current's shape nor that of the whole convolution.
        """
        rows, columns = self.output_size(*spikes.values.shape[2:])
        whole = shape if self.pool_before is not None else torch.Size((*shape[:2], rows, columns))
        if residual.shape not in (shape, whole):
            shapes = f"{tuple(whole)}; got {tuple(residual.shape)}"
            raise ValueError(f"a residual must have the shape of the current that it is added to, {shapes}")
        counted: TakenCurrent | None = getattr(residual, "taken", None)
        if counted is not None:
            counted.take((shape[2], shape[3]))
        return residual[:, :, : shape[2], : shape[3]]

    def _pooled(self, spikes: Spikes) -> Spikes:
        return spikes if self.pool is None or self.pool.is_before else pooled(spikes, self.pool)

    def _open(self, spikes: Spikes, current: Tensor | None = None) -> Bool[Tensor, "time_batch out"] | None:
        """Ask the gate which channels are open; with a training ``current`` set its loss, too, if it learns."""
        if current is not None or not self.is_gated:
            self.gate_loss = None
        if self.gate is None or not self.is_gated:
            return None
        counts, mass = spikes.counts, self.precision.channel_mass
        if current is not None and torch.is_grad_enabled() and self.gate.weight.requires_grad:
            activity = channel_activity(current)
            with torch.autocast(current.device.type, enabled=False):
                opened, self.gate_loss = self.gate.open_and_loss(counts, activity, mass)
            return opened
        return self.gate.open(counts, mass)

    def _fire(self, current: Tensor, time_steps: int) -> Tensor:
        """Fire on [time, everything else], in memory order, so that one compiled graph fits all layers."""
        last = current.permute(0, 2, 3, 1).contiguous()
        fired: Tensor = self.neuron(last.reshape(time_steps, -1))[0]
        return fired.view(last.shape).permute(0, 3, 1, 2)

    def _fire_and_pool(self, current: Tensor, time_steps: int) -> Tensor:
        """Fire and sum-pool in one step: the spikes themselves are not written out."""
        last = current.permute(0, 2, 3, 1).contiguous()
        sums = self.neuron.pooled(last.view(time_steps, -1, *last.shape[1:]))
        return sums.flatten(0, 1).permute(0, 3, 1, 2)

    def _measure(
        self,
        activity: Activity,
        spikes: Spikes,
        out: Spikes,
        opened: Tensor,
        present: Tensor,
        fired: Fired,
    ) -> None:
        samples, channels = out.values.shape[:2]
        activity.samples += samples // spikes.time_steps
        activity.add("spikes", out.counts)  # each is exact: it is far below 2^24
        activity.add("neuron_steps", out.values.numel())
        activity.add("open_channels", opened)
        activity.add("channel_steps", opened.numel())
        size = self.current_size(*spikes.values.shape[2:])
        activity.add_operations(self._operations(spikes, opened=opened, present=present, size=size, fired=fired))
        if self.is_gated:
            activity.add("effective_macs", samples * self.in_channels * channels)
            activity.add("synaptic_ops", (spikes.counts != 0).sum(dim=1) * channels)

    def shape(self, name: str, *inputs: Spikes) -> LayerShape:
        if len(inputs) > 1:
            raise TypeError("a residual is a current, not Spikes; pass spikes.current(), or what a Shortcut gives")
        check_channels(inputs, self.in_channels)
        size = inputs[0].values.shape[2:]
        positions = math.prod(self.current_size(*size))
        return LayerShape(
            name=name,
            kind="convolution",
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            kernel_area=self.kernel.area,
            positions=positions * self.outputs_of_a_current,
            neurons=self.out_channels * positions,
            can_gate=self.gate is not None,
            groups=self.groups,
            terms=self.terms,
            unpooled=math.prod(self.output_size(*size)) if self.pool_before and not self.pool_in_kernel else 0,
            own_form=self.neuron.own_form,
        )
