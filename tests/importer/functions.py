"""Modules with functions that return a network and an example, as a user writes them for model.import."""

from __future__ import annotations

SPIKINGJELLY = """\
import torch
from spikingjelly.activation_based import functional, layer, neuron

class Votes(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Sequential(
            *(layer.Conv2d(2, 6, 3, padding=1, bias=False), layer.BatchNorm2d(6)),
            *(neuron.ParametricLIFNode(init_tau=3.0), layer.MaxPool2d(2)),
        )
        self.hidden = torch.nn.Sequential(layer.Flatten(), layer.Linear(96, 8), neuron.LIFNode(tau=1.7))
        self.vote = layer.VotingLayer(4)

    def forward(self, x):
        return self.vote(self.hidden(self.conv(x)))

def trained():
    net = Votes()
    functional.set_step_mode(net, "m")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= 3.0 if parameter.dim() > 1 else 1.0
    return net, torch.randint(0, 4, (2, 3, 2, 8, 8)).float()
"""

SNNTORCH = """\
import snntorch
import torch

class Tutorial(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = torch.nn.Conv2d(2, 6, 3, padding=1), torch.nn.Linear(96, 2)
        self.lif1 = snntorch.Leaky(beta=0.9, threshold=1.5, learn_beta=True)
        self.lif2 = snntorch.Leaky(beta=0.8)

    def forward(self, x):
        mem1, mem2, spikes = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for step in range(len(x)):
            first, mem1 = self.lif1(torch.nn.functional.max_pool2d(self.conv(x[step]), 2), mem1)
            second, mem2 = self.lif2(self.fc(first.flatten(1)), mem2)
            spikes.append(second)
        return torch.stack(spikes)

def trained():
    return Tutorial(), torch.randint(0, 4, (2, 3, 2, 8, 8)).float(), {"axes": "TBCHW"}
"""

SAMPLES = """\
import numpy as np

def samples():
    labels = np.arange(96) % 2
    frames = np.random.default_rng(0).poisson(0.2, (96, 2, 2, 8, 8)).astype(np.uint8)
    frames[labels == 1, :, 0, :4] += 2
    return (frames, labels), None, None
"""

SPACE = """\
data: {name: python, build: "SAMPLES:samples"}
time_steps: 2
model: {import: "MODULE:trained", network: mine}
layers: {all: {weight_bits: [2, 4], membrane_levels: [3, 16]}}
search: {strategy: supernet, trials: 2, workers: 1, budget_ladder: 0}
supernet: {epochs: 1}
final: {members: 1}
train: {batch_size: 16}
"""
