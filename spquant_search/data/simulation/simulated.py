"""Simulate recordings of still images as frames; load the images that come with the package."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from importlib import resources

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from spquant_search.data.cache import Block, Shape
from spquant_search.data.images.stills import Images
from spquant_search.data.simulation.saccades import (
    DURATION_US,
    POLARITIES,
    SACCADE_MARGIN,
    SIMULATION_VERSION,
    Camera,
    simulate_frames,
)

MOST_TIME_STEPS = DURATION_US // Camera().step_us  # a frame shorter than a simulation's step shows nothing more

_BLOCK_LENGTH = 256  # samples; they take a fraction of a second


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedFrames:
    """Images of a split and the camera that records them.

    Samples are numbered from ``first_number`` on: no two share their noise.
    """

    images: UInt8[np.ndarray, "sample rows columns"] | Images
    first_number: int
    time_steps: int
    camera: Camera = field(default_factory=Camera)

    @property
    def shape(self) -> Shape:
        """The shape of all frames: [sample, time, polarity, height, width]."""
        return (self.images.shape[0], self.time_steps, POLARITIES, self.camera.height, self.camera.width)

    def recipe(self) -> dict[str, object]:
        """Return everything that shapes the frames and the code's version, as JSON."""
        return {
            **(_array_recipe(self.images) if isinstance(self.images, np.ndarray) else self.images.recipe()),
            "first_number": self.first_number,
            "time_steps": self.time_steps,
            "camera": asdict(self.camera),
            "simulation_version": SIMULATION_VERSION,
        }

    @property
    def block_length(self) -> int:
        return _BLOCK_LENGTH

    @property
    def is_slow(self) -> bool:
        return True

    @property
    def numbers(self) -> int:
        return self.time_steps + 1

    def block(self, chosen: slice) -> Block:
        """Simulate the frames of the samples chosen, and count the events in them; none is left out."""
        numbers = self.first_number + np.arange(self.images.shape[0])[chosen]
        frames = simulate_frames(self.images[chosen], numbers, time_steps=self.time_steps, camera=self.camera)
        counts = np.zeros((len(frames), self.numbers), np.int64)
        counts[:, : self.time_steps] = frames.sum(axis=(2, 3, 4), dtype=np.uint32)
        return Block(frames, counts)


def _array_recipe(images: NDArray[np.uint8]) -> dict[str, object]:
    return {"images": hashlib.sha256(images.tobytes()).hexdigest(), "image_shape": images.shape}


def camera_for(size: tuple[int, int]) -> Camera:
    """Return a sensor with room for the saccades of an image of ``size`` (height, width), in pixels."""
    return Camera(height=size[0] + SACCADE_MARGIN, width=size[1] + SACCADE_MARGIN)


def fashion_mnist() -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Load the images [sample, 28, 28] and labels of each split; fashion_mnist/README.md says where they are from."""
    source = resources.files("spquant_search.data") / "fashion_mnist" / "images.npz"
    with source.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {
            split: (arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in ("train", "validation", "test")
        }
