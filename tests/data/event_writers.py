"""Write recordings in every format that is read, and count their events into frames by a plain loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

Rows = NDArray[np.int64]  # [event, 4]: x, y, t in us, polarity
HEIGHT, WIDTH = 20, 24  # pixels of the camera whose recordings a user has
USER_DTYPE = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("p", "?")])


def made_up_events(seed: int, width: int, height: int, count: int = 60, step_us: int = 1) -> Rows:
    """Draw events in the order of time, within 300 ms."""
    generator = np.random.default_rng(seed)
    times = np.sort(generator.integers(0, 300_000 // step_us, count)) * step_us
    places = (generator.integers(0, width, count), generator.integers(0, height, count))
    return np.stack([*places, times, generator.integers(0, 2, count)], axis=1)


def write_bin(path: Path, rows: Iterable[Sequence[int]]) -> None:
    """Write 40 bits an event, as on the page that publishes N-MNIST."""
    path.write_bytes(
        b"".join((int(x) << 32 | int(y) << 24 | int(p) << 23 | int(t)).to_bytes(5, "big") for x, y, t, p in rows)
    )


def write_aedat4(path: Path, rows: Rows) -> None:
    dv = pytest.importorskip("dv_processing")
    pytest.importorskip("aedat")
    config = dv.io.MonoCameraWriter.EventOnlyConfig("DVS", (128, 128))
    writer = dv.io.MonoCameraWriter(str(path), config)
    store = dv.EventStore()
    for x, y, t, p in rows.tolist():
        store.push_back(1_600_000_000_000_000 + t, x, y, bool(p))  # the time of day, as in the published files
    writer.writeEvents(store)


def write_gesture(path: Path, rows: Rows) -> None:
    x, y, t, p = rows.T
    np.save(path, np.stack([x, y, p, t // 1000], axis=1).astype(np.uint16))


def frames_by_loop(rows: Rows, time_steps: int, height: int, width: int, sensor: tuple[int, int]) -> NDArray[np.int64]:
    """Count a recording into frames, one event after the other."""
    counts = np.zeros((time_steps, 2, height, width), np.int64)
    first, last = rows[0, 2], rows[-1, 2]
    for x, y, t, p in rows.tolist():
        counts[(t - first) * time_steps // (last - first + 1), p, y * height // sensor[0], x * width // sensor[1]] += 1
    return counts


def structured(rows: Rows, dtype: np.dtype[Any] = USER_DTYPE) -> NDArray[Any]:
    table = np.empty(len(rows), dtype)
    for column, name in zip(rows.T, "xytp", strict=True):
        table[next(field for field in dtype.names or () if field.lower().startswith(name))] = column
    return table


def write_structured(path: Path, rows: Rows) -> None:
    np.save(path, structured(rows))


def write_group(path: Path, rows: Rows) -> None:
    with h5py.File(path, "w") as file:
        file["calibration"] = np.eye(3)
        for column, name in zip(rows.T, ("x", "y", "timestamp", "polarity"), strict=True):
            file[f"cd/events/{name}"] = column


def write_dataset(path: Path, rows: Rows) -> None:
    with h5py.File(path, "w") as file:
        file["events"] = structured(rows, np.dtype([("x", "i4"), ("y", "i4"), ("ts", "i8"), ("pol", "i1")]))
