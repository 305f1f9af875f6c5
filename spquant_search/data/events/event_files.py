"""Read the events of a user's recording, in any format that is known.

Files .npy, .npz, .h5, .csv and .txt hold tables or arrays x, y, t, p; the space file gives their time unit and
columns. Files of cameras describe themselves: .raw and .dat (Prophesee), .aedat and .aedat4 (iniVation), and .bin
(N-MNIST's format).
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from spquant_search.data.events.aedat_files import read_aedat
from spquant_search.data.events.binning import Events
from spquant_search.data.events.event_columns import (
    Columns,
    columns_of_table,
    events_of_columns,
    names_of_axes,
    unfit,
)
from spquant_search.data.events.file_kinds import require_kind
from spquant_search.data.events.hdf5_events import read_h5
from spquant_search.data.events.prophesee_dat import read_dat
from spquant_search.data.events.prophesee_raw import read_raw
from spquant_search.data.events.text_events import read_text
from spquant_search.data.events.tonic_readers import damaged, read_aedat4, read_bin
from spquant_search.errors import UserError

TEXT_SUFFIXES = frozenset({".csv", ".txt"})  # notes have them, too
_CAMERAS = {".raw": read_raw, ".dat": read_dat, ".aedat": read_aedat}  # their readers know the sensor's size
EVENT_SUFFIXES = frozenset({".npy", ".npz", ".bin", ".aedat4", ".h5", ".hdf5", *_CAMERAS}) | TEXT_SUFFIXES
FRAMES_KEY = "frames"  # of an .npz with frames that another program has made
_PICKLED = "allow_pickle=False"  # in what numpy says of a pickle


def read_event_file(
    path: Path,
    *,
    time_unit: str,
    columns: str | None,
    stream: str | None = None,
    sensor: tuple[int, int] | None = None,
) -> Events:
    """Read the events of a file in the format that its suffix names.

    ``time_unit`` (s, ms, us, ns) is the unit of times in files that do not say it. ``columns``, such as "xytp", names
    the columns of a table without names. ``stream`` is the group or table of an HDF5 file with several. ``sensor`` is
    the (height, width) of the camera; files that say theirs must agree.

    Raises:
        UserError: the file is damaged, or is not what its suffix says.
    """
    require_kind(path)
    try:
        if (suffix := path.suffix.lower()) == ".bin":
            return read_bin(path)
        if suffix == ".aedat4":
            return read_aedat4(path)
        if suffix in _CAMERAS:
            return _CAMERAS[suffix](path, sensor)
        if suffix == ".npy":
            found = _read_npy(path, columns)
        elif suffix == ".npz":
            found = _read_npz(path, columns)
        elif suffix in TEXT_SUFFIXES:
            found = read_text(path, columns)
        else:
            found = read_h5(path, columns, stream)
        return events_of_columns(path, found, time_unit)
    except MemoryError as error:
        raise UserError(
            f"{path}: its events do not fit into the memory that is free; cut it into shorter recordings"
        ) from error


def _read_npy(path: Path, columns: str | None) -> Columns:
    try:
        with path.open("rb") as file:
            table = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, MemoryError) as error:  # MemoryError: the header promises too much
        raise unread(path, error) from error
    return columns_of_table(path, table, columns)


def _read_npz(path: Path, columns: str | None) -> Columns:
    """Read arrays x, y, t and p, or the only array with events, of a file that np.savez wrote."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise damaged(path, "it is one array, and no file of np.savez")
            if axes := names_of_axes(archive.files):
                return {axis: archive[name] for axis, name in axes.items()}
            if FRAMES_KEY in archive.files and len(archive[FRAMES_KEY].shape) == 4:
                raise UserError(
                    f"{path}: holds frames, and other files of data.root events; keep them in folders of their own"
                )
            if len(archive.files) == 1:
                return columns_of_table(path, archive[archive.files[0]], columns)
            held = ", ".join(archive.files) or "nothing"
    except (OSError, ValueError, MemoryError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise unread(path, error) from error
    except NotImplementedError as error:  # raised for ways of packing that zipfile does not know
        raise damaged(path, str(error)) from error
    raise unfit(path, f"it must hold the arrays x, y, t, p, or one array of events; it holds {held}")


def unread(path: Path, error: Exception) -> UserError:
    """Return the error about a file of numpy that cannot be read, or that holds a pickle."""
    if _PICKLED in str(error):
        return UserError(
            f"{path}: holds a pickled Python object, which is not read, as reading one may run any program; load it "
            "yourself and save its arrays: np.savez(file, x=..., y=..., t=..., p=...)"
        )
    return damaged(path, str(error))
