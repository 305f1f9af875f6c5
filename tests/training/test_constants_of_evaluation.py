"""What an evaluation keeps is never of other weights, statistics or precisions than the network has."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from small_training import network, recordings
from torch import Tensor, nn

from spquant_search.runs.results import LayerActivity
from spquant_search.snn import convolution, readout
from spquant_search.snn.constants import Constants, constants_kept
from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.layers import measured, searchable_layers
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes, global_average
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.schema import NeuronSpace
from spquant_search.training.device_memory import BatchSizes
from spquant_search.training.evaluation import accuracy

STEPS, SAMPLES = 2, 2
CHANGES = 24
NEURON = NeuronSpace(learn_threshold=True)


class Small(nn.Module):
    """Every kind of layer with weights: pooled, residual, in groups, with a bias, and a readout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = SpikingConv2d(2, 4, pool="before", can_gate=False)
        self.conv2 = SpikingConv2d(4, 8, stride=2)
        self.shortcut = Shortcut(4, 8, stride=2)
        self.conv3 = SpikingConv2d(8, 8, groups=2, pool="after")
        self.fc = SpikingConv2d(8, 6, kernel_size=1, norm=False)
        self.readout = Readout(6, 1, 3)
        self.seen: list[Tensor] = []  # of all layers, in the latest pass

    def forward(self, spikes: Spikes) -> Tensor:
        first = self.conv1(spikes)
        residual = self.shortcut(first)
        second = self.conv2(first, residual)
        third = self.conv3(second)
        fourth = self.fc(global_average(third))
        self.seen = [first.values, residual, second.values, third.values, fourth.values, self.readout(fourth)]
        return self.seen[-1]


class Subject:
    """A network whose weights, statistics and precision change, and a fresh one like it."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.network = self._built()
        layers = searchable_layers(self.network)
        self._precisions = dict.fromkeys(layers, LayerPrecision(weight_bits=4, membrane_levels=16))
        self._take(dict(self._precisions))
        for values in self.network.state_dict().values():  # no statistics as they are at first
            if values.is_floating_point():
                values.add_(0.3 * torch.rand_like(values))
        frames = torch.randint(0, 16, (STEPS * SAMPLES, 2, 8, 8)).float()
        self._input = Spikes(values=frames, time_steps=STEPS, largest=15)

    def _built(self) -> Small:
        built = Small().eval()
        for layer in searchable_layers(built).values():
            layer.set_precision(layer.precision, NEURON)  # makes the thresholds
        return built

    def _take(self, precisions: dict[str, LayerPrecision]) -> None:
        self._precisions |= precisions
        for name, precision in precisions.items():
            searchable_layers(self.network)[name].set_precision(precision, NEURON)

    def evaluated(self, network: Small) -> tuple[list[Tensor], list[LayerActivity]]:
        """What every layer gives, and counts."""
        with measured(network) as activities:
            network(self._input)
        return network.seen, [activity.per_sample() for activity in activities.values()]

    def fresh(self) -> Small:
        built = self._built()
        for name, precision in self._precisions.items():
            layer = searchable_layers(built)[name]
            layer.set_precision(precision, NEURON)
            layer.quantizers = searchable_layers(self.network)[name].quantizers
        built.load_state_dict(copy.deepcopy(self.network.state_dict()))
        return built

    def change(self) -> str:
        """Change something at random, and say what."""
        draw = self._random.choice
        what = draw(["precision", "quantizer", "all weights", "statistics in place", "weight", "another tensor"])
        name, layer = draw(list(searchable_layers(self.network).items()))
        if what == "precision":
            # One parameter at a time, or all of them.
            fields = {
                "weight_bits": draw([1, 2, 3, 4, 8, 32]),
                "membrane_levels": draw([0, 2, 3, 16]),
                "channel_mass": draw([0.5, 0.8, 0.95, 1.0]),
                "skip_below": draw([None, 0.0]),
            }
            kept = draw([list(fields), [draw(list(fields))]])
            self._take({name: replace(self._precisions[name], **{key: fields[key] for key in kept})})
        elif what == "quantizer":
            layer.quantizers = {} if layer.quantizers else {4: "sawb", 8: "mean", 3: "mean", 2: "ternary-mean"}
        elif what == "all weights":
            state = {key: values * draw([0.75, 1.25]) for key, values in self.network.state_dict().items()}
            self.network.load_state_dict(state)
        elif what == "statistics in place":
            norm = draw([one for one in self.network.modules() if isinstance(one, nn.BatchNorm2d)])
            getattr(norm, draw(["running_mean", "running_var"])).mul_(draw([0.5, 2.0]))
        elif what == "another tensor":
            norm = draw([one for one in self.network.modules() if isinstance(one, nn.BatchNorm2d)])
            norm.running_mean = torch.rand_like(norm.bias) - 0.5
        else:
            name, weight = draw(list(self.network.named_parameters()))
            weight.mul_(draw([-1.0, 0.5, 2.0]))
        return f"{what} of {name}"


def differences(
    found: tuple[list[Tensor], list[LayerActivity]], other: tuple[list[Tensor], list[LayerActivity]]
) -> int:
    """In how many layers two evaluations differ by a bit."""
    return sum(
        not torch.equal(one, two) or counted != recounted
        for one, two, counted, recounted in zip(found[0], other[0], found[1], other[1], strict=True)
    )


def test_whatever_changes_a_network_evaluates_as_a_fresh_one_does(plain_neurons: None) -> None:
    torch.manual_seed(0)
    subject, constants = Subject(seed=1), Constants(configurations=2)
    changes, before = 0, None
    with torch.no_grad():
        for number in range(CHANGES):
            what = subject.change()
            expected = subject.evaluated(subject.fresh())
            with constants_kept():  # an evaluation that begins
                assert differences(subject.evaluated(subject.network), expected) == 0, f"{number}: {what}"
            for mode in (torch.no_grad, torch.inference_mode):  # one that goes on, whatever changes in it
                with mode(), constants_kept(constants):
                    assert differences(subject.evaluated(subject.network), expected) == 0, f"{number}: {what}"
            changes += before is not None and differences(expected, before) > 0
            before = expected
    assert changes > CHANGES / 3, "what changes shows in what is compared"


def test_an_evaluation_makes_them_once_and_the_next_anew(monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    calls: list[str] = []
    for module in (convolution, readout):
        plain = module.quantize_weight

        def counting(*given: object, plain: Callable[..., object] = plain, **named: object) -> object:
            calls.append("a weight")
            return plain(*given, **named)

        monkeypatch.setattr(module, "quantize_weight", counting)
    split = replace(recordings(11), together=BatchSizes(evaluation=4))
    subject, layers = network(), 9
    assert accuracy(subject, split) == accuracy(subject, split)
    assert len(calls) == 2 * layers
