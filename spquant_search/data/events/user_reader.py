"""Read the events of recordings by a function of the user's, for formats that nothing here reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from spquant_search.data.events.binning import Events
from spquant_search.data.events.event_columns import Columns, columns_of_table, events_of_columns, names_of_axes
from spquant_search.errors import UserError
from spquant_search.space.user_functions import FAILURES, NoSuchFunction, failure_lines, find_function, prints_aside

_AXES = "xytp"


def read_by_function(path: Path, *, reader: str, code: str, time_unit: str, columns: str | None) -> Events:
    """Call the function at ``reader`` ("package.module:function") with a path; it returns the events of that file.

    ``code`` is the digest of the function's code, which makes frames anew where it has changed. ``time_unit`` and
    ``columns`` are as in :func:`spquant_search.data.events.event_files.read_event_file`.

    Raises:
        UserError: there is no such function, it fails, or returns no events.
    """
    try:
        function = find_function(reader)
    except NoSuchFunction as error:
        raise UserError(f"data.reader: {error}") from error
    try:
        with prints_aside():
            returned = function(path)
    except FAILURES as error:
        raise UserError(f"{path}: {reader} failed: {failure_lines(error)}") from error
    return events_of_columns(path, _columns_of(path, reader, returned, columns), time_unit)


def _columns_of(path: Path, reader: str, returned: object, columns: str | None) -> Columns:
    """Find x, y, t and p in a dict, in four arrays in this order, or in a table or an array with fields."""
    if isinstance(returned, Mapping) and (axes := names_of_axes(returned)):
        return {axis: np.asarray(returned[name]) for axis, name in axes.items()}
    if isinstance(returned, tuple | list) and len(returned) == len(_AXES):
        return {axis: np.asarray(values) for axis, values in zip(_AXES, returned, strict=True)}
    if isinstance(returned, np.ndarray):
        return columns_of_table(path, returned, columns)
    held = f" with {', '.join(map(str, list(returned)[:5]))}" if isinstance(returned, Mapping) else ""
    raise UserError(
        f"{path}: {reader} must return four arrays (x, y, t, p), a dict of them, or an array with these fields; got "
        f"an object of type {type(returned).__name__}{held}"
    )
