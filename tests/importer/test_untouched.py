"""Reading a network leaves it, and everything around it, as it was."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from importer.libraries import spikingjelly
from importer.snntorch_networks import Tutorial
from importer.spikingjelly_networks import MultiStep, StaticFirst
from torch import nn

from spquant_search.importer import NotImportable, read_network


def state_of(network: nn.Module) -> dict[str, Any]:
    """Return everything of a network that reading might change, states of neurons aside."""
    found: dict[str, Any] = {}
    for name, module in network.named_modules():
        found[name] = (
            type(module),
            module.training,
            list(module._forward_hooks.values()),
            list(module._forward_pre_hooks.values()),
            sorted(key for key in vars(module) if not key.startswith("__")),
            getattr(module, "step_mode", None),
            getattr(module, "store_v_seq", None),
        )
    found["tensors"] = {
        key: (value.requires_grad, value.grad, value.detach().clone().tolist())
        for key, value in [*network.named_parameters(), *network.named_buffers()]
        if not key.endswith("mem")
    }
    return found


def prepared(network: nn.Module) -> nn.Module:
    """Return a network in training, with one part in evaluation, one parameter frozen, and hooks of its own."""
    network.train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.eval()
    parameters = list(network.parameters())
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.ones_like(parameters[1])
    network.register_forward_hook(lambda module, given, made: None)
    return network


@pytest.mark.parametrize(
    ("make", "shape"), [(StaticFirst, (2, 1, 16, 16)), (MultiStep, (4, 2, 2, 16, 16)), (Tutorial, (2, 1, 16, 16))]
)
def test_a_network_is_left_as_it_was(make: Any, shape: tuple[int, ...]) -> None:
    network = prepared(make())
    example = torch.rand(shape)
    before, kept = state_of(network), example.clone()
    numbers = (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist())  # noqa: NPY002
    read_network(network, example)
    assert (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()) == numbers  # noqa: NPY002
    assert state_of(network) == before
    assert torch.equal(example, kept)
    assert torch.is_grad_enabled()


def test_states_are_reset_before_and_after() -> None:
    network, example = MultiStep(), torch.rand(4, 2, 2, 16, 16)
    network.eval()
    fresh = network(example)
    assert isinstance(network[2].v, torch.Tensor)
    read_network(network, example)  # in the middle of something: it is proved from fresh states all the same
    assert network[2].v == 0.0
    assert torch.equal(network(example), fresh)


def test_a_network_that_is_refused_is_left_as_it_was_too() -> None:
    class Odd(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(super().forward(x))

    network = prepared(Odd(nn.Conv2d(1, 2, 3), spikingjelly("neuron").IFNode(), nn.Flatten()))
    before = state_of(network)
    with pytest.raises(NotImportable, match="sigmoid: this function has no form: an activation that is no neuron"):
        read_network(network, torch.rand(2, 1, 8, 8))
    assert state_of(network) == before


def test_a_network_that_raises_is_left_as_it_was_too() -> None:
    network = prepared(MultiStep())
    before = state_of(network)
    with pytest.raises(
        NotImportable, match=r"does not run on the example \[4, 2, 3, 16, 16\]: RuntimeError: Given"
    ) as caught:
        read_network(network, torch.rand(4, 2, 3, 16, 16))
    assert state_of(network) == before
    assert "give an example as it is called with" in str(caught.value)
