"""Read events from HDF5 files: of one group or table, of several when it is said which, and compressed ones."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from spquant_search.data.events.event_columns import Columns, columns_of_table, names_of_axes
from spquant_search.data.events.refusals import damaged_if_it_fails, unfit
from spquant_search.errors import UserError

_ECF = 0x8ECF  # the filter of Prophesee's event compression format, which no package on PyPI brings


def read_h5(path: Path, columns: str | None, stream: str | None) -> Columns:
    """Read the columns x, y, t, p of a file; ``stream`` is the group or table with events where there are several.

    Raises:
        UserError: h5py or what unpacks the file is missing, or it is damaged or holds no events.
    """
    try:
        h5py = import_module("h5py")
    except ImportError as error:
        raise UserError(
            f"{path}: reading it needs h5py, which cannot be imported ({error}); pip install h5py"
        ) from error
    with damaged_if_it_fails(path), h5py.File(path, "r") as file:
        return _columns_of_file(path, file, columns, stream, h5py)


def _columns_of_file(path: Path, file: Any, columns: str | None, stream: str | None, h5py: Any) -> Columns:
    """Return the columns of the group that holds x, y, t and p, or of the table of events."""
    groups, tables = [], []

    def look(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            if _is_table(node):
                tables.append(name)
        elif hasattr(node, "keys") and names_of_axes(key for key in node if isinstance(node.get(key), h5py.Dataset)):
            groups.append(name)

    look("/", file)
    file.visititems(look)
    name = _chosen(path, groups or tables, stream, list(file))
    node = file[name]
    if name in groups:
        parts = {axis: node[key] for axis, key in names_of_axes(node.keys()).items()}
        for part in parts.values():
            _require_filters(path, part, h5py)
        return {axis: np.asarray(part[()]) for axis, part in parts.items()}
    _require_filters(path, node, h5py)
    return columns_of_table(path, node[()], columns)


def _chosen(path: Path, found: list[str], stream: str | None, held: list[str]) -> str:
    """Return the only group or table with events, or that which ``stream`` names by its path or a part of it."""
    if stream is not None:
        wanted = stream.strip("/").split("/")
        named = [name for name in found if _holds(name.strip("/").split("/"), wanted)]
        if len(named) != 1:
            which = "several of" if named else "none of"
            raise UserError(
                f"{path}: data.stream {stream!r} names {which} what holds events in it: {', '.join(found) or 'nothing'}"
            )
        return named[0]
    if len(found) > 1:
        raise UserError(
            f"{path}: {', '.join(found)} all hold events; say which of them to read by data.stream, for example "
            f"stream: {found[0]}"
        )
    if not found:
        raise unfit(
            path,
            "it must hold one group with datasets x, y, t, p, or one dataset with these fields or four columns; "
            f"it holds {', '.join(held) or 'nothing'}",
        )
    return found[0]


def _holds(parts: list[str], wanted: list[str]) -> bool:
    return any(parts[at : at + len(wanted)] == wanted for at in range(len(parts)))


def _is_table(node: Any) -> bool:
    shape: tuple[int, ...] = node.shape or ()  # a dataset without values has none
    return bool(names_of_axes(node.dtype.names or ())) or (len(shape) == 2 and shape[1] == 4)


def _require_filters(path: Path, dataset: Any, h5py: Any) -> None:
    """Refuse a dataset that HDF5 cannot unpack, after hdf5plugin, if it is installed, has brought its filters."""
    made_with = dataset.id.get_create_plist()
    filters = [made_with.get_filter(at) for at in range(made_with.get_nfilters())]
    if all(h5py.h5z.filter_avail(number) for number, *_ in filters):
        return
    with suppress(ImportError):
        import_module("hdf5plugin")
    for number, _, _, name in filters:
        if not h5py.h5z.filter_avail(number):
            called = f" ({name.decode(errors='replace')})" if name else ""
            how = (
                "Prophesee's ECF plugin, which comes with its software (Metavision, OpenEB), and HDF5_PLUGIN_PATH"
                if number == _ECF
                else "pip install hdf5plugin"
            )
            raise UserError(f"{path}: is compressed with HDF5's filter {number}{called}, which is not there; {how}")
