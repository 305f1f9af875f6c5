"""What a neuron of SpikingJelly or snnTorch computes, as one equation with parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

# "zero"; "subtract" the threshold in the same step; "delayed": the next step subtracts it behind its leak, snnTorch's
# default; "guarded": snnTorch's reset_delay=False; "none".
Reset = Literal["zero", "subtract", "delayed", "guarded", "none"]
Shown = Literal["before", "after"]


class Fired(NamedTuple):
    """What neurons did, all [time, batch, *features]."""

    spikes: Tensor
    margins: Tensor  # of the potential above the threshold
    membranes: Tensor  # as the library shows them


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryNeuron:
    """u = leak * v + gain * x; a spike where u > threshold (strict) or u >= threshold; then the reset makes v of u.

    "guarded" is "subtract" whose spikes are judged with one threshold less where v is still above it after its reset:
    what snnTorch does with reset_delay=False.
    """

    leak: float | tuple[float, ...] = 1.0  # of all channels, or of each
    learns_leak: bool = False  # training changes it
    gain: float = 1.0
    threshold: float | tuple[float, ...] = 1.0
    strict: bool = False
    reset: Reset = "zero"
    start: float = 0.0  # the first v
    shows: Shown = "after"  # which membrane the library shows: that before or after the reset, plus ``rest``
    rest: float = 0.0  # SpikingJelly's v_reset, from which all potentials are measured here

    def run(self, current: Tensor, forced: Tensor | None = None) -> Fired:
        """Fire on currents [time, batch, channels, ...]; ``forced`` spikes take the place of its own in the reset."""
        leak, threshold = self._by_channel(self.leak, current), self._by_channel(self.threshold, current)
        v, owed = torch.full_like(current[0], self.start), torch.zeros_like(current[0])
        steps = []
        for time, x in enumerate(current):
            u = leak * v + self.gain * x
            if self.reset == "delayed":
                u = u - threshold * owed
            margin = u - threshold
            if self.reset == "guarded":
                margin = margin - threshold * (v > threshold).to(u.dtype)
            spikes = ((margin > 0) if self.strict else (margin >= 0)).to(u.dtype)
            owed = spikes if forced is None else forced[time]
            v = self._after(u, owed, threshold)
            steps.append(Fired(spikes, margin, (u if self.shows == "before" else v) + self.rest))
        return Fired(*(torch.stack(values) for values in zip(*steps, strict=True)))

    def _after(self, u: Tensor, spikes: Tensor, threshold: Tensor) -> Tensor:
        if self.reset == "zero":
            return u * (1 - spikes)
        # An infinite threshold is never reached, and infinity times no spike is no number.
        taken = torch.where(spikes != 0, threshold * spikes, torch.zeros_like(u))
        return u - taken if self.reset in ("subtract", "guarded") else u

    @staticmethod
    def _by_channel(value: float | tuple[float, ...], current: Tensor) -> Tensor:
        given = torch.tensor(value, dtype=torch.float64).to(current)
        return given if given.dim() == 0 else given.view(-1, *[1] * (current.dim() - 3))

    @property
    def unit(self) -> float | tuple[float, ...]:
        """The value that 1 is measured in once potentials are counted in thresholds."""
        return 1.0 if self.threshold == float("inf") else self.threshold

    def in_thresholds(self) -> LibraryNeuron:
        """Return the neuron on potentials and currents that are counted in thresholds, measured from rest."""
        unit = self.unit
        start = self.start / unit if isinstance(unit, float) else 0.0
        threshold = self.threshold if self.threshold == float("inf") else 1.0
        return replace(self, gain=1.0, threshold=threshold, start=start, rest=0.0)
