"""Networks that nobody listed, and what a refusal says where these layers do not carry them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from importer.libraries import snntorch, spikingjelly
from torch import Tensor, nn


class Odd(NamedTuple):
    """A network that is called for each step, the shape of an example, and the words of a refusal."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]  # [time, batch, channels, ...]
    refused: str = ""


def lif(**given: Any) -> nn.Module:
    made: nn.Module = spikingjelly("neuron").LIFNode(**given)
    return made


class Steps(nn.Module):
    """Calls one_step for every time step, and averages."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.one_step(frame) for frame in x]).mean(0)

    def one_step(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class InARow(Steps):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def one_step(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


def separable() -> nn.Module:
    depth = nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6, bias=False)
    return InARow(
        *(nn.Conv2d(2, 6, 3, padding=1), lif(), depth, nn.BatchNorm2d(6), nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8), lif()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
    )


def inverted() -> nn.Module:
    """A pointwise and a grouped convolution without neurons between: one of single pixels, before one of windows."""
    return InARow(
        *(nn.Conv2d(2, 4, 3, padding=1), lif(), nn.Conv2d(4, 8, 1, bias=False)),
        *(nn.Conv2d(8, 8, 3, padding=1, groups=2), lif(), nn.Flatten(), nn.Linear(8 * 36, 4), lif()),
    )


def grouped() -> nn.Module:
    return InARow(
        *(nn.Conv2d(2, 4, (3, 1), padding=(1, 0)), lif(), nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8)),
        *(lif(v_reset=None), nn.Conv2d(8, 6, 2, stride=2, groups=2), lif(), nn.Flatten(), nn.Linear(24, 4), lif()),
    )


def dilated() -> nn.Module:
    return InARow(
        *(nn.Conv2d(2, 4, 3, padding=2, dilation=2), lif(), nn.Flatten(), nn.Linear(144, 4), lif()),
    )


def two_linear_at_the_end() -> nn.Module:
    return InARow(
        *(nn.Conv2d(2, 6, 3, padding=1), lif(), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.5)),
        *(nn.Linear(6 * 9, 16), nn.Linear(16, 4)),
    )


def stem_without_neurons() -> nn.Module:
    return InARow(
        *(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3), lif()),
        *(nn.Flatten(), nn.Linear(96, 4)),
    )


def stem_of_two_convolutions() -> nn.Module:
    return InARow(
        *(nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), lif(), nn.Flatten(), nn.Linear(216, 4)),
    )


def convolution_at_the_end() -> nn.Module:
    return InARow(nn.Conv2d(2, 4, 3), lif(), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(12, 4))


def fully_convolutional() -> nn.Module:
    return InARow(nn.Conv2d(2, 4, 3), lif(), nn.Conv2d(4, 3, 4), nn.Flatten())


def classes_as_channels() -> nn.Module:
    return InARow(
        *(nn.Conv2d(2, 4, 3), lif(), nn.Conv2d(4, 3, 1, bias=False), nn.BatchNorm2d(3)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


def classes_as_windows() -> nn.Module:
    return InARow(nn.Conv2d(2, 4, 3), lif(), nn.Conv2d(4, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def one_dimension() -> nn.Module:
    return InARow(
        *(nn.Conv1d(2, 6, 5, stride=2, padding=2), nn.BatchNorm1d(6), lif(), nn.MaxPool1d(2)),
        *(nn.Conv1d(6, 6, 3), lif(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(6, 4), lif()),
    )


def neurons_as_encoder() -> nn.Module:
    """Neurons that read the scaled input, and some that read averages of spikes: no weights lie before them."""
    return InARow(
        *(nn.BatchNorm2d(2), lif(v_threshold=0.7), nn.Conv2d(2, 4, 3, padding=1), lif(), nn.AvgPool2d(2)),
        *(lif(v_threshold=0.3), nn.Flatten(), nn.Linear(36, 6), lif(), lif(tau=1.5, v_threshold=0.5)),
    )


class TwoDepths(Steps):
    """Two branches of different depth whose currents are added, and two whose spikes are."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.lif0 = nn.Conv2d(2, 4, 3, padding=1), lif()
        self.deep = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), lif(), nn.Conv2d(4, 4, 3, padding=1))
        self.flat, self.lif1 = nn.Conv2d(4, 4, 1), lif()
        self.left = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), lif(), nn.Conv2d(4, 4, 3, padding=1), lif())
        self.right = nn.Sequential(nn.Conv2d(4, 4, 5, padding=2), lif())
        self.fc = nn.Linear(144, 4)

    def one_step(self, x: Tensor) -> Tensor:
        h = self.lif0(self.stem(x))
        h = self.lif1(self.deep(h) + self.flat(h))
        return self.fc((self.left(h) + self.right(h)).flatten(1))  # type: ignore[no-any-return]


class FlatSum(Steps):
    """Maps of spikes that are flattened before they are added, read by neurons and by the readout."""

    def __init__(self, *, hidden: bool) -> None:
        super().__init__()
        self.left, self.right = (nn.Sequential(nn.Conv2d(2, 4, 3), lif(), nn.Flatten()) for _ in range(2))
        self.head = nn.Sequential(nn.Linear(64, 8), lif(), nn.Linear(8, 4)) if hidden else nn.Linear(64, 4)

    def one_step(self, x: Tensor) -> Tensor:
        return self.head(self.left(x) + self.right(x))  # type: ignore[no-any-return]


class SeenOtherwise(Steps):
    """Pixels that become channels between two convolutions."""

    def __init__(self, *, flat: bool) -> None:
        super().__init__()
        self.first, self.flat = nn.Sequential(nn.Conv2d(2, 4, 3), lif()), flat
        self.second = nn.Sequential(
            nn.Conv2d(64 if flat else 16, 4, 1), lif(), nn.Flatten(), nn.Linear(4 if flat else 16, 4)
        )

    def one_step(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.second(h.view(-1, 64, 1, 1) if self.flat else h.view(-1, 16, 2, 2))  # type: ignore[no-any-return]


class PooledShortcut(Steps):
    """Spike-element-wise blocks whose shortcut is max-pooled, and one whose shortcut is averaged before neurons."""

    def __init__(self, *, averaged: bool) -> None:
        super().__init__()
        self.stem, self.lif0 = nn.Conv2d(2, 4, 3, padding=1), lif()
        self.body, self.lif1 = nn.Conv2d(4, 4, 3, stride=2, padding=1), lif()
        self.pool = nn.AvgPool2d(2) if averaged else nn.MaxPool2d(3, 2, 1)
        self.averaged, self.fc = averaged, nn.Linear(36, 4)

    def one_step(self, x: Tensor) -> Tensor:
        h = self.lif0(self.stem(x))
        current, short = self.body(h), self.pool(h)
        h = self.lif1(current + short) if self.averaged else self.lif1(current) + short
        return self.fc(h.flatten(1))  # type: ignore[no-any-return]


class Concatenated(Steps):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Sequential(nn.Conv2d(2, 4, 3), lif()) for _ in range(2))
        self.fc = nn.Linear(128, 4)

    def one_step(self, x: Tensor) -> Tensor:
        return self.fc(torch.cat([self.one(x), self.two(x)], 1).flatten(1))  # type: ignore[no-any-return]


class ScaledShortcut(Steps):
    """Shortcuts that are scaled by a number a channel, in convolutions and in linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.lif0 = nn.Conv2d(2, 4, 3, padding=1), lif()
        self.conv, self.lif1 = nn.Conv2d(4, 4, 3, padding=1), lif()
        self.scale = nn.Parameter(torch.tensor([0.5, 1.0, -0.25, 2.0]).view(1, 4, 1, 1))
        self.fc, self.lif2, self.same, self.lif3 = nn.Linear(144, 8), lif(), nn.Linear(8, 8), lif()

    def one_step(self, x: Tensor) -> Tensor:
        h = self.lif0(self.stem(x))
        h = self.lif1(self.conv(h) + self.scale * h)
        h = self.lif2(self.fc(h.flatten(1)))
        return self.lif3(self.same(h) - 0.5 * h)  # type: ignore[no-any-return]


class DifferentThresholds(Steps):
    """Neurons of snnTorch of three kinds in one network, and a dropout between."""

    def __init__(self) -> None:
        super().__init__()
        snn = snntorch()
        self.conv, self.lif1 = nn.Conv2d(2, 4, 3), snn.Leaky(0.9, threshold=0.3, init_hidden=True)
        self.drop = nn.Dropout2d(0.3)
        self.fc1, self.lif2 = nn.Linear(64, 12), snn.Leaky(1.0, reset_mechanism="zero", init_hidden=True)
        self.fc2, self.lif3 = nn.Linear(12, 6), snn.Leaky(0.25, threshold=2.0, init_hidden=True)

    def one_step(self, x: Tensor) -> Tensor:
        h = self.drop(self.lif1(self.conv(x)))
        h = self.lif3(self.fc2(self.lif2(self.fc1(h.flatten(1)))))
        return h.view(-1, 3, 2).sum(-1)  # type: ignore[no-any-return]


IMAGES = (3, 3, 2, 6, 6)
NETWORKS: dict[str, Odd] = {
    "separable": Odd(separable, (3, 3, 2, 8, 8)),
    "inverted": Odd(inverted, IMAGES),
    "grouped": Odd(grouped, IMAGES),
    "dilated": Odd(dilated, IMAGES, "a dilated convolution has no form"),
    "two-linear-at-the-end": Odd(two_linear_at_the_end, IMAGES),
    "stem-without-neurons": Odd(stem_without_neurons, IMAGES, "layers.2: relu: .* an activation that is no neuron"),
    "stem-of-two-convolutions": Odd(stem_of_two_convolutions, IMAGES, "weights read a current and not spikes"),
    "convolution-at-the-end": Odd(convolution_at_the_end, IMAGES, "no neurons lie between"),
    "fully-convolutional": Odd(fully_convolutional, IMAGES),
    "classes-as-channels": Odd(classes_as_channels, IMAGES),
    "classes-as-windows": Odd(classes_as_windows, IMAGES, "the output is made by an average of pixels"),
    "one-dimension": Odd(one_dimension, (3, 3, 2, 20)),
    "neurons-as-encoder": Odd(neurons_as_encoder, IMAGES),
    "two-depths": Odd(TwoDepths, IMAGES),
    "flat-sum": Odd(lambda: FlatSum(hidden=True), IMAGES),
    "flat-sum-at-the-end": Odd(lambda: FlatSum(hidden=False), IMAGES),
    "pixels-as-channels": Odd(lambda: SeenOtherwise(flat=True), IMAGES),
    "seen-otherwise": Odd(
        lambda: SeenOtherwise(flat=False), IMAGES, r"shape \(4, 4, 4\) as \(16, 2, 2\), which no layer"
    ),
    "pooled-shortcut": Odd(lambda: PooledShortcut(averaged=False), IMAGES),
    "averaged-shortcut": Odd(lambda: PooledShortcut(averaged=True), IMAGES),
    "concatenated": Odd(Concatenated, IMAGES, "cat: a concatenation of channels"),
    "scaled-shortcut": Odd(ScaledShortcut, IMAGES),
    "different-thresholds": Odd(DifferentThresholds, IMAGES),
}
