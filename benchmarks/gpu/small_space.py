"""A small space bound to its network, and samples of noise for it: what several parts train and evaluate."""

from __future__ import annotations

from pathlib import Path

import torch

from spquant_search.training.loader import DeviceSplit
from spquant_search.training.prepare import prepare
from spquant_search.training.prepared import Prepared

SPACE = Path(__file__).parents[2] / "spaces/tiny.yaml"


def small_space() -> Prepared:
    return prepare(SPACE)


def noise(prepared: Prepared, samples: int, device: torch.device, *, seed: int = 0) -> DeviceSplit:
    """Draw samples of a space's shape, the same ones on every device."""
    generator, shape = torch.Generator().manual_seed(seed), prepared.input
    steps = prepared.space.file.most_time_steps
    size = (samples, steps, shape.channels, shape.height, shape.width)
    frames = torch.randint(0, 4, size, generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, shape.classes, (samples,), generator=generator)
    return DeviceSplit(frames=frames.to(device), labels=labels.to(device), time_steps=steps, largest=shape.largest)
