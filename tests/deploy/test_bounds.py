"""No number that is formed on the way leaves the type that was chosen for it, whatever the weights and frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deploy.agreement import assert_all_agree, exported
from deploy.networks import Choices, drawn_config, loaded, needs_compiler
from numpy.typing import NDArray
from torch import Tensor, nn

from spquant_search.deploy import reference
from spquant_search.deploy.c_source import c_source
from spquant_search.deploy.c_tables import TooLarge
from spquant_search.deploy.export import manifest_and_weights
from spquant_search.deploy.integer_form import integer_network
from spquant_search.deploy.reference import Model
from spquant_search.deploy.segments import NoIntegerForm
from spquant_search.snn.attention import SpikingSelfAttention
from spquant_search.snn.convolution import Convolution, Shortcut
from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.snn.quantize import quantize_weight
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes, global_average
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.shapes import InputShape


class Saturated(nn.Module):
    """Every kind of layer on a small map, for weights and offsets at their extremes."""

    def __init__(self, shape: InputShape) -> None:
        super().__init__()
        self.first = SpikingConv2d(shape.channels, 4, can_gate=False)
        self.second = SpikingConv2d(4, 4, pool="after")
        self.shortcut = Shortcut(shape.channels, 4, stride=2)
        self.third = SpikingConv2d(4, 4, groups=2)
        self.attention = SpikingSelfAttention(4, 2)
        self.last = SpikingConv2d(4, 6, kernel_size=1, norm=False, pool="before")
        self.readout = Readout(6, 1, shape.classes)

    def forward(self, spikes: Spikes) -> Tensor:
        first = self.first(spikes)
        second = self.second(first, first.current())
        third = self.third(second, self.shortcut(spikes))
        attended = self.attention(third, third, third)
        logits: Tensor = self.readout(global_average(self.last(attended)))
        return logits


def saturate(network: nn.Module, generator: np.random.Generator) -> None:
    """Give channels weights of one sign or of both, and offsets that cancel up to all of their current."""
    with torch.no_grad():
        for layer in searchable_layers(network).values():
            if isinstance(layer, Readout):
                layer.linear.weight.copy_(torch.ones_like(layer.linear.weight))
                layer.linear.bias.copy_(torch.from_numpy(generator.normal(0, 10, layer.linear.bias.shape)))
            if isinstance(layer, Convolution):
                _saturate_convolution(layer, generator)
            log_threshold = getattr(getattr(layer, "neuron", None), "log_threshold", None)
            if log_threshold is not None:
                log_threshold.fill_(generator.uniform(-3, 3))
            if getattr(layer, "gate", None) is not None:
                layer.gate.weight.normal_(0, 0.3)  # type: ignore[union-attr, operator]


def _saturate_convolution(layer: Convolution, generator: np.random.Generator) -> None:
    channels = layer.out_channels
    signs = torch.from_numpy(generator.choice([-1.0, 1.0, 0.0], channels)).float()
    mixed = torch.from_numpy(generator.choice([-1.0, 1.0], tuple(layer.weight.shape))).float()
    layer.weight.copy_(torch.where(signs[:, None, None, None] == 0, mixed, signs[:, None, None, None].expand_as(mixed)))
    slope = torch.from_numpy(10.0 ** generator.uniform(-3, 3, channels)).float()
    share = torch.from_numpy(generator.uniform(-2, 2, channels)).float()
    integers, scale = quantize_weight(layer.weight, layer.precision.weight_bits)
    most = (integers * scale).abs().sum(dim=(1, 2, 3)) * slope * 15
    if layer.norm is None:
        assert layer.bias is not None
        layer.bias.copy_(share * most / slope)
        return
    layer.norm.weight.copy_(slope)
    layer.norm.bias.copy_(share * most)


def a_saturated_network(seed: int) -> tuple[nn.Module, InputShape, NDArray[np.uint8]]:
    generator = np.random.default_rng(seed)
    torch.manual_seed(seed)
    shape = InputShape(channels=2, height=4, width=4, classes=3, largest=int(generator.choice([1, 15, 100, 255])))
    network = Saturated(shape)
    neurons = NeuronSpace(
        leak=(0.5, 0.9, 1.0, 1 / 4096)[seed // 4 % 4],
        reset=("zero", "subtract", "delayed-subtract")[seed % 3],  # type: ignore[arg-type]
        learn_threshold=seed % 2 == 1,
        spike_at_threshold=seed % 5 == 0,
    )
    choices = Choices() if neurons.form.returns_to_rest else Choices(skip=(None,))
    configure(network, drawn_config(network, generator, choices), neurons)
    saturate(network, generator)
    frames = np.zeros((3, 1 if seed % 4 == 3 else 3, 2, 4, 4), np.uint8)  # in one time step nothing is stored
    frames[0] = 255
    frames[1] = generator.integers(0, 2, frames[1].shape) * 255
    return network.eval(), shape, frames


class Watched:
    """Note the largest number that a run forms for a layer's potential, in the order in which C does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most: dict[str, int] = {}
        run = reference._Run
        affine, fire = run._affine, run._fire

        def watched_affine(self_: Any, step: dict[str, Any], sums: Any) -> Any:
            current = affine(self_, step, sums)
            self._note(step["name"], self_._array(step, "slope")[0] * sums, current)
            return current

        def watched_fire(self_: Any, step: dict[str, Any], current: Any) -> Any:
            neuron, name = step["neuron"], step["name"]
            gain, up = (1, 0) if neuron["gain"] is None else (neuron["gain"], reference.GAIN_BITS)
            self._note(name, current, current * gain)
            if neuron["levels"] is None:
                return fire(self_, step, current)
            to_step = step["fraction"] + up - neuron["step_bits"]
            code = self_.codes.get(name, np.zeros_like(current))
            leaked = code * neuron["leak"] << (to_step - neuron["leak_bits"])
            half = 1 << (to_step - 1)
            taken = current * gain
            self._note(name, leaked, leaked + taken, leaked + taken + half, leaked + half)
            if neuron["subtracts"] is not None:
                subtracted = neuron["subtracts"] << (step["fraction"] + up - neuron["subtracts_bits"])
                one = (1 << (step["fraction"] + up)) - neuron["spikes_at_threshold"]
                left = np.where(leaked + taken > one, leaked + taken - subtracted, 0)
                self._note(name, np.array(subtracted), left, left + half)
            return fire(self_, step, current)

        monkeypatch.setattr(run, "_affine", watched_affine)
        monkeypatch.setattr(run, "_fire", watched_fire)

    def _note(self, name: str, *values: Any) -> None:
        self.most[name] = max(self.most.get(name, 0), *(int(np.abs(value).max()) for value in values))


def test_potentials_and_all_on_the_way_to_them_stay_within_their_bits(
    plain_neurons: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    seen = 0
    for seed in range(30):
        watched.most.clear()
        network, shape, frames = a_saturated_network(seed)
        try:
            model = loaded(exported(network, shape, frames))
        except NoIntegerForm as error:
            assert "53 are exact" in str(error)  # noqa: PT017
            continue
        bits = {step["name"]: step["potential_bits"] for step in model.steps if "neuron" in step}
        for name, most in watched.most.items():
            if name in bits:
                seen += 1
                assert most.bit_length() < bits[name], f"{name} of seed {seed}"
    assert seen > 60


@needs_compiler
@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 60))])
def test_c_does_nothing_undefined_on_saturated_inputs(seed: int, tmp_path: Path, plain_neurons: None) -> None:
    network, shape, frames = a_saturated_network(seed)
    try:
        assert_all_agree(network, shape, frames, tmp_path)
    except NoIntegerForm as error:
        assert "53 are exact" in str(error)  # noqa: PT017


class OneNeuron(nn.Module):
    """One neuron that adds all channels of one pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.only = SpikingConv2d(channels, 1, kernel_size=1, norm=False, can_gate=False)
        self.readout = Readout(1, 1, 2)

    def forward(self, spikes: Spikes) -> Tensor:
        logits: Tensor = self.readout(self.only(spikes))
        return logits


def one_neuron(
    *, channels: int, weight: float, bias: float, largest: int
) -> tuple[nn.Module, InputShape, NDArray[np.uint8]]:
    """A neuron whose current is ``weight`` times the inputs plus ``bias``, on a grid of -2, -1 and 0."""
    network = OneNeuron(channels)
    layers = (
        ("only", LayerPrecision(weight_bits=8, membrane_levels=3)),
        ("readout", LayerPrecision(weight_bits=8, membrane_levels=None)),
    )
    configure(network, NetworkConfig(time_steps=3, layers=layers), NeuronSpace(lowest_level={3: -2}))
    with torch.no_grad():
        network.only.weight.fill_(weight)
        assert network.only.bias is not None
        network.only.bias.fill_(bias)
    shape = InputShape(channels=channels, height=1, width=1, classes=2, largest=largest)
    return network.eval(), shape, np.full((1, 2, channels, 1, 1), largest, np.uint8)


# Weights are 127 with a = 0.3 / 127, and the shift is 23: a is 19,815 and half a step 2^22.
AT_THE_LIMIT = {
    # A is 4 * 127 * 255 and a * A 2.57 * 10^9, from which d takes half: less than 2^31 is left, and at least -2^31.
    "a * A": {"channels": 4, "weight": 0.3, "bias": -153.0, "largest": 255},
    # The potential is 255.99 * 2^23, which is less than half a step below 2^31.
    "u + half": {"channels": 1, "weight": 0.3, "bias": 255.69, "largest": 1},
}


@needs_compiler
@pytest.mark.parametrize("what", AT_THE_LIMIT)
def test_what_alone_leaves_32_bits_on_the_way_takes_64(what: str, tmp_path: Path, plain_neurons: None) -> None:
    network, shape, frames = one_neuron(**AT_THE_LIMIT[what])  # type: ignore[arg-type]
    form = integer_network(network, shape, time_steps=2)
    assert form.steps[1]["shift"] == 23
    assert form.steps[1]["potential_bits"] == 33
    assert_all_agree(network, shape, frames, tmp_path)


def test_sums_of_codes_that_leave_32_bits_are_refused(plain_neurons: None) -> None:
    network, shape, _ = one_neuron(channels=1, weight=1.0, bias=0.0, largest=255)
    form, weights = manifest_and_weights(integer_network(network, shape, time_steps=2))
    (step,) = (step for step in form["network"]["steps"] if step["name"] == "only")
    step["largest"] = 2**31 // 254 + 1
    with pytest.raises(TooLarge, match=r"only: sums of codes of up to [\d,]+ leave the C engine's 32 bits"):
        c_source(Model.of(form, weights), weights)
    step["largest"] = 2**31 // 254
    c_source(Model.of(form, weights), weights)
