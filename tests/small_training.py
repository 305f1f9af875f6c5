"""A small network, its samples, and a training of it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from spquant_search.snn.layers import configure
from spquant_search.snn.networks.vgg import VGG9, Vgg
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.schema import NeuronSpace, Training
from spquant_search.training.loader import DeviceSplit
from spquant_search.training.loop import TrainingRun, train
from spquant_search.training.schedule import Schedule

RECIPE = Training(batch_size=8, precision="fp32")
SCHEDULE = Schedule(epochs=2, learning_rate=2e-3)


def recordings(samples: int, *, seed: int = 0) -> DeviceSplit:
    """Two classes that differ in the half of the image that is bright; 3 frames of 2 channels."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 3, (samples, 3, 2, 16, 16), generator=generator, dtype=torch.uint8)
    labels = torch.arange(samples) % 2
    frames[labels == 0, :, :, :, :8] += 5
    frames[labels == 1, :, :, :, 8:] += 5
    return DeviceSplit(frames=frames, labels=labels, time_steps=frames.shape[1], largest=15)


def network(*, seed: int = 0, mass: float = 0.8) -> Vgg:
    torch.manual_seed(seed)
    built = Vgg(VGG9, in_channels=2, height=16, width=16, classes=2, width_factor=1 / 16, pool="before")
    precision = LayerPrecision(weight_bits=4, membrane_levels=16)
    layers = [("conv1", precision)]
    layers += [(f"conv{index}", replace(precision, channel_mass=mass, skip_below=0.0)) for index in range(2, 9)]
    layers += [("readout", LayerPrecision(weight_bits=4, membrane_levels=None))]
    configure(built, NetworkConfig(time_steps=3, layers=tuple(layers)), NeuronSpace())
    return built


def trained(
    *, seed: int = 0, recipe: Training = RECIPE, schedule: Schedule = SCHEDULE, samples: int = 24
) -> tuple[list[tuple[object, ...]], dict[str, Tensor]]:
    """What every epoch says, but for its seconds, and the weights in the end."""
    subject = network()
    epochs = train(
        TrainingRun(network=subject, training=recordings(samples), recipe=recipe, schedule=schedule, seed=seed),
        recordings(10, seed=1),
    )
    curve = [(replace(metrics, seconds=0.0), evaluation) for metrics, evaluation in epochs]
    return curve, subject.state_dict()


def is_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)
