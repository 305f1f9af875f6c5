"""Samples that were given in Python, as arrays or data sets and not by a function: kept in the cache by their content.

A function can be called again by every command. What was given to a call is there no more once its process has ended,
so a run names these samples by their key, which follows from their content, and finds them in the cache. There they
stay until somebody deletes them; giving the same samples again makes the same file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from spquant_search.data.cache import Block, read_or_build
from spquant_search.data.from_python.returned import Part, checked
from spquant_search.data.from_python.samples import (
    PYTHON_VERSION,
    Progress,
    PythonSamples,
    looked,
    notes_in,
    read_samples,
)
from spquant_search.data.from_python.values import Unfit, as_array
from spquant_search.errors import OptionError, UserError
from spquant_search.runs.documents import read_document, write_document
from spquant_search.space.schema import DataSpace

GIVEN = "search()"  # who gave the samples, in sentences
KEY_LENGTH = 16
_BLOCK = 1024  # samples whose bytes are hashed together


def keep_samples(
    given: tuple[Any, ...], *, time_steps: int, seed: int, folder: Path, progress: Progress | None = None
) -> str:
    """Read samples, given as (train, validation, test) and perhaps names of classes, and return their key.

    Each of the three is (inputs, labels) or a data set of pairs, as a user's function may return them; validation and
    test may be None. Arrays in memory that were read before are not read again.

    Raises:
        UserError: a sample, a label or a whole split cannot be taken; names it.
    """
    try:
        returned = checked(GIVEN, given)
        options = DataSpace(name="python", build=GIVEN, split_seed=seed)
        look = looked(returned, options, time_steps, {"token": uuid4().hex})
        content = _content_of([*returned.parts], [*returned.classes], time_steps)
        pointer = None if content is None else folder / f"given-latest-{content}.json"
        if pointer is not None and (known := _key_in(pointer, folder)) is not None:
            return known
        samples = read_samples(look, folder, progress)
    except OptionError as error:
        raise UserError("\n".join(problem.sentence for problem in error.problems)) from None
    key = _key_of(samples)
    for file in (folder / samples.file, (folder / samples.file).with_suffix(".json")):
        os.replace(file, given_file(folder, key).with_suffix(file.suffix))
    if pointer is not None:
        write_document(pointer, key)
    return key


def given_samples(key: str, folder: Path) -> PythonSamples:
    """Open samples by their key.

    Raises:
        UserError: the cache does not hold them any more.
    """
    path = given_file(folder, key)

    def gone() -> Iterator[Block]:
        raise UserError(
            f"data.samples: the samples {key}, which were given in Python, are not in the cache ({folder}); start the "
            "search again in Python with the same samples, which keeps them again"
        )

    known = notes_in(path.with_suffix(".json"))
    if known is None:
        gone()
    assert known is not None
    frames = read_or_build(path, (len(known.labels), *known.form.frames), gone)
    return PythonSamples(known=known, frames=frames, file=path.name)


def given_time_steps(train: Any) -> int | None:
    """Return the time steps that frames of train were given with; None of images, and of what is no sample.

    What is wrong with it is told when the samples are kept.
    """
    try:
        part = checked(GIVEN, (train, None, None)).parts[0]
        shape = as_array(part.sample(0)[0]).shape
    except (UserError, Unfit):
        return None
    return int(shape[0]) if len(shape) == 4 else None


def given_file(folder: Path, key: str) -> Path:
    """Return the file of the cache that holds the frames of samples with this key."""
    return folder / f"given-samples-{key}.npy"


def _key_of(samples: PythonSamples) -> str:
    known = samples.known
    content = [known.digest, known.lengths, known.classes, known.shape, known.time_steps, PYTHON_VERSION]
    return _short_digest(content)


def _key_in(pointer: Path, folder: Path) -> str | None:
    """Return the key that arrays of the same content have had, where their file is still there."""
    if not pointer.is_file():
        return None
    key = read_document(pointer, str)
    path = given_file(folder, key)
    return key if path.is_file() and notes_in(path.with_suffix(".json")) is not None else None


def _content_of(parts: list[Part], classes: list[str], time_steps: int) -> str | None:
    """Return a digest of all values of arrays in memory; None where a part is something else, read sample by sample."""
    digests = []
    for part in parts:
        arrays = [_array(values) for values in (part.inputs, part.labels)]
        digests += [None if array is None else _digest(array) for array in arrays]
    if None in digests:
        return None
    return _short_digest([digests, [part.split for part in parts], classes, time_steps, PYTHON_VERSION])


def _array(values: Any) -> NDArray[Any] | None:
    if hasattr(values, "detach") and hasattr(values, "cpu"):
        values = values.detach().cpu().numpy()
    return values if isinstance(values, np.ndarray) and values.dtype.kind in "biuf" else None


def _digest(array: NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    for start in range(0, len(array), _BLOCK):
        digest.update(np.ascontiguousarray(array[start : start + _BLOCK]).view(np.uint8).data)
    return digest.hexdigest()


def _short_digest(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:KEY_LENGTH]
