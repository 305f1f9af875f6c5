"""More ways in which people write spiking networks: containers, loops, norms, pools, branches, ends."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from importer.libraries import snntorch, spikingjelly
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune


def lif(**given: Any) -> nn.Module:
    """Return a neuron of SpikingJelly."""
    made: nn.Module = spikingjelly("neuron").LIFNode(**given)
    return made


def multi_step(network: nn.Module) -> nn.Module:
    """Return a network whose layers take all time steps at once."""
    spikingjelly("functional").set_step_mode(network, "m")
    return network


class Depthwise(nn.Module):
    """A depthwise and a pointwise convolution with a batch norm between and no neuron; samples before time."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.lif1 = nn.Conv2d(2, 6, 3, stride=2, padding=1), lif()
        self.depth, self.norm = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), nn.BatchNorm2d(6)
        self.point, self.lif2, self.fc = nn.Conv2d(6, 8, 1), lif(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for t in range(x.size(1)):
            h = self.lif1(self.stem(x[:, t]))
            h = self.lif2(self.point(self.norm(self.depth(h))))
            outputs.append(self.fc(h.mean((2, 3))).unsqueeze(0))
        return torch.cat(outputs, dim=0).mean(dim=0)


class ThreeBranches(nn.Module):
    """A 3x3 and a 1x1 convolution and a batch norm of the spikes themselves, added up before the neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.lif1 = nn.Conv2d(2, 4, 3, padding=1), lif()
        self.three = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.one = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.same, self.lif2 = nn.BatchNorm2d(4), lif()
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        total: Any = 0
        for frame in x:
            h = self.lif1(self.stem(frame))
            total = total + self.head(self.lif2(self.three(h) + self.one(h) + self.same(h))) / len(x)
        return total  # type: ignore[no-any-return]


class Stem(nn.Module):
    """A stem of 7x7 with stride 2 and a 3/2/1 max-pool, functions for several steps, and neurons behind the sum."""

    def __init__(self) -> None:
        super().__init__()
        neuron = spikingjelly("neuron")
        self.conv1, self.bn1, self.lif1 = (
            nn.Conv2d(3, 6, 7, 2, 3, bias=False),
            nn.BatchNorm2d(6),
            neuron.IFNode(step_mode="m"),
        )
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.conv2, self.bn2, self.lif2 = (
            nn.Conv2d(6, 6, 3, 1, 1, bias=False),
            nn.BatchNorm2d(6),
            neuron.IFNode(step_mode="m"),
        )
        self.fc = nn.Linear(6 * 4 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        functional = spikingjelly("functional")
        x = self.lif1(functional.seq_to_ann_forward(x, [self.conv1, self.bn1]))
        x = functional.seq_to_ann_forward(x, self.pool)
        x = self.lif2(functional.seq_to_ann_forward(x, [self.conv2, self.bn2]) + x)
        return functional.seq_to_ann_forward(x, [nn.Flatten(), self.fc]).sum(0)  # type: ignore[no-any-return]


class Matrices(nn.Module):
    """Weights as parameters, products written out, one neuron a layer in a list."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (12, 16, 10, 4)
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(a, b)) for a, b in pairwise(sizes))
        self.biases = nn.ParameterList(nn.Parameter(0.1 * torch.randn(b)) for b in sizes[1:])
        self.neurons = nn.ModuleList(lif(tau=1.5) for _ in sizes[1:])

    def forward(self, x: Tensor) -> Tensor:
        record = []
        for frame in x:
            h = frame
            for number, (weight, bias, neuron) in enumerate(zip(self.weights, self.biases, self.neurons, strict=True)):
                h = neuron(torch.addmm(bias, h, weight) if number else h @ weight + bias)
            record.append(h)
        return sum(record) / len(record)  # type: ignore[return-value]


def normed_and_pruned() -> nn.Module:
    """Return layers whose weights are normalized, and of which half are cut, before they are used."""
    conv = parametrizations.weight_norm(nn.Conv2d(2, 6, 3))
    fc = nn.Linear(6 * 3 * 3, 4)
    prune.l1_unstructured(fc, "weight", amount=0.5)
    layers = OrderedDict(conv=conv, lif=lif(), pool=nn.MaxPool2d(2), flat=nn.Flatten(), fc=fc, out=lif())
    return nn.Sequential(layers)


def odd_pools() -> nn.Module:
    """Return pools that round up, leave out their padding, take the whole map; dilation, groups, padding by a layer."""
    layer = spikingjelly("layer")
    return multi_step(
        nn.Sequential(
            *(layer.SeqToANNContainer(nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(2, 6, 3, dilation=2, groups=2)), lif()),
            layer.SeqToANNContainer(nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(6, 4, 2), nn.Dropout2d(0.2)),
            layer.SeqToANNContainer(nn.AvgPool2d(2, 1, 1, count_include_pad=False)),
            *(lif(v_reset=None), layer.SeqToANNContainer(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 3))),
        )
    )


def average_steps(network: nn.Module, x: Tensor) -> Tensor:
    """Call a network once for every step of an input and add up what it gives, as training loops do."""
    total = 0.0
    for t in range(x.shape[0]):
        total += network(x[t])
    return total / x.shape[0]  # type: ignore[return-value]


class Population(nn.Module):
    """Ten neurons a class whose spikes are added by a view, states reset within forward."""

    def __init__(self) -> None:
        super().__init__()
        snn = snntorch()
        self.body = nn.Sequential(
            *(nn.Flatten(), nn.Linear(18, 12), snn.Leaky(0.8, init_hidden=True)),
            *(nn.Linear(12, 20), snn.Leaky(0.95, init_hidden=True, output=True, learn_threshold=True)),
        )

    def forward(self, x: Tensor) -> Tensor:
        snntorch("utils").reset(self.body)
        spikes = torch.stack([self.body(x[:, t])[0] for t in range(x.shape[1])])
        return spikes.view(x.shape[1], -1, 2, 10).sum(dim=-1).mean(dim=0)


class Rows(nn.Module):
    """Signals of one dimension whose features come last, and a neuron between two pools."""

    def __init__(self) -> None:
        super().__init__()
        snn = snntorch()
        self.conv1, self.norm, self.lif1 = nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), snn.Leaky(0.7, threshold=0.4)
        self.fc, self.lif2 = nn.Linear(8 * 2, 3), snn.Leaky(0.6)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(1, 0, 3, 2)
        mem1, mem2, out = self.lif1.init_leaky(), self.lif2.init_leaky(), torch.zeros(x.shape[1], x.shape[0], 3)
        for t, frame in enumerate(x):
            spikes, mem1 = self.lif1(F.max_pool1d(self.norm(self.conv1(frame)), 2), mem1)
            spikes, mem2 = self.lif2(self.fc(F.adaptive_avg_pool1d(spikes, 2).flatten(1)), mem2)
            out[:, t] = spikes
        return out.mean(1)


# The networks, the axes and shapes of their examples, what else reading them is given.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], str, tuple[int, ...], dict[str, Any]]] = {
    "depthwise": (Depthwise, "BTCHW", (3, 4, 2, 12, 12), {}),
    "three-branches": (ThreeBranches, "TBCHW", (4, 3, 2, 8, 8), {}),
    "stem": (Stem, "TBCHW", (4, 2, 3, 16, 16), {}),
    "matrices": (Matrices, "TBC", (4, 3, 12), {}),
    "normed-and-pruned": (normed_and_pruned, "TBCHW", (4, 3, 2, 8, 8), {"run": average_steps}),
    "odd-pools": (odd_pools, "TBCHW", (4, 3, 2, 10, 10), {}),
    "population": (Population, "BTCHW", (3, 5, 2, 3, 3), {}),
    "rows": (Rows, "BTLC", (3, 5, 10, 4), {}),
}
