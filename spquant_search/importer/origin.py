"""What a network was in floating point: the numbers that it had, by what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spquant_search.errors import MOST_SHOWN
from spquant_search.importer.description import Description
from spquant_search.importer.libraries import neuron_class, neurons_of
from spquant_search.importer.operations import Convolution, Linear
from spquant_search.snn.networks.plan import LONGEST_SENTENCE, Origin


def origin_of_graph(description: Description) -> Origin:
    """Count the weights of a graph of NIR, as it was read."""
    weights = [
        node.operation for node in description.layers.values() if isinstance(node.operation, Convolution | Linear)
    ]
    return Origin(library="NIR", weights=sum(_values(one.weight) + _values(one.bias) for one in weights))


def origin_of(network: nn.Module) -> Origin:
    """Count the numbers that a network of another library has."""
    neurons = [(module, neuron) for _, module, neuron in neurons_of(network)]
    thresholds = [size for module, _ in neurons if (size := _values(getattr(module, "threshold", None))) > 1]
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    weights = {
        id(parameter): parameter.numel()
        for module in network.modules()
        if not isinstance(module, _BatchNorm) and neuron_class(module) is None
        for parameter in module.parameters(recurse=False)
    }
    return Origin(
        library=" and ".join(sorted({neuron.library for _, neuron in neurons})) or "torch",
        weights=sum(weights.values()),
        batch_norms=len(norms),
        batch_norm_values=sum(map(_values_of_norm, norms)),
        threshold_layers=len(thresholds),
        threshold_values=sum(thresholds),
        learned_leaks=sum(
            neuron.name == "ParametricLIFNode" or isinstance(getattr(module, "beta", None), nn.Parameter)
            for module, neuron in neurons
        ),
    )


def _values(value: Any) -> int:
    return value.numel() if isinstance(value, Tensor) else 0


def _values_of_norm(norm: _BatchNorm) -> int:
    return sum(_values(value) for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var))


def printable(notes: Sequence[str]) -> tuple[str, ...]:
    """Return notes as lines of printable signs, cut where they are long; of very many the first, and how many more."""
    shown = notes if len(notes) <= MOST_SHOWN else (*notes[: MOST_SHOWN - 1], f"and {len(notes) - MOST_SHOWN + 1} more")
    return tuple(_printable(note) for note in shown)


def _printable(note: str) -> str:
    text = "".join(sign if sign.isprintable() else "?" for sign in note)
    return text if len(text) <= LONGEST_SENTENCE else f"{text[: LONGEST_SENTENCE - 3]}..."
