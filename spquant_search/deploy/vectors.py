"""The test vectors of an artifact: frames, and what its network gives for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spquant_search.data.loading import DataSet
from spquant_search.space.shapes import InputShape

VECTOR_SAMPLES = 8
_COUNT = 0.5  # mean of made-up counts


def first_test_frames(data: DataSet) -> NDArray[np.uint8]:
    """The frames of the test vectors: the test split's first samples."""
    return np.array(data.test.frames[:VECTOR_SAMPLES])


def made_up_frames(shape: InputShape, *, time_steps: int) -> NDArray[np.uint8]:
    """Counts at random, always the same."""
    size = (VECTOR_SAMPLES, time_steps, shape.channels, shape.height, shape.width)
    return np.random.default_rng(0).poisson(_COUNT, size).clip(max=shape.largest).astype(np.uint8)
