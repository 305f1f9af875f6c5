"""Which members of a front have a form in integers, and the frames of the test vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spquant_search.costs.device import kept_in_floats
from spquant_search.data.loading import DataSet
from spquant_search.runs.results import TrialResult
from spquant_search.space.shapes import InputShape
from spquant_search.training.prepared import Prepared

VECTOR_SAMPLES = 8
_COUNT = 0.5  # mean of made-up counts


def floats_of(prepared: Prepared, member: TrialResult) -> dict[str, str]:
    """What of a member is floating point, by layer; empty where it has a form in integers."""
    kept = {
        shape.name: kept_in_floats(member.config[shape.name], has_weights=shape.has_weights)
        for shape in prepared.shapes
    }
    return {name: what for name, what in kept.items() if what is not None}


def vector_frames(data: DataSet) -> NDArray[np.uint8]:
    """The frames of the test vectors: the test split's first samples."""
    return np.array(data.test.frames[:VECTOR_SAMPLES])


def made_frames(shape: InputShape, *, time_steps: int) -> NDArray[np.uint8]:
    """Counts at random, always the same."""
    size = (VECTOR_SAMPLES, time_steps, shape.channels, shape.height, shape.width)
    return np.random.default_rng(0).poisson(_COUNT, size).clip(max=shape.largest).astype(np.uint8)
