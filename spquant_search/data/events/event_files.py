"""Read the events of a user's recording, in any format that is known.

Files .npy, .npz, .h5, .csv and .txt hold tables or arrays x, y, t, p; the space file gives their time unit and
columns. Files of cameras describe themselves: .raw and .dat (Prophesee), .aedat and .aedat4 (iniVation), and .bin
(N-MNIST's format).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from spquant_search.data.events.aedat4_files import read_aedat4
from spquant_search.data.events.aedat_files import read_aedat
from spquant_search.data.events.binning import Events
from spquant_search.data.events.event_columns import events_of_columns
from spquant_search.data.events.file_kinds import require_kind
from spquant_search.data.events.hdf5_events import read_h5
from spquant_search.data.events.numpy_files import read_npy, read_npz
from spquant_search.data.events.prophesee_dat import read_dat
from spquant_search.data.events.prophesee_raw import read_raw
from spquant_search.data.events.refusals import too_large
from spquant_search.data.events.text_events import read_text
from spquant_search.data.events.tonic_readers import read_bin
from spquant_search.data.file_listing import ANY_FILE
from spquant_search.space.schema import DataSpace

TEXT_SUFFIXES = frozenset({".csv", ".txt"})  # notes have them, too
_CAMERAS = {".raw": read_raw, ".dat": read_dat, ".aedat": read_aedat, ".aedat4": read_aedat4}  # these say their sensor
EVENT_SUFFIXES = frozenset({".npy", ".npz", ".bin", ".h5", ".hdf5", *_CAMERAS}) | TEXT_SUFFIXES


def event_suffixes(options: DataSpace) -> Collection[str]:
    """Return the suffixes of the files that are recordings: any, where a function of the user's reads them."""
    return EVENT_SUFFIXES if options.reader is None else ANY_FILE


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
        if suffix in _CAMERAS:
            return _CAMERAS[suffix](path, sensor)
        if suffix == ".npy":
            found = read_npy(path, columns)
        elif suffix == ".npz":
            found = read_npz(path, columns)
        elif suffix in TEXT_SUFFIXES:
            found = read_text(path, columns)
        else:
            found = read_h5(path, columns, stream)
        return events_of_columns(path, found, time_unit)
    except MemoryError as error:
        raise too_large(path) from error
