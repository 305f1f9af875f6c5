"""What is said of leaks that integers change: a quantized neuron leaks by k/4096."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from spquant_search.errors import first_of
from spquant_search.snn.layers import searchable_layers
from spquant_search.snn.neuron.module import Neuron
from spquant_search.snn.readout import Readout
from spquant_search.space.configuration import FLOAT_BITS, FLOAT_MEMBRANE
from spquant_search.space.neuron_form import LEAK_STEPS, rounded_leak

_MOST_NAMES = 5  # that a sentence lists


def rounded_leak_words(leaks: Mapping[str, float]) -> list[str]:
    """Say which of the leaks, by layer, are others in integers, and which."""
    layers: dict[float, list[str]] = {}
    for name, leak in leaks.items():
        if leak != rounded_leak(leak):
            layers.setdefault(leak, []).append(name)
    return [
        f"{first_of(names, _MOST_NAMES)}: a leak of {leak:.6g} is {rounded_leak(leak) * LEAK_STEPS:.0f}/{LEAK_STEPS} "
        f"= {rounded_leak(leak):.6f} in integers"
        for leak, names in layers.items()
    ]


def quantized_leaks(network: nn.Module) -> dict[str, float]:
    """Return the leaks in floating point, as they are given or were learned, of a network's layers in integers."""
    leaks = {}
    for name, layer in searchable_layers(network).items():
        neuron = getattr(layer, "neuron", None)
        if isinstance(neuron, Neuron) and layer.precision.membrane_levels not in (None, FLOAT_MEMBRANE):
            learned = neuron.leak_logit
            leaks[name] = neuron.form.leak if learned is None else float(torch.sigmoid(learned.detach().double()))
        elif isinstance(layer, Readout) and layer.membrane is not None and layer.precision.weight_bits != FLOAT_BITS:
            leaks[name] = layer.leak
    return leaks
