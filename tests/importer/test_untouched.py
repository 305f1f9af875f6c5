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


class Writing(nn.Module):
    """A network whose code writes into itself, and into what it is given, while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(6, 6), spikingjelly("neuron").LIFNode()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(2))
        self.seen: list[torch.Tensor] = []
        self.by_name: dict[str, int] = {"first": 1}
        self.last: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.calls, torch.Tensor)
        self.calls += 1
        self.replaced = torch.ones(3)
        self.fc.weight.data = self.fc.weight.data.sign()  # as networks with binary weights do
        self.fc.bias.data.clamp_(-0.1, 0.1)
        self.fc.bias.requires_grad_(False)
        out = torch.stack([self.lif(self.fc(frame)) for frame in x.mul_(2)])
        self.last, self.new = out, 1
        self.seen.append(out)
        self.by_name["second"] = 2
        return out


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_network_writes_into_itself_is_put_back(fails: bool) -> None:
    network, example = prepared(Writing()), torch.rand(3, 2, 6)
    before, kept, weight = state_of(network), example.clone(), network.fc.weight.data_ptr()  # type: ignore[operator, union-attr]
    contents = [type(network.calls), list(network.seen), dict(network.by_name), network.last]  # type: ignore[arg-type]
    if fails:
        with pytest.raises(NotImportable):
            read_network(network, example, output=1, run=lambda net, x: [net(x)])
    else:
        read_network(network, example)
    assert state_of(network) == before
    assert [type(network.calls), list(network.seen), dict(network.by_name), network.last] == contents  # type: ignore[arg-type]
    assert network.fc.weight.data_ptr() == weight  # type: ignore[operator, union-attr]
    assert torch.equal(example, kept)


def test_hooks_of_all_kinds_stay_and_are_called_while_it_is_read() -> None:
    network, called = MultiStep(), []
    norm: Any = network[1]
    norm.register_forward_pre_hook(lambda module, given: called.append("before"))
    norm.register_forward_hook(lambda module, given, made: called.append("behind"))
    norm.register_full_backward_hook(lambda module, given, made: called.append("backward"))
    handle = norm.register_forward_hook(lambda module, given, made: called.append("removed"))
    example = torch.rand(4, 2, 2, 16, 16)
    read_network(network, example)
    assert set(called) == {"before", "behind", "removed"}
    handle.remove()
    called.clear()
    network(example).sum().backward()
    assert called == ["before", "behind", "backward"]


def test_numbers_that_a_network_draws_leave_every_generator_as_it_was() -> None:
    class Drawing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
            return torch.sigmoid(x)

    states = (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist())  # noqa: NPY002
    with pytest.raises(NotImportable):
        read_network(nn.Sequential(Drawing()), torch.rand(3, 2, 6).round())
    torch.rand(0)
    assert (random.getstate(), str(np.random.get_state())) == states[:2]  # noqa: NPY002


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_network_is_read_in_any_mode_of_gradients(mode: Any) -> None:
    with mode():
        read = read_network(MultiStep(), torch.rand(4, 2, 2, 16, 16))
    assert len(read.description.neurons) == 3


def test_a_state_that_the_library_makes_while_it_is_read_is_gone() -> None:
    network = MultiStep()
    names = [sorted(vars(module).get("_memories", {})) for module in network]
    read_network(network, torch.rand(4, 2, 2, 16, 16))
    assert [sorted(vars(module).get("_memories", {})) for module in network] == names
