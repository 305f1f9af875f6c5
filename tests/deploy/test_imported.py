"""Networks of other libraries in random precisions, exported: PyTorch, numpy and C agree in every spike and logit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from deploy.networks import ABOUT, Choices, drawn_config, lively, loaded, needs_compiler
from importer import snntorch_networks
from importer.libraries import snntorch
from importer.livening import liven
from importer.odd_networks import NETWORKS as ODD
from importer.zoo_networks import SMALL
from torch import Tensor, nn

from spquant_search.deploy.export import export
from spquant_search.importer import from_torch
from spquant_search.importer.own_network import ImportedNetwork
from spquant_search.importer.readout_plan import Counted
from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.shapes import InputShape

CHOICES = Choices(bits=(2, 3, 4, 8), levels=(3, 4, 16, 256), mass=(1.0, 0.7), skip=(None,))
LARGEST = 3


def drawn(shape: tuple[int, ...]) -> Tensor:
    return torch.randint(0, LARGEST + 1, shape, generator=torch.Generator().manual_seed(0)).float()


def classes_of(network: ImportedNetwork) -> int:
    return network.end.classes if isinstance(network.end, Counted) else len(network.end.weight)


def check(network: ImportedNetwork, frames: Tensor, steps: int, seed: int) -> None:
    """Export it in a precision that is drawn: that runs it in PyTorch, numpy and C, and raises where they differ.

    ``frames``: [sample, time or 1, channels, height, width].
    """
    torch.manual_seed(seed)
    configure(network, drawn_config(network, np.random.default_rng(seed), CHOICES), NeuronSpace())
    shown = frames.numpy().astype(np.uint8)
    lively(network, np.repeat(shown, steps // shown.shape[1], axis=1), LARGEST)
    channels, height, width = shown.shape[2:]
    shape = InputShape(channels=channels, height=height, width=width, classes=classes_of(network), largest=LARGEST)
    made = export(network, shape, shown, time_steps=steps, about=ABOUT)
    assert made.unchecked is None
    rates = {layer: float(fired.mean()) for layer, fired in loaded(made).run(shown).spikes.items()}
    alive = sum(rate > 0.005 for rate in rates.values())
    assert alive > len(rates) / 2, f"a network that is silent shows nothing: {rates}"


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_small_network_of_spikingjellys_zoo(name: str, plain_neurons: None) -> None:
    given = SMALL[name]
    example = drawn((3, *given.shape))
    network = from_torch(liven(given.made(), example, given.run), example, axes="TBCHW", run=given.run)
    assert any(getattr(layer, "gate", None) is not None for layer in searchable_layers(network).values())
    check(network, example.transpose(0, 1), 3, seed=len(name))


def hidden_states(**last: Any) -> nn.Module:
    """Layers in a row of snnTorch: max-pool before neurons, thresholds, a beta that is learned, a reset to zero."""
    snn = snntorch()
    return nn.Sequential(
        *(nn.Conv2d(1, 5, 3), nn.MaxPool2d(2), snn.Leaky(0.83, learn_beta=True, threshold=0.7, init_hidden=True)),
        *(nn.Conv2d(5, 6, 3), nn.AvgPool2d(2), nn.BatchNorm2d(6)),
        snn.Leaky(0.9, threshold=1.4, reset_mechanism="zero", init_hidden=True),
        *(nn.Flatten(), nn.Linear(6 * 4, 4), snn.Leaky(0.75, init_hidden=True, output=True, **last)),
    )


def spikes(network: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([network(frame)[0] for frame in x]).sum(0)


def membranes(network: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([network(frame)[1] for frame in x])


def last_membrane(network: nn.Module, x: Tensor) -> Tensor:
    return membranes(network, x)[-1]


NONE = {"reset_mechanism": "none"}
SNNTORCH: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "counts": (spikes, {"threshold": 0.6, "learn_threshold": True}, {}),
    "membranes": (membranes, NONE, {}),
    "last-membrane": (last_membrane, NONE, {}),
}


@needs_compiler
@pytest.mark.parametrize("name", SNNTORCH)
def test_a_network_of_snntorch(name: str, plain_neurons: None) -> None:
    torch.manual_seed(0)
    run, last, given = SNNTORCH[name]
    example = drawn((4, 3, 1, 16, 16))
    network = from_torch(liven(hidden_states(**last), example, run), example, axes="TBCHW", run=run, **given)
    check(network, example.transpose(0, 1), 4, seed=1)


@needs_compiler
def test_snntorchs_tutorial(plain_neurons: None) -> None:
    torch.manual_seed(0)
    network, axes, shape, _ = snntorch_networks.make("tutorial-spikes")
    example = drawn(shape)
    check(from_torch(liven(network, example), example, axes=axes), example[:, None], 5, seed=2)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, odd in ODD.items() if not odd.refused and len(odd.shape) == 5])
def test_a_network_that_nobody_listed(name: str, plain_neurons: None) -> None:
    torch.manual_seed(0)
    example = drawn(ODD[name].shape)
    network = from_torch(liven(ODD[name].make(), example), example)
    check(network, example.transpose(0, 1), len(example), seed=3)
