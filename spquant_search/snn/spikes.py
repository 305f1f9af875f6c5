"""The signals between layers: whole numbers, their divisor, and what is known of them.

Averages are kept as sums until a layer divides by their count, so that in evaluation every convolution adds integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spquant_search.snn import tracing
from spquant_search.snn.tracing import Signal


def spikes_from_frames(frames: Tensor, *, largest: int, dtype: torch.dtype, time_steps: int | None = None) -> Spikes:
    """Turn frames, event counts [batch, time, channels, height, width] in uint8, into a network's input, time first.

    Counts are clamped to ``largest`` and used as they are: no scaling and no mean, so that the first layer adds
    integers too. A still image is one frame for all ``time_steps`` (None: as many as there are frames), and its values
    are those of one step. Of more frames than steps neighbours are added before they are clamped.
    """
    made = frames.shape[1]
    time_steps = made if time_steps is None else time_steps
    if made > time_steps:
        # A byte holds the counts of one frame, and not their sum.
        summed = frames.reshape(len(frames), time_steps, made // time_steps, *frames.shape[2:])
        frames = summed.sum(dim=2, dtype=torch.int32)
    values = frames.transpose(0, 1).flatten(0, 1).clamp(max=largest).to(dtype, memory_format=torch.channels_last)
    return Spikes(values=values, time_steps=time_steps, largest=largest, constant=frames.shape[1] < time_steps)


class WrittenOut(NamedTuple):
    """What the values of a still image were written out of, and to; a change of them in place raises their version."""

    once: Tensor
    values: Tensor
    version: int


@dataclass(frozen=True, kw_only=True)
class Spikes:
    """A signal ``values / divisor``, in which ``values`` are whole numbers up to ``largest``.

    A ``constant`` signal, a still image, is the same in every time step; its values are [batch, ...], without time:
    the first convolution is computed once instead of once a step.
    """

    values: Float[Tensor, "time_batch channels height width"]
    time_steps: int
    largest: int = 1
    divisor: int = 1
    open: Bool[Tensor, "time_batch channels"] | None = None  # None: every channel is open
    constant: bool = False
    written_out: WrittenOut | None = field(default=None, repr=False, compare=False)

    @property
    def signal(self) -> Signal:
        """What a trace needs to know of the signal."""
        return Signal(self.values, self.largest, self.divisor)

    @cached_property
    def counts(self) -> Float[Tensor, "time_batch channels"]:
        """The sum of each channel's values, in fp32, for gates and figures."""
        return self.over_time(self.values.detach().float().sum(dim=(2, 3)))

    def repeated(self) -> Spikes:
        """Write the values out for every time step; :meth:`of_one_step` is the way back."""
        if not self.constant:
            return self
        # As an ordinary tensor, whose changes are counted, whatever mode an evaluation is in.
        with torch.inference_mode(False):
            values = self.over_time(self.values)
        known = WrittenOut(self.values, values, values._version)
        return replace(self, values=values, constant=False, written_out=known)

    def of_one_step(self) -> Spikes:
        """Return the same signal without time, where it is a still image that was written out and left as it was."""
        known = self.written_out
        if known is None or known.values is not self.values or known.values._version != known.version:
            return self
        return replace(self, values=known.once, constant=True, written_out=None)

    def over_time(self, values: Tensor) -> Tensor:
        """Repeat ``values``, made from this signal's, for every time step, if this signal is constant."""
        return values.repeat(self.time_steps, *[1] * (values.dim() - 1)) if self.constant else values

    def open_channels(self) -> Float[Tensor, " time_batch"]:
        """Count the open channels, per sample and time step."""
        return self.open_channels_by_group(1).flatten()

    def open_channels_by_group(self, groups: int) -> Float[Tensor, "time_batch groups"]:
        """Count the open channels in each of ``groups`` equal runs of neighbouring channels."""
        samples, channels = self.values.shape[:2]
        if self.open is None:
            return torch.full((samples, groups), float(channels // groups), device=self.values.device)
        return self.open.view(samples, groups, -1).sum(dim=2).float()

    def current(self) -> Float[Tensor, "time_batch channels height width"]:
        """Return the signal as a current: the identity shortcut of a residual block."""
        current = self.over_time(self.values if self.divisor == 1 else self.values / self.divisor)
        tracing.record("identity", (self.signal,), Signal(current))
        return current


def global_average(spikes: Spikes) -> Spikes:
    """Average each channel over its pixels, to [time_batch, channels, 1, 1]: whole numbers and their divisor."""
    pixels = spikes.values.shape[2] * spikes.values.shape[3]
    # In fp32, as bf16 holds whole numbers up to 256 only.
    values = spikes.values.float().sum(dim=(2, 3), keepdim=True)
    averaged = replace(spikes, values=values, largest=spikes.largest * pixels, divisor=spikes.divisor * pixels)
    tracing.record("average", (spikes.signal,), averaged.signal)
    return averaged


def added(a: Spikes, b: Spikes) -> Spikes:
    """Add two signals of whole numbers, or averages over as many; a channel is open where it is open in either."""
    if (a.time_steps, a.divisor) != (b.time_steps, b.divisor):
        raise ValueError(
            "only whole numbers of the same time steps can be added, or averages over as many; got signals over "
            f"{a.divisor} and {b.divisor} of {a.time_steps} and {b.time_steps} time steps"
        )
    a, b = (signal.repeated() if signal.constant else signal for signal in (a, b))
    if a.values.shape != b.values.shape:
        raise ValueError(
            f"only signals of one shape can be added; got {tuple(a.values.shape)}, {tuple(b.values.shape)}"
        )
    total = Spikes(
        values=a.values + b.values,
        time_steps=a.time_steps,
        largest=a.largest + b.largest,
        divisor=a.divisor,
        open=None if a.open is None or b.open is None else a.open | b.open,
    )
    tracing.record("sum", (a.signal, b.signal), total.signal)
    return total
