"""The test vectors of an artifact: frames, and the spikes and logits that its network must give for them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.data.loading import DataSet
from spquant_search.deploy.reference import ModelOutputs
from spquant_search.runs.random_streams import Purpose, random_generator
from spquant_search.space.shapes import InputShape

VECTOR_SAMPLES = 8
_MEAN_COUNT = 0.5  # of made-up frames


@dataclass(frozen=True, kw_only=True, slots=True)
class Vectors:
    """Samples to compare implementations on: frames [sample, time or 1, channel, row, column], and whose they are."""

    frames: NDArray[np.uint8]
    labels: tuple[int, ...] = ()  # empty where the frames are made up
    files: tuple[str, ...] = ()  # paths in the data set, of sets with one file a sample

    def manifest(self) -> dict[str, Any]:
        """Return the part of the manifest that says whose frames they are."""
        samples: list[dict[str, Any]] = [{"class": label} for label in self.labels]
        for sample, file in zip(samples, self.files, strict=False):
            sample["file"] = file.encode("utf-8", "backslashreplace").decode()
        return {"made_up": not samples, "samples": samples}


def first_test_samples(data: DataSet) -> Vectors:
    """Return the test split's first samples."""
    first = slice(VECTOR_SAMPLES)
    return Vectors(
        frames=np.array(data.test.frames[first]),
        labels=tuple(data.test.labels[first].tolist()),
        files=tuple(file.name for file in data.test.files[first]),
    )


def made_up_vectors(shape: InputShape, *, frames: int) -> Vectors:
    """Draw random counts, which are always the same, of samples of so many frames."""
    size = (VECTOR_SAMPLES, frames, shape.channels, shape.height, shape.width)
    counts = random_generator(0, Purpose.TEST_VECTORS).poisson(_MEAN_COUNT, size)
    return Vectors(frames=counts.clip(max=shape.largest).astype(np.uint8))


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
