"""Losses, weights and gradients that are not finite end a training."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from small_training import RECIPE, SCHEDULE, network, recordings
from torch.amp.grad_scaler import GradScaler

from spquant_search.training import loop
from spquant_search.training.loop import Diverged, TrainingRun, train


def test_gradients_that_overflow_at_any_scale_diverge(plain_neurons: None) -> None:
    subject = network()
    loop._raise_if_diverged(subject, 3, 1.0, GradScaler("cpu", init_scale=1.0))
    with pytest.raises(Diverged, match=r"^in epoch 3, gradients were not finite in fp16 at any scale of the loss$"):
        loop._raise_if_diverged(subject, 3, 1.0, GradScaler("cpu", init_scale=0.5))


@pytest.mark.parametrize("broken", ["conv1.weight", "conv4.norm.bias", "readout.linear.weight", "conv3.gate.bias"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_diverges(broken: str, value: float, plain_neurons: None) -> None:
    subject = network()
    with torch.no_grad():
        subject.get_parameter(broken).view(-1)[0] = value
    epochs = train(
        TrainingRun(network=subject, training=recordings(16), recipe=RECIPE, schedule=SCHEDULE, seed=0), recordings(4)
    )
    with pytest.raises(Diverged, match="epoch 1"):
        next(epochs)


@pytest.mark.parametrize("broken", ["conv1.weight", "readout.linear.weight"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_clipping_does_not_hide_what_is_not_finite(broken: str, value: float, plain_neurons: None) -> None:
    subject, recipe = network(), replace(RECIPE, max_grad_norm=1.0)
    with torch.no_grad():
        subject.get_parameter(broken).view(-1)[0] = value
    epochs = train(
        TrainingRun(network=subject, training=recordings(16), recipe=recipe, schedule=SCHEDULE, seed=0), recordings(4)
    )
    with pytest.raises(Diverged, match="epoch 1"):
        next(epochs)


def test_divergence_names_the_epoch_and_the_loss(monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    losses = iter([1.0, 2.0, 3.0, math.inf])
    monkeypatch.setattr(loop, "train_step", lambda *_rest, **_named: torch.tensor(next(losses)))
    epochs = train(
        TrainingRun(network=network(), training=recordings(16), recipe=RECIPE, schedule=SCHEDULE, seed=0), recordings(4)
    )
    assert next(epochs)[0].loss == 1.5
    with pytest.raises(Diverged, match=r"^the mean loss of epoch 2 is inf$"):
        next(epochs)


def test_divergence_behind_a_finite_loss_names_the_weight(plain_neurons: None) -> None:
    subject = network()
    with torch.no_grad():
        subject.conv8.norm.bias[0] = math.nan
    epochs = train(
        TrainingRun(network=subject, training=recordings(16), recipe=RECIPE, schedule=SCHEDULE, seed=0), recordings(4)
    )
    with pytest.raises(Diverged, match=r"^after epoch 1, conv\d\.[a-z_.]+ is not finite$"):
        next(epochs)


def test_all_that_a_network_keeps_is_looked_at_whatever_its_type_and_shape() -> None:
    kept = {
        "a": torch.zeros(3, 2)[:, 1],
        "whole": torch.tensor(7),
        "none": torch.empty(0),
        "large": torch.tensor([-torch.finfo(torch.float32).max, 1.0]),
        "half": torch.full((2,), 65504.0, dtype=torch.float16),
        "one": torch.tensor(1.0, dtype=torch.float64),
    }
    names = ["a", "large", "half", "one"]
    assert loop._finite(kept) == dict.fromkeys(names, True)
    assert loop._finite({"whole": torch.tensor(7)}) == {}
    for name in names:
        for value in (math.nan, math.inf, -math.inf):
            broken = {key: tensor.clone() for key, tensor in kept.items()}
            broken[name].view(-1)[-1] = value
            assert loop._finite(broken) == {key: key != name for key in names}
