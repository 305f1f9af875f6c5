"""Evaluation: predictions, totals, and still images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_training import RECIPE, network, recordings
from torch import Tensor, nn

from spquant_search.snn.spikes import Spikes
from spquant_search.training import evaluation
from spquant_search.training.evaluation import Evaluation, accuracy, evaluate
from spquant_search.training.loader import DeviceSplit
from spquant_search.training.loop import TrainingRun, train
from spquant_search.training.schedule import Schedule


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


def test_evaluation_does_not_depend_on_its_batches(monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    subject, split = network(), recordings(11)
    whole = evaluate(subject, split)
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 4)
    assert evaluate(subject, split) == whole
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
