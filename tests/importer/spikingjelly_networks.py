"""Networks in the styles in which people write them with SpikingJelly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from importer.libraries import spikingjelly
from torch import Tensor, nn
from torch.nn import functional as F


class StaticFirst(nn.Module):
    """The first convolution once, then a loop in which votes are added up: the style of the PLIF networks."""

    def __init__(self) -> None:
        super().__init__()
        neuron, layer = spikingjelly("neuron"), spikingjelly("layer")
        self.static = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6))
        self.conv = nn.Sequential(
            *(neuron.ParametricLIFNode(init_tau=3.0), nn.MaxPool2d(2, 2)),
            *(nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)),
            *(neuron.ParametricLIFNode(), nn.MaxPool2d(2, 2)),
        )
        self.fc = nn.Sequential(
            *(nn.Flatten(), layer.Dropout(0.5), nn.Linear(8 * 4 * 4, 30, bias=False), neuron.ParametricLIFNode()),
        )
        self.boost = nn.AvgPool1d(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.static(x)
        out = self.boost(self.fc(self.conv(x)).unsqueeze(1)).squeeze(1)
        for _ in range(1, 4):
            out += self.boost(self.fc(self.conv(x)).unsqueeze(1)).squeeze(1)
        return out / 4


class MultiStep(nn.Sequential):
    """Layers in step mode "m" and their own voting layer, on [time, batch, ...]; the output keeps its time."""

    def __init__(self) -> None:
        neuron, layer, functional = spikingjelly("neuron"), spikingjelly("layer"), spikingjelly("functional")
        super().__init__(
            *(layer.Conv2d(2, 6, 3, padding=1, bias=False), layer.BatchNorm2d(6), neuron.LIFNode(tau=2.0)),
            *(layer.MaxPool2d(2, 2), layer.Conv2d(6, 6, 3, padding=1), neuron.IFNode(v_threshold=0.8)),
            *(layer.AvgPool2d(2, 2), layer.Flatten(), layer.Dropout(0.5), layer.Linear(6 * 4 * 4, 20)),
            *(neuron.LIFNode(tau=1.5, decay_input=False), layer.VotingLayer(2)),
        )
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x)
        return out


class SpikeElementWise(nn.Module):
    """Residual blocks that add spikes in place, samples first, and a linear layer of the mean over time."""

    def __init__(self) -> None:
        super().__init__()
        neuron, layer, functional = spikingjelly("neuron"), spikingjelly("layer"), spikingjelly("functional")

        def block(channels: int) -> nn.Module:
            conv = layer.SeqToANNContainer(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4))
            return nn.Sequential(conv, neuron.IFNode(v_reset=None))

        self.first, self.left, self.right = block(1), block(4), block(4)
        self.fc = nn.Linear(4 * 4 * 4, 5)
        functional.set_step_mode(self, "m")
        self.pool = layer.SeqToANNContainer(nn.MaxPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.permute(1, 0, 2, 3, 4))
        out = self.right(self.left(x))
        out += x
        out = self.pool(out)
        logits: Tensor = self.fc(out.flatten(2).mean(0))
        return logits


class WrittenIntoTensor(nn.Module):
    """A loop that writes each step into a tensor made for all of them, and reset potentials other than 0."""

    def __init__(self) -> None:
        super().__init__()
        neuron = spikingjelly("neuron")
        self.conv = nn.Conv2d(2, 5, 5, stride=2)
        self.norm = nn.BatchNorm2d(5)
        self.lif = neuron.LIFNode(tau=3.0, v_reset=-0.2, v_threshold=0.7)
        self.fc = nn.Linear(5 * 2 * 2, 6)
        self.out = neuron.IFNode(v_threshold=0.9, v_reset=0.1)

    def forward(self, x: Tensor) -> Tensor:
        spikes = torch.zeros(len(x), x.shape[1], 6)
        for t in range(len(x)):
            spikes[t] = self.out(self.fc(torch.flatten(self.lif(self.norm(self.conv(x[t]))), 1)))
        return spikes.sum(dim=0)


class BatchNormFirst(nn.Module):
    """Batch norm before the convolutions, and neurons that read the sum of two currents."""

    def __init__(self) -> None:
        super().__init__()
        neuron = spikingjelly("neuron")
        self.norm, self.conv = nn.BatchNorm2d(2), nn.Conv2d(2, 6, 3, bias=False)
        self.lif = neuron.LIFNode()
        self.body = nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 6, 1), nn.AvgPool2d(2))
        self.short = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(6, 6, 1, bias=False), nn.BatchNorm2d(6))
        self.last = neuron.LIFNode()
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        steps = []
        for frame in x:
            spikes = self.lif(self.conv(self.norm(frame)))
            spikes = self.last(self.body(spikes) + self.short(spikes))
            steps.append(self.fc(F.adaptive_avg_pool2d(spikes, 1).flatten(1)))
        return torch.stack(steps).mean(0)


class MembraneReadOut(nn.Module):
    """The potential of neurons that never spike, after the last step."""

    def __init__(self) -> None:
        super().__init__()
        neuron = spikingjelly("neuron")
        self.fc1, self.lif1 = nn.Linear(12, 9), neuron.LIFNode(tau=2.5)
        self.fc2, self.last = nn.Linear(9, 3), neuron.LIFNode(v_threshold=float("inf"))

    def forward(self, x: Tensor) -> Tensor:
        for t in range(x.shape[0]):
            self.last(self.fc2(self.lif1(self.fc1(x[t].reshape(x.shape[1], -1)))))
        potential: Tensor = self.last.v
        return potential


class OwnVoting(nn.Module):
    """Samples of one dimension, padding by hand, and votes counted by a view of its own."""

    def __init__(self) -> None:
        super().__init__()
        neuron = spikingjelly("neuron")
        self.conv, self.norm, self.lif1 = nn.Conv1d(3, 4, 4), nn.BatchNorm1d(4), neuron.LIFNode(v_reset=None)
        self.fc, self.lif2 = nn.Linear(4 * 5, 8), neuron.ParametricLIFNode(v_reset=None, v_threshold=1.2)

    def forward(self, x: Tensor) -> Tensor:
        count: Tensor | float = 0.0
        for frame in x.unbind(0):
            h = self.lif1(self.norm(self.conv(F.pad(frame, (1, 1)))))
            h = self.lif2(self.fc(F.avg_pool1d(h, 2).flatten(1)))
            count = count + h.view(-1, 4, 2).sum(2)
        assert isinstance(count, Tensor)
        return count / 5.0


class EncodedOnce(nn.Module):
    """An image that is scaled and spread over time, an own container, and logits of log-softmax."""

    def __init__(self) -> None:
        super().__init__()
        neuron, layer, functional = spikingjelly("neuron"), spikingjelly("layer"), spikingjelly("functional")
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.25, 0.3]).view(1, 3, 1, 1))
        self.encoder = nn.Sequential(layer.Conv2d(3, 5, 2, stride=2), neuron.IFNode())
        self.head = nn.Sequential(layer.Flatten(), layer.Linear(5 * 4 * 4, 6), neuron.IFNode())
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.std  # type: ignore[operator]
        x = x.unsqueeze(0).repeat(4, 1, 1, 1, 1)
        return F.log_softmax(self.head(self.encoder(x)).mean(0), dim=1)


class TimeDependentNorm(nn.Module):
    """Batch norm of three dimensions over time and pixels, samples first, and a subclass of a neuron."""

    def __init__(self) -> None:
        super().__init__()
        neuron, functional = spikingjelly("neuron"), spikingjelly("functional")

        class Slow(neuron.LIFNode):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__(tau=4.0, v_threshold=0.5)

        self.conv, self.norm, self.lif = nn.Conv2d(2, 4, 3), nn.BatchNorm3d(4), Slow()
        self.fc = nn.Linear(4 * 6 * 6, 3)
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        batch, steps = x.shape[:2]
        h = self.conv(x.flatten(0, 1)).unflatten(0, (batch, steps))
        h = self.norm(h.transpose(1, 2)).permute(2, 0, 1, 3, 4)
        h = self.lif(h.contiguous())
        return self.fc(h.flatten(2)).sum(0)  # type: ignore[no-any-return]


Make = Callable[[], nn.Module]
# The networks, the axes and the shapes of their examples.
NETWORKS: dict[str, tuple[Make, str, tuple[int, ...]]] = {
    "static-first": (StaticFirst, "BCHW", (3, 1, 16, 16)),
    "multi-step": (MultiStep, "TBCHW", (4, 3, 2, 16, 16)),
    "spike-element-wise": (SpikeElementWise, "BTCHW", (3, 4, 1, 8, 8)),
    "written-into-tensor": (WrittenIntoTensor, "TBCHW", (4, 3, 2, 8, 8)),
    "batch-norm-first": (BatchNormFirst, "TBCHW", (4, 3, 2, 8, 8)),
    "membrane-read-out": (MembraneReadOut, "TBCHW", (4, 3, 3, 2, 2)),
    "own-voting": (OwnVoting, "TBCL", (5, 3, 3, 11)),
    "encoded-once": (EncodedOnce, "BCHW", (3, 3, 8, 8)),
    "time-dependent-norm": (TimeDependentNorm, "BTCHW", (3, 4, 2, 8, 8)),
}


def make(name: str) -> Any:
    """Return a network, the axes and the shape of its example."""
    network, axes, shape = NETWORKS[name]
    return network(), axes, shape
