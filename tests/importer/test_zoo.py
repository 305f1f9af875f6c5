"""SpikingJelly's own networks at full width: read and proved, or refused by name. Minutes long.

Those that are built from torchvision's blocks are imported with a stub in its place, see ``importer.libraries.zoo``.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from importer.libraries import spikingjelly, zoo
from importer.livening import liven
from torch import nn

from spquant_search.importer import NotImportable, read_network

pytestmark = pytest.mark.slow


def plif(name: str, *, channels: int, spikes: str) -> nn.Module:
    neuron = spikingjelly("neuron")
    network: nn.Module = getattr(zoo("parametric_lif_net"), name)(
        channels=channels, spiking_neuron=getattr(neuron, spikes)
    )
    return network


def built(module: str, name: str, **given: Any) -> nn.Module:
    neuron = spikingjelly("neuron")
    network: nn.Module = getattr(zoo(module), name)(spiking_neuron=neuron.IFNode, **given)
    return network


CASES: dict[str, tuple[Any, str, tuple[int, ...]]] = {
    "mnist": (lambda: plif("MNISTNet", channels=128, spikes="ParametricLIFNode"), "m", (2, 1, 28, 28)),
    "mnist-lif": (lambda: plif("MNISTNet", channels=128, spikes="LIFNode"), "m", (2, 1, 28, 28)),
    "fashion": (lambda: plif("FashionMNISTNet", channels=128, spikes="ParametricLIFNode"), "m", (2, 1, 28, 28)),
    "fashion-steps": (lambda: plif("FashionMNISTNet", channels=128, spikes="ParametricLIFNode"), "s", (2, 1, 28, 28)),
    "nmnist": (lambda: plif("NMNISTNet", channels=128, spikes="ParametricLIFNode"), "m", (2, 2, 34, 34)),
    "nmnist-steps": (lambda: plif("NMNISTNet", channels=128, spikes="ParametricLIFNode"), "s", (2, 2, 34, 34)),
    "cifar10": (lambda: plif("CIFAR10Net", channels=256, spikes="ParametricLIFNode"), "m", (2, 3, 32, 32)),
    "cifar10-dvs": (lambda: plif("CIFAR10DVSNet", channels=128, spikes="ParametricLIFNode"), "m", (2, 2, 128, 128)),
    "dvs-gesture": (lambda: plif("DVSGestureNet", channels=128, spikes="ParametricLIFNode"), "m", (2, 2, 128, 128)),
    "vgg11": (lambda: built("spiking_vgg", "spiking_vgg11"), "m", (2, 3, 32, 32)),
    "vgg11-bn": (lambda: built("spiking_vgg", "spiking_vgg11_bn"), "m", (2, 3, 32, 32)),
    "sew-resnet18": (lambda: built("sew_resnet", "sew_resnet18", cnf="ADD"), "m", (2, 3, 32, 32)),
    "sew-resnet50": (lambda: built("sew_resnet", "sew_resnet50", cnf="ADD"), "m", (2, 3, 32, 32)),
    "resnet18": (lambda: built("spiking_resnet", "spiking_resnet18"), "m", (2, 3, 32, 32)),
}


def over_steps(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Call a network of one step a call, and add up what it gives."""
    return torch.stack([network(frame) for frame in x]).mean(0)


@pytest.mark.parametrize("name", CASES)
def test_a_network_of_the_zoo_is_read_and_proved(name: str) -> None:
    make, mode, shape = CASES[name]
    torch.manual_seed(0)
    network = make()
    spikingjelly("functional").set_step_mode(network, mode)
    example = 2 * torch.rand(3, *shape)
    run = over_steps if mode == "s" else None
    read = read_network(liven(network, example, run), example, axes="TBCHW", run=run)
    for proof in read.proofs.values():
        assert proof.differ == 0
        assert all(layer.membrane_error is not None and layer.membrane_error < 1e-4 for layer in proof.layers)
    assert not any("spiked" in note for note in read.notes)


@pytest.mark.parametrize(
    ("module", "name", "given", "reason"),
    [
        ("sew_resnet", "sew_resnet18", {"cnf": "IAND"}, "layer1.0: mul: a product of two signals has no form"),
        ("spikformer", "spikformer_ti", {}, "blocks.0.attn"),
    ],
)
def test_a_network_without_a_form_is_refused_by_name(module: str, name: str, given: Any, reason: str) -> None:
    network = built(module, name, **given) if given else getattr(zoo(module), name)()
    spikingjelly("functional").set_step_mode(network, "m")
    size = 224 if module == "spikformer" else 32
    with pytest.raises(NotImportable, match=reason):
        read_network(network, torch.rand(2, 2, 3, size, size), axes="TBCHW")
