"""The losses of a training step."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from small_training import RECIPE, network, recordings
from torch import Tensor

from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.training import loop
from spquant_search.training.losses import tet_loss


def test_the_tet_loss_by_hand() -> None:
    # Two steps, one sample, two classes. exp(log 3) against exp(0): probabilities 3/4 and 1/4, then 1/2 each.
    logits = torch.tensor([[[math.log(3), 0.0]], [[2.0, 2.0]]])
    labels = torch.tensor([1])
    entropy = (math.log(4) + math.log(2)) / 2
    assert tet_loss(logits, labels, tet_lambda=0.0, tet_mean=1.0).item() == pytest.approx(entropy)
    spread = ((math.log(3) - 1.5) ** 2 + 1.5**2 + 0.5**2 + 0.5**2) / 4
    loss = tet_loss(logits, labels, tet_lambda=0.3, tet_mean=1.5).item()
    assert loss == pytest.approx(0.7 * entropy + 0.3 * spread)
    assert tet_loss(logits, labels, tet_lambda=1.0, tet_mean=1.5).item() == pytest.approx(spread)


def test_every_step_of_a_sample_is_held_against_its_own_label() -> None:
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([4, 0, 2, 1])
    terms = [-logits[time, sample].log_softmax(0)[labels[sample]] for time in range(3) for sample in range(4)]
    loss = tet_loss(logits, labels, tet_lambda=0.0, tet_mean=0.0)
    torch.testing.assert_close(loss, torch.stack(terms).mean())


def test_smoothed_labels_by_hand() -> None:
    # Probabilities 3/4 and 1/4, smoothing 0.2: targets 0.1 for class 0 and 0.9 for class 1, the label.
    logits = torch.tensor([[[math.log(3), 0.0]]])
    entropy = 0.1 * math.log(4 / 3) + 0.9 * math.log(4)
    loss = tet_loss(logits, torch.tensor([1]), tet_lambda=0.0, tet_mean=1.0, label_smoothing=0.2)
    assert loss.item() == pytest.approx(entropy)
    mixed = tet_loss(logits, torch.tensor([1]), tet_lambda=0.5, tet_mean=0.0, label_smoothing=0.2)
    assert mixed.item() == pytest.approx(0.5 * entropy + 0.5 * math.log(3) ** 2 / 2)


def test_the_recipes_smoothing_reaches_the_loss(plain_neurons: None) -> None:
    subject, batch = network(mass=1.0).train(), recordings(8)
    logits = subject(batch.spikes(torch.float32)).detach()
    optimizer = torch.optim.SGD(subject.parameters(), lr=0.0)
    loss = loop.train_step(subject, batch, replace(RECIPE, label_smoothing=0.3), optimizer)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.repeat(3), label_smoothing=0.3)
    torch.testing.assert_close(loss, expected)


def test_the_loss_of_a_step_is_the_tasks_and_the_mean_of_the_gates(plain_neurons: None) -> None:
    def loss(weight: float) -> float:
        subject, batch = network().train(), recordings(8)
        recipe = replace(RECIPE, gate_loss_weight=weight)
        optimizer = torch.optim.SGD(subject.parameters(), lr=0.0)
        return loop.train_step(subject, batch, recipe, optimizer).item()

    subject = network().train()
    subject(recordings(8).spikes(torch.float32))
    gates = [layer.gate_loss for layer in subject.modules() if isinstance(layer, SpikingConv2d)]
    losses = [value.item() for value in gates if value is not None]
    assert len(losses) == 7
    assert loss(2.0) - loss(0.0) == pytest.approx(2.0 * sum(losses) / 7, rel=1e-4)


def test_imitation_takes_its_share_of_the_loss(plain_neurons: None) -> None:
    """With all of it the labels do not matter, and equal logits leave nothing to learn."""
    batch, subject = recordings(8), network(mass=1.0)
    with torch.no_grad():
        said = subject.train()(batch.spikes(torch.float32)).mean(dim=0)

    def loss(share: float, teacher_logits: Tensor | None) -> float:
        optimizer = torch.optim.SGD(subject.parameters(), lr=0.0)
        recipe = replace(RECIPE, distillation=share)
        return loop.train_step(subject, batch, recipe, optimizer, teacher_logits=teacher_logits).item()

    labels = loss(0.0, None)
    assert loss(1.0, said) == pytest.approx(0.0, abs=1e-6)
    assert loss(0.25, said) == pytest.approx(0.75 * labels, rel=1e-5)
    assert loss(0.5, None) == pytest.approx(labels)
