"""Networks in the styles in which people write them with snnTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from importer.libraries import snntorch
from torch import Tensor, nn
from torch.nn import functional as F


class Tutorial(nn.Module):
    """The convolutional network of the tutorial: max-pool before the neuron; spikes and membranes of all steps."""

    def __init__(self) -> None:
        super().__init__()
        snn = snntorch()
        self.conv1, self.lif1 = nn.Conv2d(1, 5, 5), snn.Leaky(beta=0.5)
        self.conv2, self.lif2 = nn.Conv2d(5, 6, 3), snn.Leaky(beta=0.9)
        self.fc1, self.lif3 = nn.Linear(6 * 2 * 2, 4), snn.Leaky(beta=0.7)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
        spikes, membranes = [], []
        for _ in range(5):
            spk1, mem1 = self.lif1(F.max_pool2d(self.conv1(x), 2), mem1)
            spk2, mem2 = self.lif2(F.max_pool2d(self.conv2(spk1), 2), mem2)
            spk3, mem3 = self.lif3(self.fc1(spk2.view(x.size(0), -1)), mem3)
            spikes.append(spk3)
            membranes.append(mem3)
        return torch.stack(spikes, dim=0), torch.stack(membranes, dim=0)


class Perceptron(nn.Module):
    """Vectors, thresholds other than 1, resets to zero, and a count of spikes."""

    def __init__(self) -> None:
        super().__init__()
        snn = snntorch()
        self.fc1, self.lif1 = nn.Linear(12, 10), snn.Leaky(beta=0.8, threshold=1.3, reset_mechanism="zero")
        self.fc2 = nn.Linear(10, 4)
        self.lif2 = snn.Leaky(beta=0.8, threshold=0.7, reset_mechanism="zero", reset_delay=False)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.reset_mem(), self.lif2.reset_mem()
        out = []
        for step in range(x.size(0)):
            spk1, mem1 = self.lif1(self.fc1(x[step]), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            out.append(spk2)
        return torch.stack(out).sum(0)


def hidden_states() -> nn.Module:
    """Return layers in a row with their states within: a beta that is learned, one a channel, graded spikes."""
    snn = snntorch()
    beta = torch.tensor([0.3, 0.5, 0.7, 0.95, 1.2]).view(5, 1, 1)
    thresholds = torch.tensor([0.6, 0.8, 1.0, 1.2, 1.4]).view(5, 1, 1)
    return nn.Sequential(
        *(nn.Conv2d(2, 5, 3), nn.MaxPool2d(2)),
        snn.Leaky(beta=beta, threshold=thresholds, learn_beta=True, init_hidden=True, graded_spikes_factor=1.5),
        *(nn.Flatten(), nn.Linear(5 * 3 * 3, 4), snn.Leaky(beta=0.9, learn_beta=True, init_hidden=True, output=True)),
    )


def step_by_step(network: nn.Module, x: Tensor) -> Tensor:
    """Call a network of one step a call, and keep its spikes."""
    return torch.stack([network(frame)[0] for frame in x])


class NormBehindPool(nn.Module):
    """Batch norm behind an average pool, a threshold of 1.5, dropout, and a soft reset without delay at the end."""

    def __init__(self) -> None:
        super().__init__()
        snn = snntorch()
        self.conv1, self.norm1, self.lif1 = (
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            snn.Leaky(0.6, threshold=1.5),
        )
        self.drop = nn.Dropout(0.3)
        self.fc, self.lif2 = nn.Linear(4 * 4 * 4, 5), snn.Leaky(0.9, reset_delay=False)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        total = torch.zeros(x.shape[1], 5)
        for step in range(x.size(0)):
            cur = self.norm1(F.avg_pool2d(self.conv1(x[step]), 2))
            spk, mem1 = self.lif1(cur, mem1)
            spk, mem2 = self.lif2(self.fc(self.drop(spk.flatten(1))), mem2)
            total += spk
        return total


class LastMembrane(nn.Module):
    """The membrane of neurons without a reset after the last step, behind a shortcut of halves."""

    def __init__(self) -> None:
        super().__init__()
        snn = snntorch()
        self.conv1, self.lif1 = nn.Conv2d(3, 4, 3, padding=1), snn.Leaky(0.5)
        self.conv2, self.lif2 = nn.Conv2d(4, 4, 3, padding=1), snn.Leaky(0.5)
        self.fc, self.last = nn.Linear(4 * 6 * 6, 3), snn.Leaky(0.9, reset_mechanism="none")

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2, mem = self.lif1.init_leaky(), self.lif2.init_leaky(), self.last.init_leaky()
        for frame in x.unbind(1):
            a, mem1 = self.lif1(self.conv1(frame), mem1)
            b, mem2 = self.lif2(0.5 * a + self.conv2(a), mem2)
            _, mem = self.last(self.fc(b.flatten(1)), mem)
        return mem  # type: ignore[no-any-return]


Make = Callable[[], nn.Module]
# The networks, the axes and shapes of their examples, what else reading them is given.
NETWORKS: dict[str, tuple[Make, str, tuple[int, ...], dict[str, Any]]] = {
    "tutorial-spikes": (Tutorial, "BCHW", (3, 1, 16, 16), {}),
    "tutorial-membranes": (Tutorial, "BCHW", (3, 1, 16, 16), {"output": 1}),
    "perceptron": (Perceptron, "TBC", (5, 3, 12), {}),
    "hidden-states": (hidden_states, "TBCHW", (5, 3, 2, 8, 8), {"run": step_by_step}),
    "norm-behind-pool": (NormBehindPool, "TBCHW", (5, 3, 2, 8, 8), {}),
    "last-membrane": (LastMembrane, "BTCHW", (3, 5, 3, 6, 6), {}),
}


def make(name: str) -> tuple[nn.Module, str, tuple[int, ...], dict[str, Any]]:
    """Return a network, the axes and the shape of its example, and what else reading it is given."""
    network, *rest = NETWORKS[name]
    return network(), *rest
