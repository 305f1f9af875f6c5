"""All layers of a network: measured, and with the values that their precision allows."""

from __future__ import annotations

import itertools

import torch
from layers_by_loops import NEURON, precise

from spquant_search.snn.layers import measured
from spquant_search.snn.networks.vgg import VGG9, Vgg
from spquant_search.snn.neuron.rule import THRESHOLD
from spquant_search.snn.quantize import highest_integer, quantize_membrane, quantize_weight
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.grid import membrane_grid


def test_layers_measure_within_the_context_only(plain_neurons: None) -> None:
    network = Vgg(VGG9, in_channels=1, height=16, width=16, classes=2, width_factor=1 / 64, pool="before").eval()
    spikes = Spikes(values=torch.ones(2, 1, 16, 16), time_steps=2)
    with measured(network) as activities:
        network(spikes)
    counted = [activity.samples for activity in activities.values()]
    assert counted == [1] * 9
    network(spikes)
    assert [activity.samples for activity in activities.values()] == counted
    assert all(layer.activity is None for layer in network.modules() if isinstance(layer, SpikingConv2d | Readout))


def test_a_trained_network_stores_only_values_that_its_bits_allow(plain_neurons: None) -> None:
    torch.manual_seed(0)
    network = Vgg(VGG9, in_channels=2, height=16, width=16, classes=3, width_factor=1 / 8, pool="before")
    convolutions = [layer for layer in network.modules() if isinstance(layer, SpikingConv2d)]
    levels_and_bits = list(itertools.islice(itertools.cycle([(3, 1), (5, 2), (16, 4), (4, 3)]), len(convolutions)))
    for layer, (levels, bits) in zip(convolutions, levels_and_bits, strict=True):
        precise(layer, bits, levels)
        layer.norm.momentum = 1.0  # three steps are too few for a running mean
    network.readout.set_precision(LayerPrecision(weight_bits=2, membrane_levels=None), NEURON)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    spikes = Spikes(values=torch.rand(4, 2, 16, 16).mul(3).floor(), time_steps=2, largest=2)
    for _ in range(3):
        optimizer.zero_grad()
        network(spikes).square().mean().backward()
        optimizer.step()

    inputs: list[Spikes] = []
    for layer in convolutions:
        layer.register_forward_pre_hook(lambda _module, arguments: inputs.append(arguments[0]))
    network.eval()(spikes)
    for layer, (levels, bits), seen_by in zip(convolutions, levels_and_bits, inputs, strict=True):
        now = layer.neuron.parameters_now
        current = layer.evaluation_current(seen_by).detach().contiguous()
        _, seen = layer.neuron(current.view(seen_by.time_steps, -1))
        reset = torch.where(seen > THRESHOLD, 0.0, seen)
        stored = quantize_membrane(reset, now.lowest, now.highest, now.grid_step).unique().tolist()
        assert set(stored) <= set(membrane_grid(levels).values)
        assert len(stored) > 1
        integers, scale = quantize_weight(layer.weight, bits)
        for channel in integers * scale:
            assert len(channel.unique()) <= (2 if bits == 1 else 2 * highest_integer(bits) + 1)
    integers, scale = quantize_weight(network.readout.linear.weight, 2, per_tensor=True)
    assert len((integers * scale).unique()) == 3
