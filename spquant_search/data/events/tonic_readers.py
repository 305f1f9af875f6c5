"""Read the events of one file of a published data set by tonic's readers; no other module imports tonic.

tonic is under the GPL-3.0-only licence, this package under MIT: tonic is not among its requirements, is not
distributed with it, and is imported only when a recording is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.data.events.binning import Events
from spquant_search.data.events.numpy_files import saved_array
from spquant_search.data.events.refusals import damaged
from spquant_search.errors import UserError

_BIN_RECORD = 5  # bytes of an event
_XYTP = np.dtype([(name, np.int64) for name in "xytp"])


def read_bin(path: Path) -> Events:
    """Read a file of N-MNIST or N-Caltech101: 40 bits an event, big-endian: x, y, polarity (1), time in us (23)."""
    reader = _tonic_io()
    try:
        size = path.stat().st_size
        if size % _BIN_RECORD:
            raise damaged(path, f"its {size} bytes are no whole number of {_BIN_RECORD}-byte events")
        return _events(reader.read_mnist_file(str(path), dtype=_XYTP), "xytp")
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error


def read_gesture(path: Path) -> Events:
    """Read a gesture of DVS128 Gesture: rows x, y, polarity, time in ms.

    tonic reads these files only in the class of its data set, which multiplies the times in the type of the file:
    small integers overflow there.
    """
    table = saved_array(path)
    if table.ndim != 2 or table.shape[1] != 4 or table.dtype.kind not in "iuf":
        raise damaged(path, "it is no table of numbers with four columns")
    if not np.isfinite(table).all():
        raise damaged(path, "it holds values that are no finite numbers")
    x, y, p = (table[:, column].astype(np.int64) for column in range(3))
    return Events(x=x, y=y, t=np.rint(table[:, 3].astype(np.float64) * 1000.0).astype(np.int64), p=p)


def _events(records: NDArray[Any], names: tuple[str, ...] | str) -> Events:
    return Events(*(np.asarray(records[name]).astype(np.int64) for name in names))


def _tonic_io() -> Any:
    """Import tonic's readers, which takes seconds, as tonic imports torch."""
    try:
        from tonic import io  # type: ignore  # has no annotations, and may be absent
    except ImportError as error:
        raise UserError(
            f"reading these recordings needs tonic, which cannot be imported ({error}); "
            "pip install tonic (its licence is GPL-3.0)"
        ) from error
    return io
