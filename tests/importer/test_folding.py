"""Whatever lies between two layers of neurons is folded, and what is left computes the same."""

from __future__ import annotations

import pytest
import torch
from importer.libraries import spikingjelly
from torch import Tensor, nn

from spquant_search.importer import read_network
from spquant_search.importer.operations import Scale


class Chain(nn.Module):
    """Neurons, a random chain of layers, and neurons again; with luck a second chain is added."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        neuron = spikingjelly("neuron")
        generator = torch.Generator().manual_seed(seed)
        self.stem, self.lif1 = nn.Conv2d(2, 4, 3, padding=1), neuron.LIFNode(tau=3.0)
        self.chain = self.random_layers(generator)
        self.other = self.random_layers(generator) if seed % 3 == 0 else None
        self.lif2 = neuron.LIFNode(v_threshold=0.7, v_reset=(None, 0.0, -0.1)[seed % 3])

    @staticmethod
    def random_layers(generator: torch.Generator) -> nn.Sequential:
        def number(below: int) -> int:
            return int(torch.randint(below, (1,), generator=generator))

        layers: list[nn.Module] = []
        for _ in range(1 + number(5)):
            kinds = (
                nn.Conv2d(4, 4, 3, padding=1, groups=1 + number(2), bias=bool(number(2))),
                nn.BatchNorm2d(4),
                nn.AvgPool2d(3, 1, 1, count_include_pad=bool(number(2))),
                nn.MaxPool2d(3, 1, 1),
                nn.BatchNorm2d(4, affine=bool(number(2))),
            )
            layers.append(kinds[number(len(kinds))])
        for norm in (layer for layer in layers if isinstance(layer, nn.BatchNorm2d)):
            norm.running_mean.copy_(0.3 * torch.randn(4, generator=generator))  # type: ignore[union-attr]
            norm.running_var.copy_(0.2 + torch.rand(4, generator=generator))  # type: ignore[union-attr]
            if norm.affine:
                norm.weight.data.copy_(torch.randn(4, generator=generator))
                norm.bias.data.copy_(0.3 * torch.randn(4, generator=generator))
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for frame in x:
            spikes = self.lif1(self.stem(2 * frame - 0.5))
            current = self.chain(spikes)
            if self.other is not None:
                current = current - self.other(spikes)
            out.append(self.lif2(current))
        return torch.stack(out)


@pytest.mark.parametrize("seed", range(24))
def test_a_random_chain(seed: int) -> None:
    torch.manual_seed(seed)
    read = read_network(Chain(seed), torch.rand(3, 2, 2, 6, 6))  # which proves it
    for proof in read.proofs.values():
        assert all(layer.membrane_error is not None and layer.membrane_error < 1e-5 for layer in proof.layers)
        assert proof.differ == 0


def test_batch_norm_between_convolutions_leaves_nothing() -> None:
    neuron = spikingjelly("neuron")
    network = nn.Sequential(
        *(nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), neuron.LIFNode(v_threshold=0.3, v_reset=-0.1)),
        *(nn.AvgPool2d(2), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 2), nn.MaxPool2d(1), nn.BatchNorm2d(4), neuron.IFNode()),
    )
    read = read_network(network, torch.rand(3, 2, 2, 8, 8), run=lambda net, x: torch.stack([net(frame) for frame in x]))
    kinds = [type(node.operation).__name__ for node in read.description.layers.values()]
    assert kinds == ["Input", "Convolution", "Spiking", "Pool", "Convolution", "Pool", "Spiking"]
    assert not any(isinstance(node.operation, Scale) for node in read.description.layers.values())
