"""VGG-9's layers, the same on the meta device as in earnest and as SpikingJelly's; the change of a configuration."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from network_shapes import layer_shapes
from spikingjelly.activation_based import layer as jelly_layer
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from spquant_search.errors import SpaceError
from spquant_search.snn.layers import configure, measured, searchable_layers
from spquant_search.snn.networks.catalog import NETWORKS, build
from spquant_search.snn.networks.vgg import VGG5, VGG9, Vgg, VggPlan
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes, spikes_from_frames
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.reading import read_space
from spquant_search.space.schema import ModelSpace, NeuronSpace
from spquant_search.space.shapes import InputShape, LayerShape
from spquant_search.training.network import load_weights, new_network, write_weights

NAMES = (*(f"conv{index}" for index in range(1, 9)), "readout")
CAMERA = InputShape(channels=2, height=34, width=34, classes=10)


def shapes_of(model: ModelSpace, shape: InputShape) -> tuple[LayerShape, ...]:
    return layer_shapes(model, shape, source="test.yaml")


def table(shapes: tuple[LayerShape, ...]) -> list[tuple[int, int, int, int]]:
    return [(shape.in_channels, shape.out_channels, shape.positions, shape.neurons) for shape in shapes]


def uniform(bits: int, levels: int, *, mass: float = 1.0, skip: float | None = None) -> NetworkConfig:
    layers = [
        (
            name,
            LayerPrecision(
                weight_bits=bits,
                membrane_levels=None if name == "readout" else levels,
                channel_mass=1.0 if name in ("conv1", "readout") else mass,
                skip_below=None if name == "readout" else skip,
            ),
        )
        for name in NAMES
    ]
    return NetworkConfig(time_steps=4, layers=tuple(layers))


# The table of layers


def test_vgg9_on_a_34x34_camera_by_hand() -> None:
    # 34 -> 17 -> 8 (the odd row is not computed) -> 4 -> 2; pooling comes before the neurons of conv2, 4, 6 and 8.
    shapes = shapes_of(ModelSpace(network="vgg9", width=0.125), CAMERA)
    assert table(shapes) == [
        (2, 8, 34 * 34, 8 * 34 * 34),
        (8, 16, 34 * 34, 16 * 17 * 17),
        (16, 32, 17 * 17, 32 * 17 * 17),
        (32, 32, 16 * 16, 32 * 8 * 8),
        (32, 64, 8 * 8, 64 * 8 * 8),
        (64, 64, 8 * 8, 64 * 4 * 4),
        (64, 64, 4 * 4, 64 * 4 * 4),
        (64, 64, 4 * 4, 64 * 2 * 2),
        (64 * 2 * 2, 10, 1, 0),
    ]
    assert tuple(shape.name for shape in shapes) == NAMES
    assert [shape.kernel_area for shape in shapes] == [9] * 8 + [1]
    assert [shape.kind for shape in shapes] == ["convolution"] * 8 + ["readout"]
    assert [shape.can_gate for shape in shapes] == [False, *[True] * 7, False]
    assert [shape.has_neurons for shape in shapes] == [True] * 8 + [False]


@pytest.mark.parametrize("pool", ["before", "after"])
def test_vgg5_on_a_small_grey_image_by_hand(pool: Any) -> None:
    # 20 x 17 -> 10 x 8 -> 5 x 4 -> 2 x 2; what no pooling takes in is not computed.
    image = InputShape(channels=1, height=20, width=17, classes=4, largest=255)
    shapes = shapes_of(ModelSpace(network="vgg5", width=0.25, pool=pool), image)
    neurons = {"before": (10 * 8, 10 * 8, 5 * 4, 2 * 2), "after": (20 * 16, 10 * 8, 10 * 8, 4 * 4)}[pool]
    assert table(shapes) == [
        (1, 16, 20 * 16, 16 * neurons[0]),
        (16, 32, 10 * 8, 32 * neurons[1]),
        (32, 32, 10 * 8, 32 * neurons[2]),
        (32, 64, 4 * 4, 64 * neurons[3]),
        (64 * 2 * 2, 4, 1, 0),
    ]
    assert [shape.name for shape in shapes] == ["conv1", "conv2", "conv3", "conv4", "readout"]
    assert [shape.weights for shape in shapes] == [144, 4_608, 9_216, 18_432, 1_024]
    assert [shape.can_gate for shape in shapes] == [False, True, True, True, False]
    assert sum(shape.dense_macs for shape in shapes) == 320 * 144 + 80 * (4_608 + 9_216) + 16 * 18_432 + 1_024


def test_pooling_after_the_neuron_keeps_four_times_the_neurons_of_the_pooled_layers() -> None:
    before = shapes_of(ModelSpace(network="vgg9", width=0.125), CAMERA)
    after = shapes_of(ModelSpace(network="vgg9", width=0.125, pool="after"), CAMERA)
    assert [shape.neurons for shape in after] == [
        8 * 34 * 34, 16 * 34 * 34, 32 * 17 * 17, 32 * 16 * 16, 64 * 8 * 8, 64 * 8 * 8, 64 * 4 * 4, 64 * 4 * 4, 0,
    ]  # fmt: skip
    assert [shape.dense_macs for shape in after] == [shape.dense_macs for shape in before]


def test_the_papers_vgg9() -> None:
    model = ModelSpace(network="vgg9", pool="after")
    shapes = shapes_of(model, InputShape(channels=3, height=48, width=48, classes=10))
    assert [shape.neurons for shape in shapes] == [147456, 294912, 147456, 147456, 73728, 73728, 18432, 18432, 0]
    assert sum(shape.neurons for shape in shapes) == 921_600
    assert sum(shape.weights for shape in shapes) == 9_263_808


@pytest.mark.parametrize("width", [1 / 64, 0.1, 0.3])
def test_channels_are_rounded_and_at_least_one(width: float) -> None:
    shapes = shapes_of(ModelSpace(network="vgg9", width=width / 2), CAMERA)
    expected = [max(1, round(full * width / 2)) for full in (64, 128, 256, 256, 512, 512, 512, 512)]
    assert [shape.out_channels for shape in shapes[:-1]] == expected


@pytest.mark.parametrize("pool", ["before", "after"])
def test_shapes_from_the_meta_device_are_those_of_a_real_network(pool: str, plain_neurons: None) -> None:
    model = ModelSpace(network="vgg9", width=1 / 16, pool="before" if pool == "before" else "after")
    shape = InputShape(channels=2, height=24, width=47, classes=4)
    network = build(model, shape, source="test.yaml").eval()
    seen: dict[str, LayerShape] = {}
    for name, layer in searchable_layers(network).items():
        layer.register_forward_pre_hook(
            lambda module, inputs, name=name: seen.update({name: module.shape(name, inputs[0])})
        )
    with measured(network) as activities, torch.inference_mode():
        logits = network(Spikes(values=torch.ones(2, 2, 24, 47), time_steps=2, largest=15))
    assert logits.shape == (2, 1, 4)
    assert tuple(seen.values()) == shapes_of(model, shape)
    for name, layer in searchable_layers(network).items():
        assert activities[name].total("neuron_steps") == 2 * seen[name].neurons
        weight = layer.linear.weight if isinstance(layer, Readout) else layer.weight
        assert weight.numel() == seen[name].weights


# Wrong requests


def test_an_unknown_network_is_named_with_the_known_ones() -> None:
    with pytest.raises(SpaceError) as error:
        build(ModelSpace(network="vgg_9"), CAMERA, source="my.yaml")
    assert str(error.value) == (
        "my.yaml: model.network: unknown network 'vgg_9'; did you mean 'vgg9'? "
        "Known: vgg9, vgg5, resnet19, resnet34, spikformer4-256, mobilenet; your own goes into model.build"
    )
    with pytest.raises(SpaceError) as error:
        build(ModelSpace(network="transformer"), CAMERA, source="my.yaml")
    assert str(error.value) == (
        "my.yaml: model.network: unknown network 'transformer'. "
        "Known: vgg9, vgg5, resnet19, resnet34, spikformer4-256, mobilenet; your own goes into model.build"
    )


@pytest.mark.parametrize(("height", "width"), [(15, 64), (64, 15)])
def test_an_input_that_would_be_pooled_away_is_refused(height: int, width: int) -> None:
    model = ModelSpace(network="vgg9")
    with pytest.raises(SpaceError) as error:
        shapes_of(model, InputShape(channels=2, height=height, width=width, classes=10))
    assert str(error.value) == (
        f"test.yaml: model.network: vgg9 takes 16x16 and up; got {height}x{width}. Take a larger data.size, or a "
        "network that fits (vgg5 takes 8x8 and up; resnet19 takes 4x4 and up; spikformer4-256 takes 4x4 and up; "
        "mobilenet takes 8x8 and up)"
    )


def test_a_smaller_input_than_any_network_takes_is_refused() -> None:
    with pytest.raises(SpaceError) as error:
        shapes_of(ModelSpace(network="vgg5"), InputShape(channels=1, height=3, width=3, classes=2))
    assert str(error.value).endswith(
        "vgg5 takes 8x8 and up; got 3x3. Take a larger data.size, or a network of your own (model.build)"
    )


def networks_on_the_page() -> dict[str, int]:
    page = (Path(__file__).parents[3] / "docs" / "search.md").read_text(encoding="utf-8")
    return {name: int(size) for name, size in re.findall(r"^\| `([\w-]+)` \|.*\| (\d+) x \2 \|", page, re.MULTILINE)}


def test_the_page_has_every_network_with_its_smallest_input() -> None:
    assert networks_on_the_page() == {name: network.smallest_input for name, network in NETWORKS.items()}


@pytest.mark.parametrize("pool", ["before", "after"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_smallest_input_is_taken_and_none_below(name: str, pool: Any, plain_neurons: None) -> None:
    model, least = ModelSpace(network=name, width=1 / 32, pool=pool), networks_on_the_page()[name]
    smallest = InputShape(channels=1, height=least, width=least, classes=3)
    values = torch.randint(0, 16, (2, 1, least, least), generator=torch.Generator().manual_seed(0)).float()
    with torch.inference_mode():
        logits = build(model, smallest, source="s").eval()(Spikes(values=values, time_steps=2, largest=15))
    assert logits.shape == (2, 1, 3)
    assert logits.isfinite().all()
    assert all(layer.positions >= 1 and layer.in_channels >= 1 for layer in shapes_of(model, smallest))
    assert shapes_of(model, InputShape(channels=1, height=least, width=least + 3, classes=3))
    for height, width in ((least - 1, least), (least, least - 1), (least - 1, 4 * least)):
        with pytest.raises(SpaceError, match=f"{name} takes {least}x{least} and up; got {height}x{width}"):
            shapes_of(model, InputShape(channels=1, height=height, width=width, classes=3))


def test_the_smallest_input_leaves_one_position() -> None:
    shapes = shapes_of(ModelSpace(network="vgg9"), InputShape(channels=2, height=16, width=16, classes=10))
    assert (shapes[-1].in_channels, shapes[-1].out_channels) == (512, 10)
    shapes = shapes_of(ModelSpace(network="vgg5"), InputShape(channels=1, height=8, width=8, classes=4))
    assert (shapes[-1].in_channels, shapes[-1].out_channels) == (256, 4)


# Configurations


def tiny_network(seed: int = 0) -> Vgg:
    torch.manual_seed(seed)
    return Vgg(VGG9, in_channels=2, height=16, width=16, classes=3, width_factor=1 / 16, pool="before")


def some_input() -> Spikes:
    values = torch.rand(6, 2, 16, 16, generator=torch.Generator().manual_seed(0)).mul(4).floor()
    return Spikes(values=values, time_steps=3, largest=15)


def identities(network: Vgg) -> dict[str, tuple[int, int]]:
    tensors: dict[str, Tensor] = dict(network.named_parameters()) | dict(network.named_buffers())
    return {name: (id(tensor), tensor.data_ptr()) for name, tensor in tensors.items()}


def test_a_configuration_reaches_every_layer() -> None:
    network = tiny_network()
    config = uniform(4, 5, mass=0.8, skip=-1.0)
    configure(network, config, NeuronSpace(leak=0.25, lowest_level={5: -2.0}))
    for name, layer in searchable_layers(network).items():
        assert layer.precision == config[name]
        if isinstance(layer, SpikingConv2d):
            now = layer.neuron.parameters_now
            found = [float(value) for value in (now.leak, now.lowest, now.highest, now.grid_step, now.skip_below)]
            assert found == [0.25, -2.0, 0.0, 0.5, -1.0]
            assert layer.is_gated == (name != "conv1")


def test_configurations_change_between_steps_without_rebuilding_anything(plain_neurons: None) -> None:
    network, spikes = tiny_network(), some_input()
    before = identities(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    configs = [uniform(32, 0), uniform(4, 16, mass=0.8, skip=0.0), uniform(1, 3), uniform(2, 5, mass=0.5)]
    for config in configs:
        configure(network.train(), config, NeuronSpace())
        optimizer.zero_grad(set_to_none=True)
        network(spikes).square().mean().backward()
        optimizer.step()
    assert identities(network) == before


def test_a_network_that_has_been_reconfigured_is_as_one_built_so(plain_neurons: None) -> None:
    spikes, wanted = some_input(), uniform(4, 16, mass=0.8)
    changed, fresh = tiny_network().eval(), tiny_network().eval()
    configure(changed, uniform(1, 3, skip=0.0), NeuronSpace(leak=0.125))
    changed(spikes)
    for network in (changed, fresh):
        configure(network, wanted, NeuronSpace())
    assert torch.equal(changed(spikes), fresh(spikes))
    assert list(fresh.state_dict()) == list(tiny_network().state_dict()), "the same weights fit any configuration"


def test_precision_changes_what_the_network_says(plain_neurons: None) -> None:
    """Guards the tests above: with equal answers for all configurations they would show nothing."""
    network, spikes = tiny_network().train(), some_input()
    answers = []
    for config in (uniform(32, 0), uniform(1, 0), uniform(32, 3), uniform(4, 16, mass=0.5)):
        configure(network, config, NeuronSpace())
        answers.append(network(spikes))
    assert all(not torch.equal(answers[0], other) for other in answers[1:])


# The same network of SpikingJelly's layers


def in_few_bits(network: Vgg) -> None:
    """Parameters with which fp32 rounds nothing; potentials are odd sums of 2^-14, and none meets the threshold."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name in network.names:
            ours = network.get_submodule(name)
            assert isinstance(ours, SpikingConv2d)
            assert ours.norm is not None
            ours.weight.copy_((torch.randn_like(ours.weight) * 48 * ours.weight[0].numel() ** -0.5).round() / 16)
            channels = ours.out_channels
            state = {
                "weight": torch.tensor([1.0, 2.0, -1.0, 2.0]).repeat(channels // 4),
                "bias": (torch.rand(channels) * 8).round() / 16 + 2.0**-14,
                "running_mean": (torch.randn(channels) * 4).round() / 8,
                "running_var": torch.full((channels,), 4.0),
            }
            ours.norm.load_state_dict(state, strict=False)
            ours.norm.eps = 0.0


def jelly_block(ours: SpikingConv2d) -> nn.Sequential:
    """Convolution, batch norm, average pooling before or after, and the neuron, in multi-step mode."""
    convolution = jelly_layer.Conv2d(ours.in_channels, ours.out_channels, 3, padding=1, bias=False, step_mode="m")
    convolution.weight = ours.weight
    norm = jelly_layer.BatchNorm2d(ours.out_channels, eps=0.0, step_mode="m")
    assert ours.norm is not None
    norm.load_state_dict(ours.norm.state_dict())
    node = neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=1.0, v_reset=0.0, step_mode="m")
    pooling = jelly_layer.AvgPool2d(2, step_mode="m")
    modules = {None: [node], "before": [pooling, node], "after": [node, pooling]}
    return nn.Sequential(convolution, norm, *modules[None if ours.pool is None else ours.pool.kind])  # type: ignore[index]


@pytest.mark.parametrize("plan", [VGG9, VGG5], ids=["vgg9", "vgg5"])
@pytest.mark.parametrize("pool", ["before", "after"])
def test_float_outputs_are_those_of_spikingjelly(pool: Any, plan: VggPlan, plain_neurons: None) -> None:
    network = Vgg(plan, in_channels=2, height=32, width=36, classes=5, width_factor=1 / 16, pool=pool).eval()
    in_few_bits(network)
    frames = torch.randint(0, 4, (6, 2, 32, 36), generator=torch.Generator().manual_seed(1)).float()
    seen: dict[str, Tensor] = {}
    for name, layer in searchable_layers(network).items():
        layer.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0].current()}))
    hidden = frames.unflatten(0, (3, 2))
    with torch.inference_mode():
        found = network(Spikes(values=frames, time_steps=3, largest=3))
        for name, following in pairwise([*network.names, "readout"]):
            ours = network.get_submodule(name)
            assert isinstance(ours, SpikingConv2d)
            hidden = jelly_block(ours).eval()(hidden)
            assert torch.equal(seen[following], hidden.flatten(0, 1)), name
            assert 0.02 < hidden.mean() < 0.98, f"{name} would show little"
        expected = network.readout.linear(hidden.flatten(2))
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-4)
    assert found.std() > 0.01


# Quantizers and thresholds of a whole network


def test_a_models_quantizers_reach_every_layer_at_their_bits() -> None:
    model = ModelSpace(network="vgg9", width=1 / 16, quantizer={2: "ternary-mean", 4: "sawb"})
    network = build(model, CAMERA, source="test.yaml")
    for bits, quantizer in ((2, "ternary-mean"), (4, "sawb"), (8, "statistics"), (32, "statistics")):
        configure(network, uniform(bits, 3), NeuronSpace())
        assert {layer.quantizer for layer in searchable_layers(network).values()} == {quantizer}


def test_thresholds_are_learned_by_all_neurons_and_none_is_there_without(plain_neurons: None) -> None:
    network, spikes, learning = tiny_network(), some_input(), NeuronSpace(learn_threshold=True)
    before = set(network.state_dict())
    configure(network.train(), uniform(4, 16, mass=0.8, skip=0.0), learning)
    assert sorted(set(network.state_dict()) - before) == [f"{name}.neuron.log_threshold" for name in NAMES[:-1]]
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    torch.nn.functional.cross_entropy(network(spikes).flatten(0, 1), torch.arange(6) % 3).backward()
    for name in NAMES[:-1]:
        slope = network.get_parameter(f"{name}.neuron.log_threshold").grad
        assert slope is not None
        assert slope.isfinite()
        assert slope != 0, name
    optimizer.step()
    configure(network.eval(), uniform(2, 3), learning)
    answer = network(spikes)
    fresh = tiny_network().eval()
    configure(fresh, uniform(2, 3), learning)
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(fresh(spikes), answer), "thresholds are among the weights"


def test_weights_with_thresholds_fit_a_new_network_of_their_space(tmp_path: Path, plain_neurons: None) -> None:
    file = read_space(Path(__file__).parents[3] / "spaces" / "tiny.yaml", ["neuron.learn_threshold=true"])
    image, device = InputShape(channels=2, height=16, width=16, classes=3), torch.device("cpu")
    network = new_network(file, image, seed=0, device=device)
    with torch.no_grad():
        for name in NAMES[:-1]:
            network.get_parameter(f"{name}.neuron.log_threshold").fill_(-0.7)
    write_weights(network, tmp_path / "weights.safetensors")
    other = new_network(file, image, seed=1, device=device)
    load_weights(other, tmp_path / "weights.safetensors")
    configure(other, uniform(4, 3), file.neuron)
    thresholds = {layer.neuron.threshold for layer in other.modules() if isinstance(layer, SpikingConv2d)}
    assert thresholds == {0.5}  # exp(-0.7) = 0.497
    plain = read_space(Path(__file__).parents[3] / "spaces" / "tiny.yaml")
    write_weights(new_network(plain, image, seed=2, device=device), tmp_path / "older.safetensors")
    load_weights(other, tmp_path / "older.safetensors")
    assert {layer.neuron.threshold for layer in other.modules() if isinstance(layer, SpikingConv2d)} == {1.0}


# The input


def test_frames_become_clamped_whole_numbers_with_time_first() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 21, (2, 3, 2, 4, 5), generator=generator, dtype=torch.uint8)
    frames[0, 0, 0, 0] = 255
    spikes = spikes_from_frames(frames, largest=15, dtype=torch.float32)
    assert spikes.values.shape == (6, 2, 4, 5)
    assert (spikes.time_steps, spikes.largest, spikes.divisor, spikes.open) == (3, 15, 1, None)
    for time in range(3):
        for sample in range(2):
            expected = [min(value, 15) for value in frames[sample, time].flatten().tolist()]
            assert spikes.values[time * 2 + sample].flatten().tolist() == expected
    in_bf16 = spikes_from_frames(frames, largest=15, dtype=torch.bfloat16)
    assert in_bf16.values.dtype == torch.bfloat16
    assert torch.equal(in_bf16.values.float(), spikes.values)
