"""Read recordings of iniVation's cameras in AEDAT 2 (jAER) and AEDAT 3 (cAER); both have the suffix .aedat.

The formats are documented at https://docs.inivation.com/software/software-advanced-usage/file-formats. AEDAT 4 has its
own suffix and its own reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.data.events.binning import Events
from spquant_search.data.events.camera_files import columns_of_blocks, read_lines, require_sensor
from spquant_search.data.events.clocks import nearest_turns
from spquant_search.data.events.refusals import damaged
from spquant_search.errors import UserError

_DVS128 = (128, 128)
_SIZES = {
    "128": _DVS128,
    "208": (192, 208),
    "240": (180, 240),
    "346": (260, 346),
    "640": (480, 640),
}  # of DAVIS cameras
_RECORD = np.dtype([("address", ">u4"), ("t", ">u4")])  # of AEDAT 2
_POLARITY = np.dtype([("data", "<u4"), ("t", "<i4")])  # of AEDAT 3
_PACKET = np.dtype(
    [
        ("type", "<i2"),
        ("source", "<i2"),
        *((name, "<i4") for name in ("size", "time_offset", "overflow", "capacity", "number", "valid")),
    ]
)
_POLARITY_TYPE = 1
_MOST_TYPES = 128  # event types of AEDAT 3 are small numbers, also those that users define
_LARGEST_EVENT = 1 << 27  # bytes: a frame of a large camera, in a packet


def read_aedat(path: Path, sensor: tuple[int, int] | None) -> Events:
    """Read the events of an AEDAT file of version 2 or 3; rows are counted from the top, columns from the left.

    ``sensor`` is (height, width) where it is known, and compared with that of the camera that the header names. An
    AEDAT 2 file that names none needs it to be decoded.

    Raises:
        UserError: the file is damaged, of another sensor or version, or nothing says how to decode it.
    """
    try:
        with path.open("rb") as file:
            lines = read_lines(file, b"#")
            content = file.read()
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error
    version = re.match(r"#!AER-DAT([0-9.]+)", lines[0]) if lines else None
    if version and version[1].startswith("2"):
        return _aedat2(path, lines, content, sensor)
    if version and version[1].startswith("3"):
        return _aedat3(path, lines, content, sensor)
    if version:
        raise UserError(f"{path}: is an AEDAT file of version {version[1][:20]}; 2 and 3 are read, and 4 from .aedat4")
    raise damaged(path, "it does not begin with the line of an AEDAT file (#!AER-DAT2.0, #!AER-DAT3.1)")


def _aedat2(path: Path, lines: Sequence[str], content: bytes, sensor: tuple[int, int] | None) -> Events:
    """Decode addresses of 32 bits and times, both with the highest byte first.

    jAER counts rows from below and columns from the right.
    """
    if len(content) % _RECORD.itemsize:
        raise damaged(path, "its end is cut: its last 8-byte event is not whole")
    records = np.frombuffer(content, _RECORD)
    address = records["address"].astype(np.int64)
    t = nearest_turns(records["t"].astype(np.int64), 32)
    chip = next((found[1] for line in lines if (found := re.match(r"#\s*AEChip:\s*(.*\S)", line))), None)
    height, width = size = _size_of_chip(path, chip, sensor)
    require_sensor(path, size, sensor)
    is_dvs128 = size == _DVS128 and (chip is None or _is_dvs128(chip))
    if chip is None and len(address) and is_dvs128 != bool(address.max() < 1 << 16):
        raise UserError(
            f"{path}: its header names no camera (# AEChip: ...), and its addresses are "
            f"{'not those' if is_dvs128 else 'those'} of a DVS128, with {list(_DVS128)} pixels; data.sensor says "
            f"{list(size)}: write that of the camera that recorded it"
        )
    if is_dvs128:
        x, y, p = address >> 1 & 0x7F, address >> 8 & 0x7F, 1 - (address & 1)
        seen = (address & 0x8000) == 0  # not a signal from outside
    else:
        x, y, p = address >> 12 & 0x3FF, address >> 22 & 0x1FF, address >> 11 & 1
        seen = (address & 0x80000400) == 0  # neither a sample of a frame or the motion sensor, nor a signal
    return Events(x=width - 1 - x, y=height - 1 - y, t=t, p=p).chosen(seen)


def _size_of_chip(path: Path, chip: str | None, sensor: tuple[int, int] | None) -> tuple[int, int]:
    """Return (height, width) of the camera that a header names; where it names none, the user's."""
    if size := known_size(chip or ""):
        return size
    if chip is not None:
        raise UserError(
            f"{path}: is a recording of {chip[:60]!r}, whose addresses are not known; those of DVS128 and DAVIS are: "
            "convert it to .csv or HDF5"
        )
    if sensor is None:
        raise UserError(
            f"{path}: its header names no camera (# AEChip: ...); say by data.sensor how many pixels it has"
        )
    return sensor


def _is_dvs128(camera: str) -> bool:
    return "dvs128" in camera.lower()


def known_size(camera: str) -> tuple[int, int] | None:
    """Return (height, width) in pixels of a camera by a name such as DVS128 or DAVIS240C; None if unknown."""
    if _is_dvs128(camera):
        return _DVS128
    found = re.search(r"davis?\s*(128|208|240|346|640)", camera, re.IGNORECASE)
    return _SIZES[found[1]] if found else None


def _aedat3(path: Path, lines: Sequence[str], content: bytes, sensor: tuple[int, int] | None) -> Events:
    """Decode the packets of polarity events, and pass over all others."""
    form = next((found[1] for line in lines if (found := re.match(r"#\s*Format:\s*(\S+)", line))), "RAW")
    if form.upper() != "RAW":
        raise UserError(
            f"{path}: its packets are compressed (#Format: {form[:40]}), and only RAW is read; record it without, or "
            "convert it to AEDAT 4, .csv or HDF5"
        )
    sources = [found[1] for line in lines if (found := re.match(r"#\s*Source\s+-?\d+:\s*(.*\S)", line))]
    if len(sources) == 1:
        require_sensor(path, known_size(sources[0]), sensor)
    return columns_of_blocks(_polarity_packets(path, content))


def _polarity_packets(path: Path, content: bytes) -> Iterator[Events]:
    at, sources = 0, set[int]()
    while at < len(content):
        if len(content) - at < _PACKET.itemsize:
            raise damaged(path, "its end is cut: its last packet has no whole header")
        header = np.frombuffer(content, _PACKET, 1, at)[0]
        kind, size, number = (int(header[name]) for name in ("type", "size", "number"))
        at += _PACKET.itemsize
        if not (0 <= kind < _MOST_TYPES and 0 < size < _LARGEST_EVENT and number >= 0 and header["overflow"] >= 0):
            raise damaged(path, f"the packet before its byte {at:,} behind the header is none")
        if kind == _POLARITY_TYPE and size != _POLARITY.itemsize:
            raise damaged(path, f"its polarity events have {size} bytes, where {_POLARITY.itemsize} are right")
        if number * size > len(content) - at:
            raise damaged(
                path, f"its end is cut: {len(content) - at:,} bytes are left of a packet of {number * size:,}"
            )
        if kind == _POLARITY_TYPE and number:
            sources.add(int(header["source"]))
            if len(sources) > 1:
                raise UserError(f"{path}: holds events of several cameras; save each in a file of its own")
            yield _polarity_events(np.frombuffer(content, _POLARITY, number, at), int(header["overflow"]))
        at += number * size


def _polarity_events(records: NDArray[Any], overflow: int) -> Events:
    """Decode events of 8 bytes; ``overflow`` counts how often the 31 bits of times have started again."""
    records = records[records["data"] & 1 == 1]  # valid ones
    data = records["data"].astype(np.int64)
    return Events(
        x=data >> 17, y=data >> 2 & 0x7FFF, t=records["t"].astype(np.int64) + (overflow << 31), p=data >> 1 & 1
    )
