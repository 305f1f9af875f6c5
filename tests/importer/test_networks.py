"""Networks in many styles are read, and what is read does what they do in every neuron step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from importer import public_styles, snntorch_networks, spikingjelly_networks
from importer.livening import liven
from torch import nn

from spquant_search.importer import ReadNetwork, read_network


def read(network: nn.Module, axes: str, shape: tuple[int, ...], given: Any) -> ReadNetwork:
    torch.manual_seed(1)
    example = 2.0 * torch.rand(shape)
    return read_network(liven(network, example, given.get("run")), example, axes=axes, **given)


def check(read: ReadNetwork) -> None:
    """Every layer spikes, no spike differs on either example, and membranes agree to a few millionths."""
    for proof in read.proofs.values():
        assert proof.differ == sum(layer.forced_differ for layer in proof.layers) == 0
        assert proof.output_error < 1e-5
        errors = [layer.membrane_error for layer in proof.layers]
        assert errors
        assert all(error is not None and error < 2e-5 for error in errors)
    silent = [
        layers
        for layers in zip(*(proof.layers for proof in read.proofs.values()), strict=True)
        if not any(layer.spikes for layer in layers)
    ]
    assert all(math.isinf(_threshold(read, layers[0].layer)) for layers in silent)


def _threshold(read: ReadNetwork, name: str) -> float:
    neurons = {
        node.name: node.operation for node in read.description.layers.values() if hasattr(node.operation, "form")
    }
    return float(neurons[name].form.threshold)


@pytest.mark.parametrize("name", spikingjelly_networks.NETWORKS)
def test_a_network_of_spikingjelly_is_read_and_proved(name: str) -> None:
    network, axes, shape = spikingjelly_networks.make(name)
    check(read(network, axes, shape, {}))


@pytest.mark.parametrize("name", snntorch_networks.NETWORKS)
def test_a_network_of_snntorch_is_read_and_proved(name: str) -> None:
    network, axes, shape, given = snntorch_networks.make(name)
    check(read(network, axes, shape, given))


@pytest.mark.parametrize("name", public_styles.NETWORKS)
def test_a_network_in_another_style_is_read_and_proved(name: str) -> None:
    network, axes, shape, given = public_styles.NETWORKS[name]
    check(read(network(), axes, shape, given))
