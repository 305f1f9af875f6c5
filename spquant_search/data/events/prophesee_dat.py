"""Read Prophesee's .dat recordings: a header of text, the type and size of an event, and events of 8 bytes.

The format is documented at https://docs.prophesee.ai/stable/data/file_formats/dat.html.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spquant_search.data.events.binning import Events
from spquant_search.data.events.camera_files import read_header, require_sensor, size_in
from spquant_search.data.events.clocks import nearest_turns
from spquant_search.data.events.refusals import damaged
from spquant_search.errors import UserError

_CHANGES = (0x00, 0x0C)  # types of events that are changes of contrast; the others are triggers and the like
_EVENT = np.dtype([("t", "<u4"), ("data", "<u4")])
_LAYOUTS = {1: (9, 8), 2: (14, 14)}  # bits of x and of y by the version; the next one is the polarity


def read_dat(path: Path, sensor: tuple[int, int] | None) -> Events:
    """Read the events of a .dat file; ``sensor`` is (height, width) where it is known, and compared with the file's.

    Raises:
        UserError: the file is damaged, of another sensor or version, or holds no changes of contrast.
    """
    try:
        with path.open("rb") as file:
            header = read_header(file, b"%")
            kind, content = file.read(2), file.read()
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error
    if not header:
        raise damaged(path, "it does not begin with the header of a .dat file (% Data file ...)")
    layout = _LAYOUTS.get(_number(header.get("version", "")))
    if layout is None:
        said = header.get("version")
        raise UserError(
            f"{path}: its header names {f'the version {said[:20]!r}' if said else 'no version'}, where 1 and 2 are "
            "read; convert it to .csv or HDF5, or remove it"
        )
    if len(kind) < 2 or kind[0] not in _CHANGES or kind[1] != _EVENT.itemsize:
        raise UserError(
            f"{path}: holds events of type 0x{kind[:1].hex() or '?'} and {kind[1] if kind[1:] else 'no'} bytes, where "
            "changes of contrast are of type 0x00 or 0x0c and 8 bytes; remove it if it holds triggers"
        )
    require_sensor(path, size_in(header), sensor)
    if len(content) % _EVENT.itemsize:
        raise damaged(path, "its end is cut: its last 8-byte event is not whole")
    events = np.frombuffer(content, _EVENT)
    bits_x, bits_y = layout
    data = events["data"].astype(np.int64)
    return Events(
        x=data & (1 << bits_x) - 1,
        y=data >> bits_x & (1 << bits_y) - 1,
        t=nearest_turns(events["t"].astype(np.int64), 32),
        p=data >> bits_x + bits_y & 1,
    )


def _number(version: str) -> int:
    whole, _, rest = version.partition(".")
    return int(whole) if whole in ("1", "2") and not rest.strip("0") else -1
