"""Read the events of a user's recording, in any format that is known.

Files .npy and .h5 hold tables or arrays x, y, t, p; the space file gives their time unit and columns. Files .bin
(N-MNIST's format) and .aedat4 (iniVation's cameras) describe themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.data.events.binning import Events
from spquant_search.data.events.tonic_readers import damaged, read_aedat4, read_bin
from spquant_search.errors import UserError

EVENT_SUFFIXES = frozenset({".npy", ".bin", ".aedat4", ".h5", ".hdf5"})
_US = {"s": (1_000_000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}  # microseconds: times, divided by
_NAMES = {
    "x": ("x",),
    "y": ("y",),
    "t": ("t", "ts", "time", "timestamp", "timestamps"),
    "p": ("p", "pol", "polarity", "on"),
}
_HIGHEST_US = 2**62  # beyond, differences of times would overflow

Columns = Mapping[str, NDArray[Any]]  # x, y, t and p with the values of the file


def read_event_file(path: Path, *, time_unit: str, columns: str | None) -> Events:
    """Read the events of a file in the format that its suffix names.

    ``time_unit`` (s, ms, us, ns) is the unit of times in .npy and .h5. ``columns``, such as "xytp", names the columns
    of a table without names.
    """
    if (suffix := path.suffix.lower()) == ".bin":
        return read_bin(path)
    if suffix == ".aedat4":
        return read_aedat4(path)
    read = _read_npy if suffix == ".npy" else _read_h5
    return _events(path, read(path, columns), time_unit)


def _read_npy(path: Path, columns: str | None) -> Columns:
    try:
        with path.open("rb") as file:
            table = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, MemoryError) as error:  # MemoryError: the header promises too much
        raise damaged(path, str(error)) from error
    return _columns_of(path, table, columns)


def _read_h5(path: Path, columns: str | None) -> Columns:
    try:
        h5py = import_module("h5py")
    except ImportError as error:
        raise UserError(
            f"{path}: reading it needs h5py, which cannot be imported ({error}); pip install h5py"
        ) from error
    try:
        with h5py.File(path, "r") as file:
            return _columns_of_h5(path, file, columns, dataset=h5py.Dataset)
    except (OSError, RuntimeError, KeyError) as error:  # raised by h5py for a damaged file
        raise damaged(path, str(error)) from error


def _columns_of_h5(path: Path, file: Any, columns: str | None, *, dataset: type) -> Columns:
    """Return the columns of the only group that holds x, y, t and p, or of the only table of events."""
    groups, tables = [], []

    def look(name: str, node: Any) -> None:
        if isinstance(node, dataset):
            if _is_table(node):
                tables.append(name)
        elif hasattr(node, "keys") and _by_name(key for key in node if isinstance(node.get(key), dataset)):
            groups.append(name)

    look("/", file)
    file.visititems(look)
    found = groups or tables
    if len(found) != 1:
        held = f"{', '.join(found)} all hold events" if found else f"it holds {', '.join(file) or 'nothing'}"
        raise _unfit(
            path,
            "it must hold one group with datasets x, y, t, p, or one dataset with these fields or four columns; "
            + held,
        )
    node = file[found[0]]
    if not groups:
        return _columns_of(path, node[()], columns)
    return {axis: np.asarray(node[name][()]) for axis, name in _by_name(node.keys()).items()}


def _is_table(node: Any) -> bool:
    shape: tuple[int, ...] = node.shape or ()  # a dataset without values has none
    return bool(_by_name(node.dtype.names or ())) or (len(shape) == 2 and shape[1] == 4)


def _by_name(names: Any) -> dict[str, str]:
    """Find the name of each of x, y, t, p among ``names``; return nothing unless all four are there."""
    lower = {str(name).lower(): str(name) for name in names}
    found = {axis: lower[known] for axis, aliases in _NAMES.items() for known in reversed(aliases) if known in lower}
    return found if len(found) == len(_NAMES) else {}


def _columns_of(path: Path, table: NDArray[Any], columns: str | None) -> Columns:
    if named := _by_name(table.dtype.names or ()):
        return {axis: table[name] for axis, name in named.items()}
    if table.dtype.names or table.ndim != 2 or table.shape[1] != 4:
        fields = f"the fields {', '.join(table.dtype.names)}" if table.dtype.names else f"the shape {list(table.shape)}"
        raise _unfit(
            path, f"it must be an array with the fields x, y, t, p, or a table with four columns; it has {fields}"
        )
    if columns is None:
        raise UserError(
            f"{path}: has four columns without names; say which is which by data.columns, for example columns: xytp"
        )
    return {axis: table[:, column] for column, axis in enumerate(columns)}


def _events(path: Path, columns: Columns, time_unit: str) -> Events:
    problems = []
    lengths = {axis: values.shape for axis, values in columns.items()}
    if len(set(lengths.values())) > 1 or len(lengths["t"]) != 1:
        shown = ", ".join(f"{axis} {list(shape)}" for axis, shape in sorted(lengths.items()))
        raise _unfit(path, f"x, y, t and p must be of one length; they have the shapes {shown}")
    for axis, values in columns.items():
        if values.dtype.kind not in "iufb":
            problems.append(f"{axis} holds no numbers but {values.dtype}")
        elif values.dtype.kind == "f" and not np.isfinite(values).all():
            problems.append(f"{axis} holds values that are no finite numbers")
        elif values.dtype.kind == "f" and axis != "t" and (values != np.floor(values)).any():
            problems.append(f"{axis} holds values that are no whole numbers; columns in another order?")
    if problems:
        raise _unfit(path, "; ".join(problems))
    with np.errstate(invalid="ignore"):  # numbers beyond 64 bits become others outside the sensor, and are refused
        x, y, p = (columns[axis].astype(np.int64) for axis in "xyp")
    return Events(x=x, y=y, t=_microseconds(path, columns["t"], time_unit), p=_off_and_on(p))


def _microseconds(path: Path, times: NDArray[Any], unit: str) -> NDArray[np.int64]:
    """Convert times to microseconds: whole numbers exactly, others to the nearest microsecond."""
    factor, divisor = _US[unit]
    # In floating point: the product may be larger than any whole number of 64 bits.
    inexact = times.astype(np.float64) * factor / divisor
    if len(times) and np.abs(inexact).max() > _HIGHEST_US:
        raise _unfit(path, f"it has times beyond {_HIGHEST_US} us; is data.time_unit, now {unit}, that of the file?")
    if times.dtype.kind == "f":
        return np.rint(inexact).astype(np.int64)
    return (times // divisor).astype(np.int64) * factor


def _off_and_on(polarity: NDArray[np.int64]) -> NDArray[np.int64]:
    """Convert polarities -1 and 1 to 0 and 1; all others stay as they are, and wrong ones are refused later."""
    return (polarity + 1) // 2 if np.isin(polarity, (-1, 1)).all() and (polarity == -1).any() else polarity


def _unfit(path: Path, why: str) -> UserError:
    return UserError(f"{path}: {why}. Write the file again, or remove it")
