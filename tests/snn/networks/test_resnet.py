"""ResNet-19 and ResNet-34: their published sizes, and the same network put together from SpikingJelly's layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gradients import assert_every_parameter_has_a_gradient, backward_of_a_step
from spikingjelly.activation_based import layer as jelly_layer
from spikingjelly.activation_based import neuron
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.layers import measured, searchable_layers
from spquant_search.snn.networks.resnet import RESNET19, RESNET34, SpikingResNet, build_resnet19, build_resnet34
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.schema import ModelSpace, NeuronSpace
from spquant_search.space.shapes import InputShape, LayerShape

CIFAR = InputShape(channels=3, height=32, width=32, classes=10)
IMAGENET100 = InputShape(channels=3, height=224, width=224, classes=100)
TIME, BATCH = 2, 2
both = pytest.mark.parametrize(
    ("build", "image"), [(build_resnet19, CIFAR), (build_resnet34, IMAGENET100)], ids=["resnet19", "resnet34"]
)


def model(width: float = 1.0) -> ModelSpace:
    return ModelSpace(network="resnet", width=width, pool="after")


def layer_table(network: SpikingResNet, image: InputShape) -> tuple[list[LayerShape], int]:
    """The layers' shapes in the order of their calls, and torch's count of FLOPs, on the meta device."""
    shapes: list[LayerShape] = []
    network = network.to("meta").eval()
    for name, layer in searchable_layers(network).items():
        layer.register_forward_pre_hook(lambda module, inputs, name=name: shapes.append(module.shape(name, inputs[0])))
    frame = torch.empty(1, image.channels, image.height, image.width, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(Spikes(values=frame, time_steps=1))
    return shapes, counter.get_total_flops()


def meta(build: Any, image: InputShape, width: float = 1.0) -> SpikingResNet:
    with torch.device("meta"):
        network: SpikingResNet = build(model(width), image)
    return network


def parameters_without_gates(network: nn.Module) -> int:
    return sum(parameter.numel() for name, parameter in network.named_parameters() if ".gate." not in name)


# Sizes


def test_resnet19_has_the_published_parameters_neurons_and_macs() -> None:
    network = meta(build_resnet19, CIFAR)
    assert parameters_without_gates(network) == 12_697_994
    shapes, _ = layer_table(network, CIFAR)
    neurons = {shape.name: shape.neurons for shape in shapes}
    assert neurons.pop("fc") == 256
    # The stem and 6 convolutions at 32x32, 6 at 16x16, 4 at 8x8: 5.5 MiB in fp32, as SpQuant-SNN's table has it.
    assert sum(neurons.values()) == 7 * 128 * 32**2 + 6 * 256 * 16**2 + 4 * 512 * 8**2 == 1_441_792
    connected = 512 * 256 + 256 * 10
    assert sum(shape.dense_macs for shape in shapes) == 2_285_240_320 + connected


def test_resnet34_has_the_parameters_of_the_original_but_for_its_classes() -> None:
    # torchvision's resnet34 has 21,797,672 with 1000 classes and 512 * 900 + 900 fewer with 100.
    network = meta(build_resnet34, IMAGENET100)
    assert parameters_without_gates(network) == 21_797_672 - 513 * 900
    shapes, _ = layer_table(network, IMAGENET100)
    # 3.66 GMACs of torchvision's table with 1000 classes.
    assert sum(shape.dense_macs for shape in shapes) + 512 * 900 == 3_663_761_408
    by_name = {shape.name: shape for shape in shapes}
    assert (by_name["stem"].positions, by_name["stem"].kernel_area) == (112**2, 49)
    assert [by_name[f"s{stage}b1conv2"].positions for stage in (1, 2, 3, 4)] == [56**2, 28**2, 14**2, 7**2]


@both
@pytest.mark.parametrize("width", [0.125, 1.0])
def test_dense_macs_are_half_of_the_flops_that_torch_counts(build: Any, image: InputShape, width: float) -> None:
    shapes, flops = layer_table(meta(build, image, width), image)
    assert 2 * sum(shape.dense_macs for shape in shapes) == flops


def test_layers_are_named_by_their_place_and_called_in_the_order_of_their_definition() -> None:
    network = meta(build_resnet19, CIFAR)
    shapes, _ = layer_table(network, CIFAR)
    names = [shape.name for shape in shapes]
    assert names == list(searchable_layers(network))
    assert names == [
        "stem",
        *("s1b1conv1", "s1b1conv2", "s1b2conv1", "s1b2conv2", "s1b3conv1", "s1b3conv2"),
        *("s2b1shortcut", "s2b1conv1", "s2b1conv2", "s2b2conv1", "s2b2conv2", "s2b3conv1", "s2b3conv2"),
        *("s3b1shortcut", "s3b1conv1", "s3b1conv2", "s3b2conv1", "s3b2conv2"),
        "fc",
        "readout",
    ]
    assert [shape.name for shape in shapes if shape.kind == "shortcut"] == ["s2b1shortcut", "s3b1shortcut"]
    gated = {shape.name for shape in shapes if shape.can_gate}
    assert gated == {name for name in names if "conv" in name}


@pytest.mark.parametrize(("build", "plan"), [(build_resnet19, RESNET19), (build_resnet34, RESNET34)])
@pytest.mark.parametrize("pool", ["before", "after"])
def test_the_smallest_input_leaves_a_pixel(build: Any, plan: Any, pool: Any) -> None:
    size = plan.smallest_input
    image = InputShape(channels=2, height=size, width=size, classes=3)
    with torch.device("meta"):
        network = build(ModelSpace(network="resnet", width=1 / 64, pool=pool), image)
    shapes, _ = layer_table(network, image)
    assert [shape.positions for shape in shapes if shape.name.startswith(f"s{len(plan.planes)}")][-1] == 1


# Values


def small(seed: int = 0) -> SpikingResNet:
    torch.manual_seed(seed)
    return build_resnet19(model(1 / 16), InputShape(channels=2, height=8, width=8, classes=5))


def some_input(largest: int = 3) -> Spikes:
    values = torch.randint(0, largest + 1, (TIME * BATCH, 2, 8, 8), generator=torch.Generator().manual_seed(1)).float()
    return Spikes(values=values, time_steps=TIME, largest=largest)


def make_exact(network: SpikingResNet) -> None:
    """Give it parameters in few bits, with which fp32 rounds nothing and no potential meets the threshold of 1.

    Every current is a multiple of 2^-10 and an odd sum of a few 2^-14: two libraries agree in every spike.
    """
    with torch.no_grad():
        for name, module in network.named_modules():
            if not isinstance(module, SpikingConv2d | Shortcut):
                continue
            fan_in = module.weight[0].numel()
            gain = 6.0 if name == "fc" else 2.0
            module.weight.copy_((torch.randn_like(module.weight) * gain * fan_in**-0.5 * 16).round() / 16)
            offset = (torch.rand(module.out_channels) * 8).round() / 16 + 2.0**-14
            if module.norm is None:
                assert module.bias is not None
                module.bias.copy_(offset)
                continue
            assert module.norm.running_mean is not None
            assert module.norm.running_var is not None
            module.norm.eps = 0.0
            module.norm.running_var.fill_(4.0)
            module.norm.running_mean.copy_((torch.randn(module.out_channels) * 4).round() / 8)
            module.norm.weight.copy_(torch.tensor([0.5, 1.0, -1.0, 2.0]).repeat(len(offset))[: len(offset)])
            module.norm.bias.copy_(offset)


class Peer:
    """The same network by SpikingJelly's layers, in its multi-step mode: [time, batch, channels, height, width]."""

    def __init__(self, network: SpikingResNet) -> None:
        self.layers = searchable_layers(network)
        self.spikes: dict[str, Tensor] = {}

    def current(self, name: str, values: Tensor) -> Tensor:
        ours = self.layers[name]
        assert isinstance(ours, SpikingConv2d | Shortcut)
        weight = ours.weight
        convolution = jelly_layer.Conv2d(
            weight.shape[1],
            weight.shape[0],
            weight.shape[2],
            stride=ours.kernel.strides,
            padding=weight.shape[2] // 2,
            bias=ours.bias is not None,
            step_mode="m",
        )
        convolution.weight = weight
        if ours.norm is None:
            assert ours.bias is not None
            convolution.bias = ours.bias
            return convolution(values)  # type: ignore[no-any-return]
        norm = jelly_layer.BatchNorm2d(weight.shape[0], eps=ours.norm.eps, step_mode="m").eval()
        norm.load_state_dict(ours.norm.state_dict())
        return norm(convolution(values))  # type: ignore[no-any-return]

    def fire(self, name: str, current: Tensor) -> Tensor:
        node = neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=1.0, v_reset=0.0, step_mode="m")
        self.spikes[name] = node(current)
        return self.spikes[name]

    def __call__(self, frames: Tensor) -> Tensor:
        hidden = self.fire("stem", self.current("stem", frames))
        for block in ("s1b1", "s1b2", "s1b3", "s2b1", "s2b2", "s2b3", "s3b1", "s3b2"):
            shortcut = f"{block}shortcut"
            residual = self.current(shortcut, hidden) if shortcut in self.layers else hidden
            inner = self.fire(f"{block}conv1", self.current(f"{block}conv1", hidden))
            hidden = self.fire(f"{block}conv2", self.current(f"{block}conv2", inner) + residual)
        hidden = self.fire("fc", self.current("fc", hidden.mean(dim=(3, 4), keepdim=True)))
        readout = self.layers["readout"]
        assert isinstance(readout, Readout)
        return readout.linear(hidden.flatten(2))  # type: ignore[no-any-return]


def test_resnet19_is_what_spikingjelly_makes_of_the_same_weights(plain_neurons: None) -> None:
    network, spikes = small().eval(), some_input()
    make_exact(network)
    ours: dict[str, Tensor] = {}
    for name, layer in searchable_layers(network).items():
        if isinstance(layer, SpikingConv2d):
            layer.register_forward_hook(lambda _module, _inputs, out, name=name: ours.update({name: out.values}))
    peer = Peer(network)
    with torch.no_grad():
        expected = peer(spikes.values.view(TIME, BATCH, 2, 8, 8))
        found = network(spikes)
    assert list(ours) == list(peer.spikes)
    for name, values in peer.spikes.items():
        assert torch.equal(ours[name], values.flatten(0, 1)), name
        assert 0.02 < values.mean() < 0.98, f"{name} would show little"
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-4)
    assert found.std() > 0.01


def configured(network: SpikingResNet, bits: int, levels: int, *, mass: float, skip: float | None) -> SpikingResNet:
    for layer in searchable_layers(network).values():
        has_membrane = isinstance(layer, SpikingConv2d)
        gate = mass if isinstance(layer, SpikingConv2d) and layer.gate is not None else 1.0
        precision = LayerPrecision(
            weight_bits=bits,
            membrane_levels=levels if has_membrane else None,
            channel_mass=gate,
            skip_below=skip if has_membrane else None,
        )
        layer.set_precision(precision, NeuronSpace())
    return network


@pytest.mark.parametrize(("bits", "levels", "mass", "skip"), [(32, 0, 1.0, None), (4, 3, 0.8, 0.0), (1, 5, 0.9, -1.0)])
@pytest.mark.parametrize("build", [build_resnet19, build_resnet34])
def test_a_training_step_reaches_every_parameter(
    build: Any, bits: int, levels: int, mass: float, skip: float | None, plain_neurons: None
) -> None:
    torch.manual_seed(0)
    network = build(model(1 / 16), InputShape(channels=2, height=32, width=32, classes=5))
    configured(network, bits, levels, mass=mass, skip=skip).train()
    values = torch.rand(4, 2, 32, 32).mul(4).floor()
    logits = network(Spikes(values=values, time_steps=2, largest=3))
    gated = 0 if mass == 1.0 else sum("conv" in name for name in searchable_layers(network))
    assert backward_of_a_step(network, logits) == gated
    assert_every_parameter_has_a_gradient(network, gates=mass < 1.0)
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    with measured(network.eval()) as activities, torch.no_grad():
        assert network(Spikes(values=values, time_steps=2, largest=3)).isfinite().all()
    assert all(activity.samples == 2 for activity in activities.values())


def test_without_gates_and_masks_all_macs_are_effective(plain_neurons: None) -> None:
    network, spikes = small().eval(), some_input()
    seen: dict[str, LayerShape] = {}
    for name, layer in searchable_layers(network).items():
        layer.register_forward_pre_hook(
            lambda module, inputs, name=name: seen.update({name: module.shape(name, inputs[0])})
        )
    with measured(network) as activities, torch.no_grad():
        network(spikes)
    for name, activity in activities.items():
        found = activity.per_sample()
        assert found.effective_macs == seen[name].dense_macs * TIME, name
        assert found.synaptic_ops < found.effective_macs, name
        assert activity.total("neuron_steps") == seen[name].neurons * TIME * BATCH, name


def test_gates_and_masks_make_fewer_macs_effective_in_the_blocks(plain_neurons: None) -> None:
    network, spikes = small().eval(), some_input()
    make_exact(network)
    with torch.no_grad():
        for layer in searchable_layers(network).values():
            if isinstance(layer, SpikingConv2d) and layer.gate is not None:
                layer.gate.weight.normal_()
                layer.gate.bias.zero_()
    found: dict[str, dict[str, float]] = {}
    for title, mass, skip in (("open", 1.0, None), ("gated", 0.8, None), ("masked", 1.0, 0.0)):
        configured(network, 4, 3, mass=mass, skip=skip)
        with measured(network) as activities, torch.no_grad():
            network(spikes)
        found[title] = {name: activity.per_sample().effective_macs for name, activity in activities.items()}
    assert sum(found["gated"].values()) < 0.9 * sum(found["open"].values())
    assert sum(found["masked"].values()) < sum(found["open"].values())
    # What a block hands on passes its gates by the shortcut, so that all of it counts as input.
    for name in ("s2b1shortcut", "s3b1shortcut", "fc", "readout"):
        assert found["gated"][name] == found["open"][name], name
