"""Read AEDAT 4, the format of iniVation's cameras today, by the package aedat (MIT), which decodes it in Rust."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from struct import unpack_from
from typing import IO, Any

import numpy as np

from spquant_search.data.events.binning import Events
from spquant_search.data.events.camera_files import require_sensor
from spquant_search.data.events.refusals import damaged, too_large
from spquant_search.errors import UserError

_FIRST_LINE = b"#!AER-DAT4.0\r\n"
_LARGEST_HEADER = 1 << 20  # bytes
_END, _DESCRIPTION = 1, 2  # numbers of the header's fields: where the packets end, and what the streams are


def read_aedat4(path: Path, sensor: tuple[int, int] | None = None) -> Events:
    """Read the first event stream of an AEDAT 4 file; ``sensor`` is (height, width) where it is known, and compared.

    Raises:
        UserError: aedat is missing, or the file is damaged, of another sensor, or has no stream of events.
    """
    try:
        aedat = import_module("aedat")
    except ImportError as error:
        raise UserError(
            f"{path}: reading it needs aedat, which cannot be imported ({error}); pip install aedat"
        ) from error
    _require_sound(path)
    try:
        with _panics_unprinted():
            stream, packets = _first_stream(aedat.Decoder(str(path)))
    except MemoryError as error:
        raise too_large(path) from error
    except BaseException as error:
        # The decoder raises many kinds of exceptions, and panics of Rust, which are no Exception.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise damaged(path, str(error)) from error
        raise
    if stream is None:
        raise UserError(f"{path}: has no stream of events; remove it, or record it with one")
    if stream["height"] and stream["width"]:
        require_sensor(path, (int(stream["height"]), int(stream["width"])), sensor)
    if not packets:
        return Events(*(np.empty(0, np.int64) for _ in "xytp"))
    events = np.concatenate(packets)
    names = ("x", "y", "t", (events.dtype.names or ())[-1])  # polarity is called ``on`` or ``p``
    return Events(*(events[name].astype(np.int64) for name in names))


def _first_stream(decoder: Any) -> tuple[dict[str, Any] | None, list[Any]]:
    """Return the description of the event stream with the lowest number, and its packets."""
    streams = {number: stream for number, stream in decoder.id_to_stream().items() if stream["type"] == "events"}
    if not streams:
        return None, []
    first = min(streams)
    return streams[first], [packet["events"] for packet in decoder if packet["stream_id"] == first]


def _require_sound(path: Path) -> None:
    """Refuse a file at which the decoder would end the whole process, or ask for all memory.

    That is one whose description of its streams is no text, or whose packets are longer than the file.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_FIRST_LINE)) != _FIRST_LINE:
                raise damaged(path, "it does not begin with the line of an AEDAT 4 file (#!AER-DAT4.0)")
            size = int.from_bytes(file.read(4), "little")
            end = _checked_header(path, file.read(min(size, _LARGEST_HEADER)))
            _require_packets(path, file, os.fstat(file.fileno()).st_size, end)
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error


def _checked_header(path: Path, header: bytes) -> int:
    """Return where the packets end, -1 for the end of the file, from a header, which is a table of FlatBuffers."""
    try:
        (table,) = unpack_from("<I", header)
        fields = table - unpack_from("<i", header, table)[0]
        (length,) = unpack_from("<H", header, fields)
        places = [unpack_from("<H", header, at)[0] for at in range(fields + 4, fields + length, 2)]
        at = table + places[_DESCRIPTION]
        text = at + unpack_from("<I", header, at)[0]
        (letters,) = unpack_from("<I", header, text)
        header[text + 4 : text + 4 + letters].decode()
        return int(unpack_from("<q", header, table + places[_END])[0]) if places[_END] else -1
    except Exception as error:  # a place outside of the header, or no text
        raise damaged(path, "the description of its streams is no text") from error


def _require_packets(path: Path, file: IO[bytes], size: int, end: int) -> None:
    """Go from packet to packet, each the number of its stream, its length, and so many bytes, to the end of all."""
    at = file.tell()
    last = size if end < 0 else end
    while at < last:
        head = file.read(8)
        at += 8 + int.from_bytes(head[4:], "little")
        if len(head) < 8 or at > size:
            raise damaged(path, "its end is cut: its last packet is not whole")
        file.seek(at)
    if at != last:
        raise damaged(path, f"its packets end at byte {at:,}, and its header says {last:,}")


@contextmanager
def _panics_unprinted() -> Iterator[None]:
    """Keep off the terminal what a panic prints, lines of the decoder's source; what else is printed comes later."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        shown = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
            held.seek(0)
            os.write(shown, held.read())
        finally:
            os.dup2(shown, 2)
            os.close(shown)
