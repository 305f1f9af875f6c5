"""The supernet: what is drawn for its steps, what it is taught, and what a subnet leaves behind."""

from __future__ import annotations

import copy
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spquant_search.runs.random_streams import Purpose, derived_seed
from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.snn.networks.catalog import build
from spquant_search.space.configuration import OFF, NetworkConfig
from spquant_search.training import supernet as shared
from spquant_search.training.device_memory import BatchSizes
from spquant_search.training.distillation import FloatTeacher
from spquant_search.training.evaluation import accuracy, evaluate
from spquant_search.training.loader import DeviceSplit
from spquant_search.training.losses import imitation_loss
from spquant_search.training.network import write_weights
from spquant_search.training.prepare import prepare
from spquant_search.training.prepared import Prepared
from spquant_search.training.schedule import Schedule
from spquant_search.training.supernet import (
    activate_subnet,
    measure_statistics,
    norm_layers,
    random_configuration,
    statistics_batches,
    train_supernet,
)

pytestmark = pytest.mark.usefixtures("plain_neurons")

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(TINY)


@pytest.fixture
def network(prepared: Prepared) -> nn.Module:
    torch.manual_seed(0)
    return build(prepared.space.file.model, prepared.input, source="tiny").to(memory_format=torch.channels_last)


def recordings(samples: int, seed: int) -> DeviceSplit:
    """Events in the upper half of the frame for class 0, in the lower half for class 1."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(samples) % 2
    frames = torch.rand(samples, 3, 2, 34, 34, generator=generator) < 0.3
    rows = torch.arange(34)[:, None] < 17
    frames &= torch.where(labels.bool()[:, None, None, None, None], ~rows, rows)
    return DeviceSplit(frames=frames.byte(), labels=labels, time_steps=3, largest=15)


# ---------------------------------------------------------------- what is drawn


def test_every_choice_of_every_layer_comes(prepared: Prepared) -> None:
    generator = random.Random(0)
    seen: set[tuple[str, object]] = set()
    for _ in range(400):
        seen |= set(random_configuration(prepared.space, generator).flat().items())
    wanted = {(address, option) for address, options in prepared.space.choices().items() for option in options}
    assert seen == wanted


@pytest.mark.parametrize(("steps", "mean"), [("[1, 2, 4]", 12 / 7), ("[2, 4]", 8 / 3), ("4", 4.0)])
def test_every_number_of_time_steps_gets_as_much_work(steps: str, mean: float) -> None:
    space, generator = prepare(TINY, (f"time_steps={steps}", "supernet.epochs=5")).space, random.Random(0)
    drawn = Counter(random_configuration(space, generator).time_steps for _ in range(2000))
    work = {number: number * count for number, count in drawn.items()}
    assert work.keys() == set(space.file.time_steps)
    assert min(work.values()) > 0.85 * max(work.values())
    # More epochs make up for what fewer steps save.
    assert sum(work.values()) / 2000 == pytest.approx(mean, rel=0.05)
    assert space.file.mean_drawn_steps == pytest.approx(mean)
    assert space.file.supernet_epochs == round(5 * max(work) / mean)


def test_some_are_uniform_and_some_dense(prepared: Prepared) -> None:
    generator = random.Random(0)
    drawn = [random_configuration(prepared.space, generator) for _ in range(600)]

    def is_uniform(config: NetworkConfig) -> bool:
        return len({layer.weight_bits for _, layer in config.layers}) == 1

    def is_dense(config: NetworkConfig) -> bool:
        return all(getattr(layer, name) == value for _, layer in config.layers for name, value in OFF.items())

    # By chance alone 9 layers of 2 choices agree once in 256 draws, and 7 gates of 3 and 8 masks of 2 are hardly ever
    # all off.
    assert sum(map(is_uniform, drawn)) / 600 == pytest.approx(shared.UNIFORM_SHARE, abs=0.06)
    assert sum(map(is_dense, drawn)) / 600 == pytest.approx(shared.DENSE_SHARE, abs=0.06)
    assert Counter(config["conv1"].weight_bits for config in drawn)[2] / 600 == pytest.approx(0.5, abs=0.07)


# ---------------------------------------------------------------- what is taught


def test_imitation_is_the_divergence_by_hand() -> None:
    # p = (0.75, 0.25), q = (0.5, 0.5): 0.75 log 1.5 + 0.25 log 0.5 = 0.1308
    teacher_logits, logits = torch.tensor([[0.75, 0.25]]).log(), torch.zeros(1, 2)
    assert imitation_loss(logits, teacher_logits).item() == pytest.approx(0.13081, abs=1e-5)
    assert imitation_loss(teacher_logits + 3.0, teacher_logits).item() == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("varied", [False, True])
def test_the_float_network_is_asked_about_the_very_samples_of_the_batch(network: nn.Module, varied: bool) -> None:
    space = prepare(TINY).space
    training = recordings(24, seed=1)
    configure(network, space.baseline(), space.file.neuron)
    teacher = FloatTeacher(copy.deepcopy(network), training, varied=varied)
    step_hook = shared.RandomSubnets(network, space, seed=0, teacher=teacher)
    chosen = torch.tensor([3, 17, 8])
    batch = training.batch(chosen)
    with torch.no_grad():
        expected = network.eval()(batch.spikes(torch.float32)).mean(dim=0)
        for parameter in network.parameters():  # the network learns; its teacher does not
            parameter.mul_(0.5)
    torch.testing.assert_close(step_hook(batch, chosen).teacher_logits, expected)
    drawn = {name: layer.precision for name, layer in searchable_layers(network).items()}
    assert drawn == dict(random_configuration(space, random.Random(derived_seed(0, Purpose.SUBNETS))).layers)


class Silent(nn.Module):
    """A network that must not be asked."""

    def forward(self, spikes: object) -> Tensor:
        raise AssertionError("asked again")


def asked_of(weights: Path, network: nn.Module, training: DeviceSplit, *, varied: bool = False) -> Tensor:
    teacher = FloatTeacher(network, training, varied=varied, weights=weights)
    return teacher(training, torch.arange(len(training))).teacher_logits


def test_what_the_teacher_says_is_kept_for_whoever_asks_next(network: nn.Module, tmp_path: Path) -> None:
    weights, training = tmp_path / "0000.safetensors", recordings(24, seed=1)
    write_weights(network, weights)
    logits = asked_of(weights, network, training)
    assert torch.equal(asked_of(weights, Silent(), training), logits)
    # Where the samples vary there is nothing to keep.
    assert torch.equal(asked_of(tmp_path / "other", network, training, varied=True), logits)
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["0000.logits", "0000.safetensors"]


@pytest.mark.parametrize("what", ["other weights", "other samples", "damaged"])
def test_kept_logits_that_do_not_fit_are_asked_again(what: str, network: nn.Module, tmp_path: Path) -> None:
    weights, training = tmp_path / "0000.safetensors", recordings(24, seed=1)
    write_weights(network, weights)
    asked_of(weights, network, training)
    if what == "other weights":
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(0.5)
        write_weights(network, weights)
    elif what == "other samples":
        training = recordings(20, seed=1)
    else:
        (tmp_path / "0000.logits").write_bytes(b"no logits")
    with pytest.raises(AssertionError, match="asked again"):
        asked_of(weights, Silent(), training)
    again = asked_of(weights, network, training)
    assert torch.equal(asked_of(weights, Silent(), training), again)
    assert len(again) == len(training)


def test_without_distillation_nobody_is_asked(network: nn.Module) -> None:
    space, training = prepare(TINY).space, recordings(8, seed=1)
    step_hook = shared.RandomSubnets(network, space, seed=0, teacher=None)
    chosen = torch.arange(4)
    assert step_hook(training.batch(chosen), chosen).teacher_logits is None


def test_it_learns_to_serve_configurations_that_differ(prepared: Prepared, network: nn.Module) -> None:
    space = prepare(TINY, ("train.batch_size=8",)).space
    training, validation = recordings(64, seed=1), recordings(32, seed=2)
    schedule = Schedule(epochs=4, learning_rate=4e-3)
    losses = [epoch.loss for epoch in train_supernet(network, space, training=training, schedule=schedule, seed=3)]
    assert losses[-1] < losses[0]
    for config in (space.references[0], space.references[1]):
        activate_subnet(network, config, space.file.neuron, training=training, samples=64)
        assert accuracy(network, validation) > 0.9


def test_equal_seeds_give_equal_networks(prepared: Prepared) -> None:
    space, training = prepare(TINY, ("train.batch_size=8",)).space, recordings(16, seed=1)

    def trained(seed: int) -> Tensor:
        torch.manual_seed(0)
        made = build(space.file.model, prepared.input, source="tiny")
        for _ in train_supernet(
            made, space, training=training, schedule=Schedule(epochs=1, learning_rate=1e-2), seed=seed
        ):
            pass
        return torch.cat([parameter.detach().flatten() for parameter in made.parameters()])

    first = trained(0)
    assert torch.equal(first, trained(0))
    assert not torch.equal(first, trained(1))


# ---------------------------------------------------------------- evaluating


@pytest.mark.parametrize(
    ("samples", "together", "sizes"),
    [
        (384, 128, [128, 128, 128]),
        (300, 128, [128, 128]),  # whole batches of the usual size, whatever they are cut into
        (300, 32, [32] * 8),
        (100, 128, [100]),
        (100, 64, [50, 50]),
        (101, 64, [51, 50]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_batches_of_statistics_weigh_the_same(samples: int, together: int, sizes: list[int]) -> None:
    training = replace(recordings(400, seed=0), together=BatchSizes(statistics=together))
    batches = list(statistics_batches(training, samples))
    assert [len(batch) for batch in batches] == sizes
    assert torch.equal(torch.cat([batch.labels for batch in batches]), training.labels[: sum(sizes)])


def test_statistics_are_the_means_over_whole_batches(
    prepared: Prepared, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spquant_search.runs.work.STATISTICS_BATCH", 8)
    space, training = prepared.space, recordings(40, seed=1)
    configure(network, space.references[0], space.file.neuron)
    layer = searchable_layers(network)["conv1"]
    seen: list[Tensor] = []
    norm = norm_layers(network)["conv1.norm"]
    hook = norm.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    measure_statistics(network, training, samples=27)  # three whole batches of 8
    hook.remove()
    assert [len(current) for current in seen] == [3 * 8] * 3  # three time steps of each sample
    means = torch.stack([current.mean(dim=(0, 2, 3)) for current in seen]).mean(dim=0)
    variances = torch.stack([current.var(dim=(0, 2, 3), unbiased=True) for current in seen]).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)
    assert norm.momentum == 0.1
    first = F.conv2d(
        training.batch(slice(0, 8)).spikes(torch.float32).values,
        shared_weight(layer),
        stride=layer.kernel.strides,
        padding=1,
    )
    torch.testing.assert_close(seen[0], first)


def test_statistics_are_to_the_bit_those_of_norms_that_count_their_batches(
    prepared: Prepared, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spquant_search.runs.work.STATISTICS_BATCH", 8)
    space, training = prepared.space, recordings(40, seed=1)
    configure(network, space.references[1], space.file.neuron)
    measure_statistics(network, training, samples=40)
    found = {key: values.clone() for key, values in network.named_buffers()}
    for norm in norm_layers(network).values():
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for start in range(0, 40, 8):
            network(training.batch(slice(start, start + 8)).spikes(torch.float32))
    for norm in norm_layers(network).values():
        norm.momentum = 0.1
        assert norm.num_batches_tracked == 5
    assert all(torch.equal(values, found[key]) for key, values in network.named_buffers())


def test_statistics_are_those_of_a_pass_in_training(prepared: Prepared, network: nn.Module) -> None:
    space, training = prepared.space, recordings(64, seed=1)
    configure(network, space.references[0], space.file.neuron)
    measure_statistics(network, training, samples=64)
    assert not any(module.training for module in network.modules())
    found = {name: (norm.running_mean.clone(), norm.running_var.clone()) for name, norm in norm_layers(network).items()}
    network.train()
    for norm in norm_layers(network).values():
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        network(training.batch(slice(0, 64)).spikes(torch.float32))
    for name, norm in norm_layers(network).items():
        # Currents differ in their last bits, so that a spike may differ here and there.
        torch.testing.assert_close(found[name][0], norm.running_mean, rtol=0.01, atol=0.01)
        torch.testing.assert_close(found[name][1], norm.running_var, rtol=0.05, atol=0.01)


def shared_weight(layer: nn.Module) -> Tensor:
    from spquant_search.snn.quantize import fake_quantize

    weight: Tensor = layer.weight  # type: ignore[assignment]
    return fake_quantize(weight, layer.precision.weight_bits).detach()  # type: ignore[union-attr, arg-type]


def test_a_read_out_depends_on_no_other(prepared: Prepared, network: nn.Module) -> None:
    space = prepared.space
    training, validation = recordings(64, seed=1), recordings(32, seed=2)

    def read(config: NetworkConfig) -> tuple[float, float, Tensor]:
        activate_subnet(network, config, space.file.neuron, training=training, samples=64)
        found = evaluate(network, validation)
        return found.accuracy, found.effective_macs, norm_layers(network)["conv8.norm"].running_mean.clone()

    first = read(space.references[0])
    read(space.references[1])
    again = read(space.references[0])
    assert first[:2] == again[:2]
    assert torch.equal(first[2], again[2])


def test_reading_out_leaves_the_weights(prepared: Prepared, network: nn.Module) -> None:
    space = prepared.space
    before = {name: value.clone() for name, value in network.named_parameters()}
    activate_subnet(network, space.references[1], space.file.neuron, training=recordings(16, seed=1), samples=16)
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
