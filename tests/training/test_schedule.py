"""The learning rate, by hand and against torch."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from small_training import RECIPE, trained
from torch import nn

from spquant_search.training import loop
from spquant_search.training.optimizer import set_rate
from spquant_search.training.schedule import Schedule, rate_at


def test_the_learning_rate_by_hand() -> None:
    # 10 steps, 20 % warm-up: a third, two thirds, then half a cosine over the other 8.
    rates = [rate_at(step, steps=10, warm_up=0.2) for step in range(10)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rates[6] == pytest.approx(0.5)
    assert rates[9] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))
    assert rate_at(10, steps=10, warm_up=0.2) == pytest.approx(0.0)


@pytest.mark.parametrize("warm_up", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_the_learning_rate_rises_and_falls_between_0_and_1(steps: int, warm_up: float) -> None:
    rates = [rate_at(step, steps=steps, warm_up=warm_up) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    top = rates.index(max(rates))
    assert all(earlier < later for earlier, later in pairwise(rates[: top + 1]))
    assert all(earlier > later for earlier, later in pairwise(rates[top:]))


def test_training_follows_the_schedule_over_all_epochs(monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    rates: list[float] = []
    monkeypatch.setattr(loop, "set_rate", lambda optimizer, rate: (rates.append(rate), set_rate(optimizer, rate)))
    trained(schedule=Schedule(epochs=2, learning_rate=0.01))
    assert rates == pytest.approx([0.01 * rate_at(step, steps=6, warm_up=0.1) for step in range(6)])


def hand_worked_cycle() -> list[float]:
    # 10 steps, 40 % warm-up: a half cosine from 1/25 up to step 3, by thirds, and one down to step 9, by sixths.
    up = [0.04 + 0.96 * share for share in (0.0, 0.25, 0.75, 1.0)]
    low = 1 / 250_000
    cosines = [3**0.5 / 2, 0.5, 0.0, -0.5, -(3**0.5) / 2, -1.0]
    return up + [low + (1 - low) * (1 + cosine) / 2 for cosine in cosines]


def test_one_cycle_by_hand() -> None:
    rates = [rate_at(step, steps=10, warm_up=0.4, schedule="one-cycle") for step in range(10)]
    assert rates == pytest.approx(hand_worked_cycle(), rel=1e-12)


@pytest.mark.parametrize("schedule", ["one-cycle", "constant", "cosine"])
@pytest.mark.parametrize("warm_up", [0.0, 0.1, 0.9, 1.0])
def test_a_single_step_learns(schedule: str, warm_up: float) -> None:
    rate = rate_at(0, steps=1, warm_up=warm_up, schedule=schedule)
    assert rate == (1.0 if schedule == "one-cycle" else 0.5)  # half-way up the warm-up of one step


@pytest.mark.parametrize("warm_up", [0.1, 0.3, 0.45, 1.0])
@pytest.mark.parametrize("steps", [7, 30, 101])
def test_one_cycle_is_torchs(steps: int, warm_up: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.3, total_steps=steps, pct_start=warm_up, cycle_momentum=False
    )
    for step in range(steps):
        rate = 0.3 * rate_at(step, steps=steps, warm_up=warm_up, schedule="one-cycle")
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        if step < steps - 1:
            theirs.step()


@pytest.mark.parametrize("warm_up", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_one_cycle_of_any_length(steps: int, warm_up: float) -> None:
    rates = [rate_at(step, steps=steps, warm_up=warm_up, schedule="one-cycle") for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)


def test_a_constant_rate_follows_its_warm_up() -> None:
    rates = [rate_at(step, steps=10, warm_up=0.2, schedule="constant") for step in range(10)]
    assert rates == pytest.approx([1 / 3, 2 / 3] + [1.0] * 8)


def test_training_follows_the_recipes_schedule(monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    rates: list[float] = []
    monkeypatch.setattr(loop, "set_rate", lambda optimizer, rate: (rates.append(rate), set_rate(optimizer, rate)))
    recipe = replace(RECIPE, schedule="one-cycle", warm_up=0.5)
    trained(recipe=recipe, schedule=Schedule(epochs=2, learning_rate=0.01))
    expected = [0.01 * rate_at(step, steps=6, warm_up=0.5, schedule="one-cycle") for step in range(6)]
    assert rates == pytest.approx(expected)
