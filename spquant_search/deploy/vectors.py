"""The test vectors of an artifact: frames, and the spikes and logits that its network must give for them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.data.loading import DataSet
from spquant_search.deploy.reference import ModelOutputs
from spquant_search.runs.random_streams import Purpose, random_generator
from spquant_search.space.shapes import InputShape

VECTOR_SAMPLES = 8
_MEAN_COUNT = 0.5  # of made-up frames


def first_test_frames(data: DataSet) -> NDArray[np.uint8]:
    """Return the frames of the test split's first samples, [sample, time or 1, channel, row, column]."""
    return np.array(data.test.frames[:VECTOR_SAMPLES])


def made_up_frames(shape: InputShape, *, time_steps: int) -> NDArray[np.uint8]:
    """Draw random counts [sample, time, channel, row, column], which are always the same."""
    size = (VECTOR_SAMPLES, time_steps, shape.channels, shape.height, shape.width)
    return random_generator(0, Purpose.TEST_VECTORS).poisson(_MEAN_COUNT, size).clip(max=shape.largest).astype(np.uint8)


def vectors_file(frames: NDArray[np.uint8], outputs: ModelOutputs, steps: Sequence[dict[str, Any]]) -> bytes:
    """Return the content of ``test_vectors.npz``; spikes are packed eight to a byte.

    A layer's array is called as the layer is in C: names of layers need not be names of files.
    """
    arrays = {"frames": frames, "logits": outputs.logits}
    identifiers = {step["name"]: step["identifier"] for step in steps}
    arrays |= {f"spikes.{identifiers[name]}": np.packbits(fired) for name, fired in outputs.spikes.items()}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()
