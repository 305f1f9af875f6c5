"""The depthwise separable network: its table of layers, its operations, and that all of it learns."""

from __future__ import annotations

import pytest
import torch
from gradients import assert_every_parameter_has_a_gradient, backward_of_a_step
from spikingjelly.activation_based import layer as jelly_layer
from spikingjelly.activation_based import neuron
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from spquant_search.snn.layers import measured, searchable_layers
from spquant_search.snn.networks.mobilenet import LARGE_INPUT, SMALLEST_INPUT, MobileNet, build_mobilenet
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.schema import ModelSpace, NeuronSpace
from spquant_search.space.shapes import InputShape, LayerShape

CAMERA = InputShape(channels=2, height=48, width=48, classes=10)
NAMES = ["stem", *(f"{half}{index}" for index in range(1, 8) for half in ("dw", "pw")), "readout"]


def built(image: InputShape, width: float = 1.0) -> MobileNet:
    return build_mobilenet(ModelSpace(network="mobilenet", width=width), image)


def square(side: int) -> InputShape:
    return InputShape(channels=2, height=side, width=side, classes=10)


def layer_table(image: InputShape, width: float = 1.0) -> tuple[list[LayerShape], int]:
    """The layers' shapes in the order of their calls, and torch's count of FLOPs, on the meta device."""
    shapes: list[LayerShape] = []
    with torch.device("meta"):
        network = built(image, width).eval()
        frame = torch.empty(1, image.channels, image.height, image.width)
    for name, layer in searchable_layers(network).items():
        layer.register_forward_pre_hook(lambda module, inputs, name=name: shapes.append(module.shape(name, inputs[0])))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(Spikes(values=frame, time_steps=1))
    return shapes, counter.get_total_flops()


def test_the_table_of_layers_by_hand() -> None:
    shapes, _ = layer_table(CAMERA)
    assert [shape.name for shape in shapes] == NAMES
    pairs = [(32, 64, 48), (64, 128, 24), (128, 128, 24), (128, 256, 12), (256, 256, 12), (256, 512, 6), (512, 512, 6)]
    expected = [(2, 32, 1, 9, 48 * 48)]
    for inputs, outputs, side in pairs:
        expected += [(inputs, inputs, inputs, 9, side**2), (inputs, outputs, 1, 1, side**2)]
    expected += [(512, 10, 1, 1, 1)]
    assert expected == [
        (shape.in_channels, shape.out_channels, shape.groups, shape.kernel_area, shape.positions) for shape in shapes
    ]
    assert [shape.neurons for shape in shapes] == [shape.out_channels * shape.positions for shape in shapes[:-1]] + [0]
    assert {shape.name for shape in shapes if shape.can_gate} == {name for name in NAMES if name.startswith("pw")}


def test_parameters_by_hand() -> None:
    parameters = [parameter for name, parameter in built(CAMERA).named_parameters() if ".gate." not in name]
    depthwise = 9 * (32 + 64 + 128 + 128 + 256 + 256 + 512)
    pointwise = 32 * 64 + 64 * 128 + 128 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 512 * 512
    norms = 2 * (32 + 32 + 64 + 64 + 128 + 128 + 128 + 128 + 256 + 256 + 256 + 256 + 512 + 512 + 512)
    assert sum(parameter.numel() for parameter in parameters) == 2 * 32 * 9 + depthwise + pointwise + norms + 5130


@pytest.mark.parametrize("width", [0.125, 1.0])
@pytest.mark.parametrize("side", [33, 48, 128])
def test_dense_macs_are_half_of_the_flops_that_torch_counts(side: int, width: float) -> None:
    shapes, flops = layer_table(square(side), width)
    assert 2 * sum(shape.dense_macs for shape in shapes) == flops


def test_the_stem_halves_large_inputs() -> None:
    for side, positions in ((LARGE_INPUT - 1, (LARGE_INPUT - 1) ** 2), (LARGE_INPUT, (LARGE_INPUT // 2) ** 2)):
        shapes, _ = layer_table(square(side), 0.125)
        assert shapes[0].positions == positions


def test_the_smallest_input_leaves_a_pixel() -> None:
    shapes, _ = layer_table(square(SMALLEST_INPUT), 0.125)
    assert shapes[-2].positions == 1


def small(seed: int = 0) -> MobileNet:
    torch.manual_seed(seed)
    return built(InputShape(channels=2, height=16, width=16, classes=5), 1 / 8)


def some_input() -> Spikes:
    values = torch.rand(6, 2, 16, 16, generator=torch.Generator().manual_seed(0)).mul(4).floor()
    return Spikes(values=values, time_steps=2, largest=3)


def configured(network: MobileNet, bits: int, levels: int, *, mass: float, skip: float | None) -> MobileNet:
    for layer in searchable_layers(network).values():
        gated = isinstance(layer, SpikingConv2d) and layer.gate is not None
        precision = LayerPrecision(
            weight_bits=bits,
            membrane_levels=levels if isinstance(layer, SpikingConv2d) else None,
            channel_mass=mass if gated else 1.0,
            skip_below=skip if isinstance(layer, SpikingConv2d) else None,
        )
        layer.set_precision(precision, NeuronSpace())
    return network


def make_exact(network: MobileNet) -> None:
    """Give it parameters in few bits, with which fp32 rounds nothing and no potential meets the threshold of 1."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, SpikingConv2d):
                assert module.norm is not None
                assert module.norm.running_mean is not None
                assert module.norm.running_var is not None
                fan_in = module.weight[0].numel()
                module.weight.copy_((torch.randn_like(module.weight) * 2 * fan_in**-0.5 * 16).round() / 16)
                module.norm.eps = 0.0
                module.norm.running_var.fill_(4.0)
                module.norm.running_mean.copy_((torch.randn(module.out_channels) * 4).round() / 8)
                module.norm.weight.copy_(torch.tensor([1.0, 2.0, -1.0, 2.0]).repeat(module.out_channels // 4))
                module.norm.bias.copy_((torch.rand(module.out_channels) * 8).round() / 16 + 2.0**-14)


def test_it_is_what_spikingjelly_makes_of_the_same_weights(plain_neurons: None) -> None:
    network, spikes = small().eval(), some_input()
    make_exact(network)
    ours: dict[str, Tensor] = {}
    for name, one in searchable_layers(network).items():
        if isinstance(one, SpikingConv2d):
            one.register_forward_hook(lambda _module, _inputs, out, name=name: ours.update({name: out.values}))
    with torch.no_grad():
        found = network(spikes)
        hidden = spikes.values.view(2, 3, 2, 16, 16)
        for name in NAMES[:-1]:
            stride = 2 if name in ("dw2", "dw4", "dw6") else 1
            weight, norm = network.get_parameter(f"{name}.weight"), network.get_submodule(f"{name}.norm")
            groups = len(weight) if name.startswith("dw") else 1
            reach = weight.shape[2] // 2
            channels = weight.shape[1] * groups, len(weight)
            convolution = jelly_layer.Conv2d(
                *channels, weight.shape[2], stride=stride, padding=reach, groups=groups, bias=False, step_mode="m"
            )
            convolution.weight = weight
            normed = jelly_layer.BatchNorm2d(len(weight), eps=0.0, step_mode="m").eval()
            normed.load_state_dict(norm.state_dict())
            node = neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=1.0, v_reset=0.0, step_mode="m")
            hidden = node(normed(convolution(hidden)))
            assert torch.equal(ours[name], hidden.flatten(0, 1)), name
            assert 0.02 < hidden.mean() < 0.98, f"{name} would show little"
        expected = network.readout.linear(hidden.mean(dim=(3, 4)))
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize(("bits", "levels", "mass", "skip"), [(32, 0, 1.0, None), (4, 3, 0.8, 0.0), (1, 5, 0.9, -1.0)])
def test_a_training_step_reaches_every_parameter(
    bits: int, levels: int, mass: float, skip: float | None, plain_neurons: None
) -> None:
    network = configured(small(), bits, levels, mass=mass, skip=skip).train()
    logits = network(some_input())
    assert backward_of_a_step(network, logits) == (0 if mass == 1.0 else 7)
    assert_every_parameter_has_a_gradient(network, gates=mass < 1.0)
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    with torch.no_grad():
        assert network.eval()(some_input()).isfinite().all()


def test_macs_are_effective_where_gates_are_open(plain_neurons: None) -> None:
    network, spikes = small().eval(), some_input()
    make_exact(network)
    seen: dict[str, LayerShape] = {}
    for name, layer in searchable_layers(network).items():
        layer.register_forward_pre_hook(
            lambda module, inputs, name=name: seen.update({name: module.shape(name, inputs[0])})
        )
    for mass in (1.0, 0.8):
        configured(network, 4, 3, mass=mass, skip=None)
        with torch.no_grad():
            for layer in searchable_layers(network).values():
                if mass < 1.0 and isinstance(layer, SpikingConv2d) and layer.gate is not None:
                    layer.gate.weight.zero_()
                    # Half of the channels are closed, whatever comes in.
                    layer.gate.bias.copy_(torch.tensor([1.0, -1.0]).repeat(layer.out_channels // 2))
        with measured(network) as activities, torch.no_grad():
            network(spikes)
        for name, activity in activities.items():
            dense, found = 2 * seen[name].dense_macs, activity.per_sample().effective_macs
            if mass == 1.0 or name in ("stem", "dw1"):
                assert found == dense, name
            elif name.startswith("pw"):
                assert found == dense / 2 + 2 * seen[name].in_channels * seen[name].out_channels, name
            else:
                assert found == dense / 2, name  # half of its input channels, each seen by one output or by all
