"""Several configurations of one supernet at once: the subnet_accuracies are those of evaluating one after the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spquant_search.runs.sensitivity import by_layer, lowered_configurations
from spquant_search.snn.layers import SearchableLayer, searchable_layers
from spquant_search.snn.networks.catalog import build
from spquant_search.space.configuration import NetworkConfig
from spquant_search.training.device_memory import BatchSizes
from spquant_search.training.evaluation import accuracy
from spquant_search.training.loader import DeviceSplit
from spquant_search.training.prefix_reuse import subnet_accuracies
from spquant_search.training.prepare import prepare
from spquant_search.training.prepared import Prepared
from spquant_search.training.supernet import activate_subnet

pytestmark = pytest.mark.usefixtures("plain_neurons")

SPACES = Path(__file__).parents[2] / "spaces"
NETWORKS = {
    "one after the other": ("tiny.yaml", ()),
    "residual, with shortcuts": ("resnet19-cifar10.yaml", ("model.width=0.03125",)),
    "with attention": ("spikformer4-256-cifar10.yaml", ("model.width=0.125",)),
}


@pytest.fixture(scope="module", params=NETWORKS)
def prepared(request: pytest.FixtureRequest) -> Prepared:
    file, overrides = NETWORKS[request.param]
    return prepare(SPACES / file, overrides)


@pytest.fixture(scope="module")
def network(prepared: Prepared) -> nn.Module:
    torch.manual_seed(0)
    return build(prepared.space.file.model, prepared.input, source="test").to(memory_format=torch.channels_last)


def recordings(prepared: Prepared, samples: int, seed: int) -> DeviceSplit:
    generator = torch.Generator().manual_seed(seed)
    shape, steps = prepared.input, prepared.space.file.most_time_steps
    size = (samples, 1 if shape.channels == 3 else steps, shape.channels, shape.height, shape.width)
    frames = torch.randint(0, shape.largest + 1, size, generator=generator, dtype=torch.uint8)
    return DeviceSplit(
        frames=frames,
        labels=torch.randint(0, shape.classes, (samples,), generator=generator),
        time_steps=steps,
        largest=shape.largest,
    )


def groups(prepared: Prepared) -> dict[str, list[NetworkConfig]]:
    """By layer what lowers it, in the first, a middle and the last layer, and one group that changes several."""
    configs = lowered_configurations(prepared.space)
    found = {names[0]: [configs[name] for name in names] for names in by_layer(configs)}
    names = list(found)
    chosen = {name: found[name][:2] for name in (names[1], names[len(names) // 2], names[-1])}
    return chosen | {"several": [found[name][-1] for name in (names[-2], names[len(names) // 2], names[0])]}


def test_they_are_what_reading_out_each_gives(
    prepared: Prepared, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = recordings(prepared, 8, seed=1)
    validation = replace(recordings(prepared, 20, seed=2), together=BatchSizes(evaluation=8))
    neuron, logits = prepared.space.file.neuron, list[Tensor]()

    def spied(network: nn.Module, batch: DeviceSplit) -> Tensor:
        logits.append(network(batch.spikes(torch.float32).repeated()).sum(dim=0))
        return (logits[-1].argmax(dim=1) == batch.labels).sum()

    monkeypatch.setattr("spquant_search.runs.work.STATISTICS_BATCH", 3)
    for module in ("prefix_reuse", "evaluation"):
        monkeypatch.setattr(f"spquant_search.training.{module}.correctly_classified", spied)
    for configs in groups(prepared).values():
        shares = subnet_accuracies(network, configs, neuron, training=training, samples=7, validation=validation)
        found, count = logits.copy(), len(configs)
        logits.clear()
        for place, (config, share) in enumerate(zip(configs, shares, strict=True)):
            activate_subnet(network, config, neuron, training=training, samples=7)
            assert share == accuracy(network, validation)
            assert list(map(torch.equal, logits, found[place::count])) == [True] * 3
            logits.clear()
        assert not torch.equal(found[0], found[1])


def test_what_comes_before_the_layer_that_differs_is_computed_once(
    prepared: Prepared, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = list(groups(prepared).values())[1]
    first = dict(configs[0].layers)
    (changing,) = {name for config in configs for name, layer in config.layers if layer != first[name]}
    names = {layer: name for name, layer in searchable_layers(network).items()}
    calls, order = dict.fromkeys(names.values(), 0), list[str]()

    def counted(kind: type[SearchableLayer]) -> None:
        forward = kind.forward

        def counting(self: SearchableLayer, *inputs: object, **named: object) -> object:
            calls[names[self]] += 1
            order.append(names[self])
            return forward(self, *inputs, **named)

        monkeypatch.setattr(kind, "forward", counting)

    for kind in {type(layer) for layer in names}:
        counted(kind)
    few = recordings(prepared, 4, seed=1)
    subnet_accuracies(network, configs, prepared.space.file.neuron, training=few, samples=4, validation=few)
    place = order.index(changing)
    for name in calls:
        # Once for the statistics and once for the accuracy, and from the changing layer on for every configuration.
        assert calls[name] == 2 * (1 if order.index(name) < place else len(configs)), name


def test_the_network_is_left_as_a_read_out_leaves_it(prepared: Prepared, network: nn.Module) -> None:
    configs = list(groups(prepared).values())[1]
    few = recordings(prepared, 4, seed=1)
    subnet_accuracies(network, configs, prepared.space.file.neuron, training=few, samples=4, validation=few)
    for module in network.modules():
        assert "forward" not in module.__dict__
        if isinstance(module, nn.BatchNorm2d):
            assert not module.training
            assert module.momentum == nn.BatchNorm2d(1).momentum


def test_groups_name_everything_once(prepared: Prepared) -> None:
    names = list(lowered_configurations(prepared.space))
    found = by_layer(names)
    assert [name for group in found for name in group] == names
    assert found[0] == ("reference",)
    rest = [tuple(name for name in group if name in names[3:]) for group in found]
    assert by_layer(names[3:]) == [group for group in rest if group]
