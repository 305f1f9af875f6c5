"""Networks of this package's layers that are made of imported ones give the original's spikes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from importer import snntorch_networks, spikingjelly_networks
from importer.libraries import spikingjelly
from importer.livening import liven
from torch import Tensor, nn

from spquant_search.importer import NotImportable, from_torch
from spquant_search.importer.network_plan import PlanMaker
from spquant_search.importer.own_network import ImportedNetwork


def imported(network: nn.Module, shape: tuple[int, ...], **given: Any) -> ImportedNetwork:
    torch.manual_seed(1)
    example = torch.randint(0, 4, shape).float()
    return from_torch(liven(network, example, given.get("run")), example, **given)


NAMES = ["static-first", "multi-step", "spike-element-wise", "written-into-tensor", "own-voting"]


@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_spikingjelly(name: str) -> None:
    network, axes, shape = spikingjelly_networks.make(name)
    made = imported(network, shape, axes=axes)
    assert len(made.neurons) >= 2
    assert all(proof.differ == 0 for proof in made.proofs.values())


@pytest.mark.parametrize("name", ["tutorial-spikes", "perceptron", "norm-behind-pool"])
def test_a_network_of_snntorch(name: str) -> None:
    network, axes, shape, given = snntorch_networks.make(name)
    if name == "norm-behind-pool":
        with pytest.raises(NotImportable, match="snnTorch's subtraction with reset_delay=False has no form"):
            imported(network, shape, axes=axes, **given)
        return
    assert imported(network, shape, axes=axes, **given).neurons


def test_a_pool_that_leaves_out_the_last_row_and_column() -> None:
    neuron, layer = spikingjelly("neuron"), spikingjelly("layer")
    network = nn.Sequential(
        *(
            layer.Conv2d(2, 4, 3, padding=1),
            neuron.LIFNode(),
            layer.MaxPool2d(2),
            layer.Conv2d(4, 4, 3),
            neuron.LIFNode(),
        ),
        *(layer.AvgPool2d(2, 2), layer.Flatten(), layer.Linear(4, 6), neuron.IFNode(), layer.VotingLayer(2)),
    )
    spikingjelly("functional").set_step_mode(network, "m")
    assert list(imported(network, (4, 3, 2, 11, 11)).neurons) == ["layer_0", "layer_3", "layer_7"]


def test_layers_have_the_names_of_the_weights() -> None:
    network, axes, shape = spikingjelly_networks.make("static-first")
    made = imported(network, shape, axes=axes)
    assert list(made.neurons) == ["static_0", "conv_2", "fc_2"]


def test_what_these_layers_do_not_carry_is_refused_at_once() -> None:
    network, axes, shape, given = snntorch_networks.make("tutorial-membranes")
    with pytest.raises(NotImportable, match="the membranes of neurons that spike are read: a readout has no reset"):
        imported(network, shape, axes=axes, **given)
    network, axes, shape, given = snntorch_networks.make("hidden-states")
    with pytest.raises(NotImportable) as caught:
        imported(network, shape, axes=axes, **given)
    assert "a leak for each channel has no form in this package's layers" in str(caught.value)


def test_a_layer_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = PlanMaker._set_weights

    def wrong(self: Any, name: str, weighted: Any) -> None:
        right(self, name, weighted)
        if len(self.neurons) == 1:
            self.weights[f"{name}.weight"].mul_(1.1)

    monkeypatch.setattr(PlanMaker, "_set_weights", wrong)
    network, axes, shape = spikingjelly_networks.make("multi-step")
    with pytest.raises(NotImportable, match="5: layer_4: the layer made of it spikes otherwise on the example"):
        imported(network, shape, axes=axes)


def test_an_example_of_other_numbers_needs_a_unit() -> None:
    network, axes, shape = spikingjelly_networks.make("multi-step")
    with pytest.raises(NotImportable, match="neither whole numbers from 0 on nor such by 255"):
        from_torch(network, torch.rand(shape), axes=axes)
    example = torch.randint(0, 256, shape) / 255
    assert from_torch(liven(network, example), example, axes=axes).neurons
    assert from_torch(network, torch.randint(0, 9, shape) / 16, axes=axes, unit=1 / 16).neurons


def test_membranes_of_neurons_without_a_reset_become_a_readout() -> None:
    network, axes, shape = spikingjelly_networks.make("membrane-read-out")
    made = imported(network, shape, axes=axes)
    assert made.get_submodule("fc2").membrane == "last"
    assert list(made.neurons) == ["fc1"]


def test_linear_layers_of_the_mean_and_log_softmax() -> None:
    network, axes, shape = spikingjelly_networks.make("encoded-once")
    example = torch.randint(0, 256, shape) / 255
    network = liven(network, example)
    assert from_torch(network, example, axes=axes).neurons


class Images(nn.Module):
    """A perceptron of images, scaled in the network."""

    def __init__(self) -> None:
        super().__init__()
        neuron = spikingjelly("neuron")
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), neuron.LIFNode(), nn.Linear(8, 4), neuron.LIFNode())

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.net(x / 255) for _ in range(4)]).mean(0)


def test_pixels_of_bytes() -> None:
    example = torch.randint(0, 256, (3, 1, 6, 6)).float()
    torch.manual_seed(0)
    assert list(from_torch(liven(Images(), example), example).neurons) == ["net_1", "net_3"]
