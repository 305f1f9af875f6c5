"""Our variants of the benchmark of a training step still run, peers aside."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("pool", ["after", "before"])
def test_the_floor_and_ours_learn(pool: str, monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import train_step

    monkeypatch.setattr(train_step, "TIME_STEPS", 2)
    monkeypatch.setattr(train_step, "BATCH", 4)
    device = torch.device("cpu")
    for name in ("floor", "ours, 4 bit / 3 levels, sparse"):
        step = train_step.VARIANTS[name](device, pool=pool)
        losses = [float(step()) for _ in range(8)]
        assert losses[-1] < losses[0]
