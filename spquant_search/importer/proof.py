"""Hold a description against the network that it was made from: every neuron in every time step.

Equal spikes prove little: an error of one percent in a leak need not change one of a small network's, and weights on a
grid make ties, which rounding breaks either way. Potentials tell: right ones agree to some millionths of a threshold.
Each layer is given the spikes that the original gave, so that one that differs says where, and does not hide the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spquant_search.importer.description import Description
from spquant_search.importer.operations import Spiking
from spquant_search.importer.recording import Recording
from spquant_search.importer.refusals import NotImportable, Reason

MEMBRANES_WITHIN = 1e-4  # of a threshold, and of the potential where it is larger
TIES_WITHIN = 1e-5  # of a threshold: where a potential is so near, rounding decides whether a neuron spikes
OUTPUT_WITHIN = 1e-4  # of the largest output


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerProof:
    """One layer of neurons, held against the original's."""

    layer: str
    neuron_steps: int
    spikes: int  # of the original
    differ: int  # neuron steps whose spikes differ where all runs by itself
    forced_differ: int  # where every layer is given the original's spikes
    largest_margin: float  # from the threshold, of those
    membrane_error: float | None  # the largest, in thresholds; None where the library shows no membrane
    worst_step: int  # the time step of the largest of either

    @property
    def holds(self) -> bool:
        """Whether what differs is rounding alone."""
        return self.largest_margin <= TIES_WITHIN and (self.membrane_error or 0.0) <= MEMBRANES_WITHIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was compared on one example."""

    layers: tuple[LayerProof, ...]
    output_error: float  # relative to the largest output

    @property
    def neuron_steps(self) -> int:
        """All neuron steps that were compared."""
        return sum(layer.neuron_steps for layer in self.layers)

    @property
    def differ(self) -> int:
        """The neuron steps whose spikes differ where all runs by itself: ties, which rounding breaks."""
        return sum(layer.differ for layer in self.layers)

    def reasons(self, example: str) -> list[Reason]:
        """Return what does not agree on the example of this name."""
        found = [_reason(layer, example) for layer in self.layers if not layer.holds]
        if not found and self.output_error > OUTPUT_WITHIN:
            why = f"it differs by {self.output_error:.2g} of its largest value on {example}, and no layer does"
            found = [Reason(module="", what="output", why=why)]
        return found


def _reason(layer: LayerProof, example: str) -> Reason:
    if (layer.membrane_error or 0.0) > MEMBRANES_WITHIN:
        why = (
            f"its membranes differ by up to {layer.membrane_error:.2g} thresholds, in time step {layer.worst_step + 1}"
        )
    else:
        why = (
            f"{layer.forced_differ} of {layer.neuron_steps:,} spikes differ, up to {layer.largest_margin:.2g} "
            f"thresholds away from it, in time step {layer.worst_step + 1}"
        )
    remedy = (
        "a neuron that is derived from a library's, or that is changed while it runs, may do something else than it"
    )
    return Reason(module=layer.layer, what="neuron", why=f"{why} on {example}: it is not what was read", remedy=remedy)


def prove(recording: Recording, description: Description, dtype: torch.dtype = torch.float64) -> Proof:
    """Compare what a description computes with what was recorded."""
    x = recording.values(0).to(dtype)
    truth = {number: recording.values(number) for number in description.neurons}
    forced, free = description.run(x, truth), description.run(x)
    layers = []
    for number in description.neurons:
        fired, spikes = forced.fired[number], truth[number]
        apart = fired.spikes.float() != spikes.float()
        margins = torch.where(apart, fired.margins.abs(), 0.0)
        errors = _membrane_errors(recording, description, number, fired.membranes)
        layers.append(
            LayerProof(
                layer=description.layers[number].name,
                neuron_steps=spikes.numel(),
                spikes=int(spikes.sum()),
                differ=int((free.fired[number].spikes.float() != spikes.float()).sum()),
                forced_differ=int(apart.sum()),
                largest_margin=float(margins.max()),
                membrane_error=None if errors is None else float(errors.max()),
                worst_step=_worst(margins if errors is None or not bool((errors > MEMBRANES_WITHIN).any()) else errors),
            )
        )
    largest = recording.logits.abs().max().clamp(min=1e-9)
    gap = (forced.logits - recording.logits.to(dtype)).abs().max() / largest
    return Proof(layers=tuple(layers), output_error=float(gap))


def _membrane_errors(recording: Recording, description: Description, number: int, own: Tensor) -> Tensor | None:
    """Return how far membranes are from the original's, in thresholds, or relative to themselves above one."""
    theirs = recording.membranes(number)
    if theirs is None:
        return None
    operation = description.layers[number].operation
    assert isinstance(operation, Spiking)
    unit = torch.tensor(operation.unit, dtype=own.dtype)
    unit = unit if unit.dim() == 0 else unit.view(-1, *[1] * (own.dim() - 3))
    counted = (theirs.to(own.dtype) - operation.rest) / unit
    errors = (own - counted).abs() / counted.abs().clamp(min=1.0)
    return torch.nan_to_num(errors, nan=float("inf"))


def _worst(errors: Tensor) -> int:
    return int(errors.flatten(1).amax(1).argmax())


def check(proofs: dict[str, Proof]) -> None:
    """Raise where a proof on one of the examples does not hold.

    Raises:
        NotImportable: it names layers and time steps.
    """
    reasons = [reason for example, proof in proofs.items() for reason in proof.reasons(example)]
    if reasons:
        raise NotImportable(reasons)
