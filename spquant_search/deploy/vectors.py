"""The test vectors of an artifact: frames, and the spikes and logits that its network must give for them.

With them come the samples by which the network's channels are ordered.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.data.events.binning import MOST_COUNTED
from spquant_search.data.loading import DataSet
from spquant_search.deploy.reference import ModelOutputs
from spquant_search.runs.random_streams import Purpose, random_generator
from spquant_search.space.shapes import InputShape

VECTOR_SAMPLES = 8
ORDER_SAMPLES = 256  # of the training split, whose first samples are balanced
_MEAN_COUNT = 0.5  # of made-up frames


@dataclass(frozen=True, kw_only=True, slots=True)
class Vectors:
    """Samples to compare implementations on: frames [sample, time or 1, channel, row, column], and whose they are.

    Their time steps are the network's, whatever those of the search were.
    """

    frames: NDArray[np.uint8]
    labels: tuple[int, ...] = ()  # empty where the frames are made up
    files: tuple[str, ...] = ()  # paths in the data set, of sets with one file a sample
    # Of training samples, at the time steps of the search: channels are ordered by what gates open on them.
    training: NDArray[np.uint8] | None = None

    def manifest(self) -> dict[str, Any]:
        """Return the part of the manifest that says whose frames they are."""
        samples: list[dict[str, Any]] = [{"class": label} for label in self.labels]
        for sample, file in zip(samples, self.files, strict=False):
            sample["file"] = file.encode("utf-8", "backslashreplace").decode()
        return {"made_up": not samples, "samples": samples}


def at_time_steps(frames: NDArray[np.uint8], time_steps: int) -> NDArray[np.uint8]:
    """Return frames [sample, time or 1, ...] as a device of ``time_steps``, a divisor of theirs, makes them.

    Neighbouring frames are added. Their counts end at 255, as everywhere; the one frame of a still image stays.
    """
    samples, made, *rest = frames.shape
    if made <= time_steps:
        return frames
    added = frames.reshape(samples, time_steps, made // time_steps, *rest).sum(axis=2, dtype=np.int64)
    shown: NDArray[np.uint8] = np.minimum(added, MOST_COUNTED).astype(np.uint8)
    return shown


def vectors_of(data: DataSet, *, time_steps: int) -> Vectors:
    """Return the test split's first samples at ``time_steps``, a divisor of those of the data's frames.

    With them come the first training samples, as they are.
    """
    first = slice(VECTOR_SAMPLES)
    return Vectors(
        frames=at_time_steps(np.array(data.test.frames[first]), time_steps),
        labels=tuple(data.test.labels[first].tolist()),
        files=tuple(file.name for file in data.test.files[first]),
        training=data.train.frames[:ORDER_SAMPLES],
    )


def made_up_vectors(shape: InputShape, *, frames: int, time_steps: int) -> Vectors:
    """Draw random counts, always the same ones, of so many frames a sample, and return them at ``time_steps``."""
    size = (VECTOR_SAMPLES, frames, shape.channels, shape.height, shape.width)
    counts = random_generator(0, Purpose.TEST_VECTORS).poisson(_MEAN_COUNT, size)
    return Vectors(frames=at_time_steps(counts.clip(max=shape.largest).astype(np.uint8), time_steps))


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
