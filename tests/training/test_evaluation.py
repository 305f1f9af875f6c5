"""Evaluation: predictions, totals, and still images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from network_shapes import layer_shapes
from small_training import RECIPE, network, recordings
from torch import Tensor, nn

from spquant_search.costs.memory import cost_report
from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.snn.spikes import Spikes
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.schema import ModelSpace, NeuronSpace
from spquant_search.space.shapes import InputShape
from spquant_search.training.device_memory import BatchSizes
from spquant_search.training.evaluation import Evaluation, accuracy, evaluate
from spquant_search.training.loader import DeviceSplit, at_time_steps
from spquant_search.training.loop import TrainingRun, train
from spquant_search.training.schedule import Schedule
from spquant_search.training.supernet import norm_layers


class Answers(nn.Module):
    """Says what it is told: logits [time, sample, class], whatever it sees."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits
        self.seen = 0

    def forward(self, spikes: Spikes) -> Tensor:
        batch = len(spikes.values) // spikes.time_steps
        self.seen += batch
        return self.logits[:, self.seen - batch : self.seen]


def test_the_prediction_is_the_mean_over_time_and_the_lowest_class_wins_a_tie() -> None:
    logits = torch.tensor(
        [
            [[3.0, 0.0, 0.0], [1.0, 2.0, 2.0], [0.0, 0.0, 1.0], [0.0, 5.0, 0.0]],
            [[0.0, 4.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 4.0]],
        ]
    )
    # Sums: (3, 4, 0) -> 1; (2, 2, 2) -> 0, the lowest; (0, 0, 2) -> 2; (0, 5, 4) -> 1.
    frames = torch.zeros(4, 2, 1, 16, 16, dtype=torch.uint8)
    for labels, expected in (([1, 0, 2, 1], 1.0), ([1, 1, 2, 1], 0.75), ([0, 1, 0, 2], 0.0)):
        found = evaluate(
            Answers(logits),
            DeviceSplit(frames=frames, labels=torch.tensor(labels), time_steps=frames.shape[1], largest=15),
        )
        assert found.accuracy == expected


def test_evaluation_does_not_depend_on_its_batches(plain_neurons: None) -> None:
    subject, split = network(), recordings(11)
    whole = evaluate(subject, split)
    for size in (1, 3, 4, 10):
        assert evaluate(subject, replace(split, together=BatchSizes(evaluation=size))) == whole
    split = replace(split, together=BatchSizes(evaluation=4))
    assert accuracy(subject, split) == whole.accuracy
    assert not subject.training
    assert len(whole.layers) == len(whole.neurons) == 9


def test_totals_add_the_layers_and_weigh_densities_by_neurons(plain_neurons: None) -> None:
    found: Evaluation = evaluate(network(), recordings(6))
    activities = [activity for _, activity in found.layers]
    assert found.effective_macs == sum(activity.effective_macs for activity in activities)
    assert found.synaptic_ops == sum(activity.synaptic_ops for activity in activities)
    # Width 1/16: 4 channels at 16x16 and so on, 6 samples of 3 steps.
    neurons = [4 * 256, 8 * 64, 16 * 64, 16 * 16, 32 * 16, 32 * 4, 32 * 4, 32 * 1, 0]
    assert list(found.neurons) == [18 * count for count in neurons]
    spikes = sum(activity.density * count for activity, count in zip(activities, neurons, strict=True))
    assert found.density == pytest.approx(spikes / sum(neurons))
    assert 0 < found.density < 1


def test_still_images_are_evaluated_as_if_shown_at_every_step_and_clamped_to_their_own_largest(
    plain_neurons: None,
) -> None:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (6, 1, 2, 16, 16), generator=generator, dtype=torch.uint8)
    labels = torch.arange(6) % 2
    still = DeviceSplit(frames=images, labels=labels, time_steps=3, largest=255)
    shown = DeviceSplit(frames=images.repeat(1, 3, 1, 1, 1), labels=labels, time_steps=3, largest=255)
    assert still.spikes(torch.float32).constant
    assert still.spikes(torch.float32).values.max() > 200
    assert evaluate(network(), still) == evaluate(network(), shown)
    schedule = Schedule(epochs=1, learning_rate=1e-2)
    recipe = replace(RECIPE, precision="fp32")
    losses = [
        next(train(TrainingRun(network=network(), training=data, recipe=recipe, schedule=schedule, seed=0), data))[
            0
        ].loss
        for data in (still, shown)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_figures_are_of_a_sample_over_the_time_steps_that_it_is_shown(plain_neurons: None) -> None:
    generator = torch.Generator().manual_seed(3)
    frames = torch.randint(0, 3, (5, 4, 2, 16, 16), generator=generator, dtype=torch.uint8)
    split = DeviceSplit(frames=frames, labels=torch.arange(5) % 2, time_steps=4, largest=15)
    subject = network()
    model = ModelSpace(network="vgg9", width=1 / 16, pool="before")
    shapes = layer_shapes(model, InputShape(channels=2, height=16, width=16, classes=2), source="s")
    names = list(searchable_layers(subject))
    for steps in (1, 2, 4):
        stored = 16 if steps > 1 else None
        precisions = [LayerPrecision(weight_bits=4, membrane_levels=stored) for _ in names[:-1]]
        layers = zip(names, [*precisions, LayerPrecision(weight_bits=4, membrane_levels=None)], strict=True)
        config = NetworkConfig(time_steps=steps, layers=tuple(layers))
        configure(subject, config, NeuronSpace())
        for offset, density in ((100.0, 1.0), (-100.0, 0.0)):
            # So large a current makes every neuron spike in every step, so low a one none.
            for norm in norm_layers(subject).values():
                torch.nn.init.constant_(norm.bias, offset)
            found = evaluate(subject, at_time_steps(split, steps))
            assert found.density == density
            assert [activity.density for _, activity in found.layers] == [density] * 8 + [0.0]
            # Without gates and masks these are the dense ones.
            assert found.effective_macs == cost_report(shapes, config).dense_macs_all_steps
            # Every neuron of the last layer spikes, and each is read by 2 classes.
            assert dict(found.layers)["readout"].synaptic_ops == density * steps * 2 * shapes[-1].in_channels
