"""Spikformer's layers by hand, and its float outputs against the same network put together from SpikingJelly's."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from gradients import assert_every_parameter_has_a_gradient
from network_shapes import layer_shapes
from spikingjelly.activation_based import layer as jelly_layer
from spikingjelly.activation_based import neuron
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spquant_search.snn.attention import SpikingSelfAttention
from spquant_search.snn.layers import configure, measured, searchable_layers
from spquant_search.snn.networks.spikformer import SMALLEST_INPUT, Spikformer
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes, added
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.schema import ModelSpace, NeuronSpace
from spquant_search.space.shapes import InputShape, LayerShape

TIME, BATCH = 3, 2
OF_A_BLOCK = ("q", "k", "v", "attention", "proj", "mlp1", "mlp2")
NAMES = (
    *(f"patch{index}" for index in range(1, 5)),
    "position",
    *(f"b{block}{name}" for block in range(1, 5) for name in OF_A_BLOCK),
    "readout",
)


def shapes_of(width: float, shape: InputShape) -> dict[str, LayerShape]:
    """As a search finds them: on the meta device."""
    found = layer_shapes(ModelSpace(network="spikformer4-256", width=width), shape, source="test.yaml")
    return {layer.name: layer for layer in found}


def a_network(width: float = 1 / 16, *, seed: int = 0) -> Spikformer:
    """In evaluation, with batch norms that let about a third of the neurons spike."""
    torch.manual_seed(seed)
    network = Spikformer(in_channels=2, classes=3, width_factor=width).eval()
    with torch.no_grad():
        for layer in convolutions(network).values():
            assert layer.norm is not None
            assert layer.norm.running_mean is not None
            assert layer.norm.running_var is not None
            layer.norm.weight.uniform_(0.5, 1.5)
            layer.norm.bias.uniform_(0.3, 0.8)
            layer.norm.running_mean.uniform_(-0.1, 0.1)
            layer.norm.running_var.uniform_(0.05, 0.2)
            if layer.gate is not None:
                layer.gate.weight.normal_()
                layer.gate.bias.normal_(std=0.1)
    return network


def convolutions(network: nn.Module) -> dict[str, SpikingConv2d]:
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, SpikingConv2d)}


def frames(height: int, width: int, *, largest: int = 3) -> Spikes:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, largest + 1, (TIME * BATCH, 2, height, width), generator=generator).float()
    return Spikes(values=values, time_steps=TIME, largest=largest)


def precise(network: Spikformer, *, bits: int, levels: int, mass: float = 1.0, skip: float | None = None) -> None:
    def precision(layer: nn.Module) -> LayerPrecision:
        if isinstance(layer, Readout):
            return LayerPrecision(weight_bits=bits, membrane_levels=None)
        if isinstance(layer, SpikingSelfAttention):
            return LayerPrecision(membrane_levels=levels, skip_below=skip)
        gated = isinstance(layer, SpikingConv2d) and layer.gate is not None
        return LayerPrecision(
            weight_bits=bits, membrane_levels=levels, channel_mass=mass if gated else 1.0, skip_below=skip
        )

    layers = tuple((name, precision(layer)) for name, layer in searchable_layers(network).items())
    config = NetworkConfig(time_steps=2, layers=layers)
    configure(network, config, NeuronSpace())


# The table of layers


def test_the_papers_network_on_32x32_pixels_by_hand() -> None:
    shapes = shapes_of(1.0, InputShape(channels=3, height=32, width=32, classes=10))
    assert tuple(shapes) == NAMES
    found = [(one.in_channels, one.out_channels, one.kernel_area, one.positions) for one in shapes.values()]
    block = [*[(256, 256, 1, 64)] * 5, (256, 1024, 1, 64), (1024, 256, 1, 64)]
    patches = [(3, 32, 9, 1024), (32, 64, 9, 1024), (64, 128, 9, 1024), (128, 256, 9, 256), (256, 256, 9, 64)]
    assert found == [*patches, *block * 4, (256, 10, 1, 1)]
    # Neurons stand before the pooling by maximum.
    assert [one.neurons for one in shapes.values()] == [
        *(32 * 1024, 64 * 1024, 128 * 1024, 256 * 256, 256 * 64),
        *[*[256 * 64] * 5, 1024 * 64, 256 * 64] * 4,
        0,
    ]
    assert [one.kind for one in shapes.values()] == [
        *["convolution"] * 5,
        *[*["convolution"] * 3, "attention", *["convolution"] * 3] * 4,
        "readout",
    ]
    without_gate = {"patch1", "readout", *(f"b{block}attention" for block in range(1, 5))}
    assert {name for name, one in shapes.items() if not one.can_gate} == without_gate
    # 64 tokens and 32 channels a head: k^T v comes first, 32 products each for 256 channels at 64 tokens, twice.
    assert [one.weightless_macs for name, one in shapes.items() if "attention" in name] == [2 * 32 * 256 * 64] * 4


def test_the_papers_network_has_four_million_parameters() -> None:
    with torch.device("meta"):
        network = Spikformer(in_channels=3, classes=10, width_factor=1.0)
    counted = sum(one.numel() for name, one in network.named_parameters() if ".gate." not in name)
    patches = 9 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256 + 256 * 256)
    block = 4 * 256 * 256 + 2 * 256 * 1024
    norms = 2 * (32 + 64 + 128 + 256 + 256 + 4 * (4 * 256 + 1024 + 256))
    assert counted == patches + 4 * block + norms + 256 * 10 + 10
    assert counted == 4_145_962


@pytest.mark.parametrize(
    ("width", "channels", "heads"), [(1.0, 256, 8), (0.125, 32, 8), (12 / 256, 12, 4), (0.05, 13, 1)]
)
def test_heads_are_eight_where_the_channels_allow(width: float, channels: int, heads: int) -> None:
    with torch.device("meta"):
        network = Spikformer(in_channels=2, classes=3, width_factor=width)
    found = {(layer.channels, layer.heads) for layer in network.modules() if isinstance(layer, SpikingSelfAttention)}
    assert found == {(channels, heads)}


@pytest.mark.parametrize(("width", "height", "image_width"), [(1 / 16, 16, 16), (1 / 8, 8, 4), (1 / 20, 13, 18)])
def test_shapes_from_the_meta_device_are_what_a_real_network_does(
    width: float, height: int, image_width: int, plain_neurons: None
) -> None:
    shape = InputShape(channels=2, height=height, width=image_width, classes=3)
    shapes = shapes_of(width, shape)
    network = a_network(width)
    with measured(network) as activities, torch.inference_mode(), FlopCounterMode(display=False) as counter:
        logits = network(frames(height, image_width))
    assert logits.shape == (TIME, BATCH, 3)
    dense = {name: one.dense_macs for name, one in shapes.items()}
    for name, activity in activities.items():
        assert activity.total("neuron_steps") == TIME * BATCH * shapes[name].neurons, name
        assert activity.per_sample().effective_macs == TIME * dense[name], name
        assert 0 < activity.per_sample().synaptic_ops <= TIME * dense[name], name
    assert sum(dense.values()) * TIME * BATCH < counter.get_total_flops() / 2  # measuring convolves and multiplies too
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(frames(height, image_width))
    # torch also convolves an odd last row or column that is left out at once.
    if height % 4 == image_width % 4 == 0:
        assert sum(dense.values()) * TIME * BATCH == counter.get_total_flops() / 2
    else:
        assert sum(dense.values()) * TIME * BATCH < counter.get_total_flops() / 2


def test_the_smallest_input_has_one_token(plain_neurons: None) -> None:
    network = a_network()
    seen: list[torch.Size] = []
    network.get_submodule("b4mlp2").register_forward_hook(lambda _module, _inputs, out: seen.append(out.values.shape))
    assert network(frames(SMALLEST_INPUT, SMALLEST_INPUT)).shape == (TIME, BATCH, 3)
    assert seen == [(TIME * BATCH, 16, 1, 1)]


# Sums of spikes


def test_a_sum_is_open_where_either_part_is() -> None:
    first, second = torch.tensor([[True, True, False, False]]), torch.tensor([[True, False, True, False]])
    values = torch.ones(1, 4, 2, 2)
    one = Spikes(values=values * first[:, :, None, None], time_steps=1, open=first)
    other = Spikes(values=2 * values * second[:, :, None, None], time_steps=1, largest=2, open=second)
    total = added(one, other)
    assert total.open is not None
    assert total.open.tolist() == [[True, True, True, False]]
    assert total.values[0, :, 0, 0].tolist() == [3, 1, 2, 0]
    assert (total.time_steps, total.largest, total.divisor) == (1, 3, 1)
    ungated = Spikes(values=values, time_steps=1)
    assert added(one, ungated).open is None
    assert added(ungated, one).open is None


def test_averages_are_not_added() -> None:
    one = Spikes(values=torch.ones(2, 4, 2, 2), time_steps=2)
    for other in (
        Spikes(values=one.values, time_steps=2, largest=4, divisor=4),
        Spikes(values=one.values, time_steps=1),
    ):
        for pair in ((one, other), (other, one)):
            with pytest.raises(ValueError, match="only whole numbers of the same time steps can be added, or averages"):
                added(*pair)


def test_what_the_layers_pass_on_is_what_they_say_of_it(plain_neurons: None) -> None:
    """Whole numbers up to ``largest``, and nothing in closed channels, with gates and masks at work."""
    network = a_network()
    precise(network, bits=4, levels=5, mass=0.7, skip=0.0)
    largest: dict[str, int] = {}
    shares: dict[str, float] = {}

    def check(name: str, inputs: tuple[Spikes, ...]) -> None:
        for spikes in inputs:
            values = spikes.values
            assert torch.equal(values, values.round())
            assert 0 <= values.min() <= values.max() <= spikes.largest
            if spikes.open is not None:
                assert values[~spikes.open].abs().sum() == 0
                shares[name] = float(spikes.open.float().mean())
            largest[name] = spikes.largest

    for name, layer in searchable_layers(network).items():
        layer.register_forward_pre_hook(lambda _module, inputs, name=name: check(name, inputs))
    network(frames(12, 8))
    assert [largest[name] for name in ("patch1", "position", "b1q", "b1mlp1", "b1mlp2", "b4k")] == [3, 1, 2, 3, 1, 8]
    assert largest["readout"] == 10 * 6
    for name in ("b1proj", "b1attention", "b2mlp2", "b1mlp1"):
        assert shares[name] < 1.0, name
    assert shares["b4q"] >= shares["b1q"] > shares["position"]


# Against SpikingJelly


class JellyBlock(nn.Module):
    """Attention and MLP on [time, batch, tokens, channels], step by step as the paper writes them."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        sides = dict.fromkeys(("q", "k", "v", "proj"), (channels, channels))
        sides |= {"mlp1": (channels, 4 * channels), "mlp2": (4 * channels, channels)}
        self.heads = heads
        self.linear = nn.ModuleDict({name: nn.Linear(*side, bias=False) for name, side in sides.items()})
        self.norm = nn.ModuleDict({name: nn.BatchNorm1d(out) for name, (_, out) in sides.items()})
        self.neuron = nn.ModuleDict({name: a_lif() for name in sides})
        # Whole eighths that halve twice: no potential lies between 0.5, at which SpikingJelly fires, and this.
        self.attention = a_lif(threshold=0.5 + 2**-12)

    def spiking_linear(self, name: str, x: Tensor) -> Tensor:
        current = self.linear[name](x)
        current = self.norm[name](current.flatten(0, 1).transpose(1, 2)).transpose(1, 2).reshape(current.shape)
        spikes: Tensor = self.neuron[name](current)
        return spikes

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            self.spiking_linear(name, x).unflatten(3, (self.heads, -1)).transpose(2, 3) for name in ("q", "k", "v")
        )
        scores = (q @ k.transpose(-2, -1)) * 0.125
        x = x + self.spiking_linear("proj", self.attention((scores @ v).transpose(2, 3).flatten(3)))
        return x + self.spiking_linear("mlp2", self.spiking_linear("mlp1", x))


def a_lif(*, threshold: float = 1.0) -> nn.Module:
    made: nn.Module = neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=threshold, v_reset=0.0, step_mode="m")
    return made


class JellySpikformer(nn.Module):
    """[time, batch, 2, height, width] -> [batch, classes], the mean over time before the readout."""

    def __init__(self, channels: int, classes: int, heads: int) -> None:
        super().__init__()
        sides = [2, channels // 8, channels // 4, channels // 2, channels, channels]
        self.stages = nn.ModuleList(
            nn.Sequential(
                jelly_layer.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False, step_mode="m"),
                jelly_layer.BatchNorm2d(outputs, step_mode="m"),
                a_lif(),
                jelly_layer.MaxPool2d(2, step_mode="m") if index in (2, 3) else nn.Identity(),
            )
            for index, (inputs, outputs) in enumerate(pairwise(sides))
        )
        self.blocks = nn.ModuleList(JellyBlock(channels, heads) for _ in range(4))
        self.head = nn.Linear(channels, classes)

    def take(self, network: Spikformer) -> None:
        """The weights and batch-norm values of ``network``."""
        named = convolutions(network)
        for name, stage in zip(NAMES, self.stages, strict=False):
            stage[0].load_state_dict({"weight": named[name].weight})
            stage[1].load_state_dict(state_of_norm(named[name]))
        for index, block in enumerate(self.blocks, start=1):
            for name in block.linear:
                layer = named[f"b{index}{name}"]
                block.linear[name].load_state_dict({"weight": layer.weight[:, :, 0, 0]})
                block.norm[name].load_state_dict(state_of_norm(layer))
        self.head.load_state_dict(network.readout.linear.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages[:-1]:
            x = stage(x)
        x = x + self.stages[-1](x)
        x = x.flatten(3).transpose(2, 3)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x.mean(dim=(0, 2)))
        return logits


def state_of_norm(layer: SpikingConv2d) -> dict[str, Tensor]:
    assert layer.norm is not None
    return layer.norm.state_dict()


@pytest.mark.parametrize(("width", "height", "image_width"), [(1 / 8, 16, 20), (1 / 4, 8, 8)])
def test_float_outputs_are_those_of_spikingjelly(
    width: float, height: int, image_width: int, plain_neurons: None
) -> None:
    """Tokens outnumber a head's channels, 20 to 4, and the reverse, 4 to 8."""
    network, spikes = a_network(width), frames(height, image_width)
    jelly = JellySpikformer(round(256 * width), 3, 8).eval()
    jelly.take(network)
    with torch.inference_mode(), measured(network) as activities:
        found = network(spikes).mean(dim=0)
        expected = jelly(spikes.values.unflatten(0, (TIME, BATCH)))
    # Without spikes everywhere, or with all of them, this would compare little.
    for name, activity in activities.items():
        if name != "readout":
            assert 0.02 < activity.per_sample().density < 0.98, name
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-4)
    assert (found[0] - found[1]).abs().max() > 1e-2


# Training


def train_a_step(network: Spikformer, *, bf16: bool = False) -> Tensor:
    spikes = frames(16, 16)
    if bf16:
        values = spikes.values.to(torch.bfloat16, memory_format=torch.channels_last)
        spikes = Spikes(values=values, time_steps=TIME, largest=spikes.largest)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        logits = network.train()(spikes)
    loss = logits.square().mean()
    gates = [layer.gate_loss for layer in searchable_layers(network).values() if layer.gate_loss is not None]
    if gates:
        loss = loss + torch.stack(gates).mean()
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("quantized", [False, True])
def test_a_training_step_reaches_every_parameter(quantized: bool, bf16: bool, plain_neurons: None) -> None:
    network = a_network(1 / 8)
    if quantized:
        precise(network, bits=2, levels=3, mass=0.8, skip=0.0)
    before = train_a_step(network, bf16=bf16)
    assert_every_parameter_has_a_gradient(network, gates=quantized)
    torch.optim.SGD(network.parameters(), lr=0.01).step()
    after = train_a_step(network, bf16=bf16)
    assert before.isfinite()
    assert after.isfinite()
    assert after != before


def test_precision_changes_what_the_network_says(plain_neurons: None) -> None:
    network, spikes = a_network(), frames(8, 8)
    answers = [network(spikes)]
    for bits, levels, mass in ((1, 0, 1.0), (32, 3, 1.0), (32, 0, 0.5)):
        precise(network, bits=bits, levels=levels, mass=mass)
        answers.append(network(spikes))
    assert all(not torch.equal(answers[0], other) for other in answers[1:])
