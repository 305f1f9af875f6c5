"""Turn the columns of a recording, however they are called, into events in microseconds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.data.events.binning import Events
from spquant_search.data.events.clocks import wrapped_at
from spquant_search.data.events.refusals import unfit
from spquant_search.errors import UserError

TIME_UNITS = {"s": (1_000_000, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}  # microseconds: times, divided by
_NAMES = {
    "x": ("x", "xs", "x_coordinate", "x_coordinates", "x_pos", "pos_x", "x_addr", "col", "column"),
    "y": ("y", "ys", "y_coordinate", "y_coordinates", "y_pos", "pos_y", "y_addr", "row"),
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps", "time_stamp", "time_stamps"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
_SHORTEST_US = 1000  # no camera records less on purpose
_FEWEST_MOMENTS = 10  # different times from which anything is concluded
_HIGHEST_US = 2**62  # beyond, differences of times would overflow
_CLOCKS = (31, 32)  # bits of cameras' clocks, which start again after 36 or 72 minutes in microseconds

Columns = Mapping[str, NDArray[Any]]  # x, y, t and p with the values of the file


def names_of_axes(names: Iterable[object]) -> dict[str, str]:
    """Find the name of each of x, y, t, p among ``names``; return nothing unless all four are there."""
    lower = {re.sub(r"[ -]", "_", str(name).strip().lower()): str(name) for name in names}
    found = {axis: lower[known] for axis, aliases in _NAMES.items() for known in reversed(aliases) if known in lower}
    return found if len(found) == len(_NAMES) else {}


def columns_of_table(path: Path, table: NDArray[Any], columns: str | None) -> Columns:
    """Find the columns of a table: by the names of its fields, or in the order that ``columns``, such as xytp, says."""
    if named := names_of_axes(table.dtype.names or ()):
        return {axis: table[name] for axis, name in named.items()}
    if table.dtype.names or table.ndim != 2 or table.shape[1] != 4:
        fields = f"the fields {', '.join(table.dtype.names)}" if table.dtype.names else f"the shape {list(table.shape)}"
        raise unfit(
            path, f"it must be an array with the fields x, y, t, p, or a table with four columns; it has {fields}"
        )
    if columns is None:
        raise nameless(path)
    return {axis: table[:, column] for column, axis in enumerate(columns)}


def nameless(path: Path) -> UserError:
    """Return the error about a table whose columns nobody has named."""
    return UserError(
        f"{path}: has four columns without names; say which is which by data.columns, for example columns: xytp"
    )


def events_of_columns(path: Path, columns: Columns, time_unit: str) -> Events:
    """Check the columns and convert them to events, with times from ``time_unit`` (s, ms, us, ns) to microseconds."""
    problems = []
    lengths = {axis: values.shape for axis, values in columns.items()}
    if len(set(lengths.values())) > 1 or len(lengths["t"]) != 1:
        shown = ", ".join(f"{axis} {list(shape)}" for axis, shape in sorted(lengths.items()))
        raise unfit(path, f"x, y, t and p must be of one length; they have the shapes {shown}")
    for axis, values in columns.items():
        if values.dtype.kind not in "iufb":
            problems.append(f"{axis} holds no numbers but {values.dtype}")
        elif values.dtype.kind == "f" and not np.isfinite(values).all():
            problems.append(f"{axis} holds values that are no finite numbers")
        elif values.dtype.kind == "f" and axis != "t" and (values != np.floor(values)).any():
            problems.append(f"{axis} holds values that are no whole numbers; columns in another order?")
    if problems:
        raise unfit(path, "; ".join(problems))
    with np.errstate(invalid="ignore"):  # numbers beyond 64 bits become others outside the sensor, and are refused
        x, y, p = (columns[axis].astype(np.int64) for axis in "xyp")
    t = _microseconds(path, columns["t"], time_unit)
    _require_one_turn(path, columns["t"], t)
    return Events(x=x, y=y, t=t, p=_off_and_on(p))


def _microseconds(path: Path, times: NDArray[Any], unit: str) -> NDArray[np.int64]:
    """Convert times to microseconds: whole numbers exactly, others to the nearest microsecond."""
    factor, divisor = TIME_UNITS[unit]
    # In floating point: the product may be larger than any whole number of 64 bits.
    inexact = times.astype(np.float64) * factor / divisor
    if len(times) and np.abs(inexact).max() > _HIGHEST_US:
        raise _of_another_unit(path, f"it has times beyond {_HIGHEST_US} us", unit)
    if times.dtype.kind == "f":
        rounded = np.rint(inexact).astype(np.int64)
        _require_resolution(path, inexact, rounded, unit)
        return rounded
    return (times // divisor).astype(np.int64) * factor


def _require_resolution(path: Path, times: NDArray[np.float64], rounded: NDArray[np.int64], unit: str) -> None:
    """Refuse fractions of microseconds that make up a whole recording: its times are in a larger unit."""
    moments = int(np.count_nonzero(np.diff(times))) + 1
    left = int(np.count_nonzero(np.diff(rounded))) + 1
    if moments >= _FEWEST_MOMENTS and 2 * left < moments and (span := float(times.max() - times.min())) < _SHORTEST_US:
        raise _of_another_unit(
            path,
            f"its {moments:,} moments lie within {span:.6g} us, and only {left:,} of them are left in whole "
            "microseconds",
            unit,
        )


def _of_another_unit(path: Path, what: str, unit: str) -> UserError:
    others = ", ".join(other for other in TIME_UNITS if other != unit)
    return UserError(
        f"{path}: {what}, its times read in {unit}. Set data.time_unit to the unit of the file ({others}); where it is "
        f"{unit}, write the file again, or remove it"
    )


def _require_one_turn(path: Path, times: NDArray[Any], t: NDArray[np.int64]) -> None:
    """Refuse a clock that starts again at zero: sorted by time, the events after it would come before the others.

    Such a clock falls from its largest value to zero. It counts what the file does, or microseconds before they were
    converted to the unit of the file.
    """
    if not (np.diff(t) < 0).any():
        return
    short = (16,) if times.dtype == np.uint16 else ()
    for counted, bits, unit in (
        *((times, bits, "the file") for bits in (*short, *_CLOCKS)),
        *((t, bits, "microseconds") for bits in _CLOCKS),
    ):
        if counted.dtype.kind in "iu" and (at := wrapped_at(counted.astype(np.int64), 1 << bits)) is not None:
            raise unfit(
                path,
                f"its clock of {bits} bits starts again at event {at:,}: {counted[at - 1]:,} is followed by "
                f"{counted[at]:,}, in the unit of {unit}; add {1 << bits:,} to the times from there on",
            )


def _off_and_on(polarity: NDArray[np.int64]) -> NDArray[np.int64]:
    """Convert polarities -1 and 1 to 0 and 1; all others stay as they are, and wrong ones are refused later."""
    return (polarity + 1) // 2 if np.isin(polarity, (-1, 1)).all() and (polarity == -1).any() else polarity
