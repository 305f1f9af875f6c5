"""What the formats of cameras have in common: headers of text, the size of the sensor, events in blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.data.events.binning import Events
from spquant_search.errors import UserError

_LONGEST_LINE = 1 << 16  # bytes of a header
_MOST_LINES = 10_000
_ENDS = {b"%": ("% end",), b"#": ("#!END-HEADER", "#End Of ASCII Header", "# End of ASCII Header")}
_LARGEST_SIDE = 1 << 16


def read_lines(file: IO[bytes], mark: bytes) -> list[str]:
    """Read the lines of text that begin with ``mark``, and leave the file at the first byte behind them.

    What follows a header may begin with the mark, too: a line of a header is text without control characters.
    """
    lines: list[str] = []
    while len(lines) < _MOST_LINES:
        start = file.tell()
        line = file.readline(_LONGEST_LINE)
        words = _text(line)
        if not line.startswith(mark) or words is None:
            file.seek(start)
            break
        lines.append(words)
        if words in _ENDS[mark]:
            break
    return lines


def _text(line: bytes) -> str | None:
    if not line.endswith(b"\n"):
        return None
    try:
        words = line.rstrip(b"\r\n").decode()
    except UnicodeDecodeError:
        return None
    return words if words.replace("\t", " ").isprintable() else None


def read_header(file: IO[bytes], mark: bytes) -> dict[str, str]:
    """Read a header with a key and its value a line, such as ``% geometry 640x480``; keys in small letters."""
    pairs = (line.lstrip("%# ").partition(" ")[::2] for line in read_lines(file, mark))
    return {key.lower(): value.strip() for key, value in pairs if key}


def size_in(values: Mapping[str, str]) -> tuple[int, int] | None:
    """Return (height, width) where both are there, and may be those of a sensor."""
    sides = [values.get(side, "") for side in ("height", "width")]
    if not all(side.isascii() and side.isdecimal() and len(side) < 6 for side in sides):
        return None
    height, width = map(int, sides)
    return (height, width) if 0 < height <= _LARGEST_SIDE and 0 < width <= _LARGEST_SIDE else None


def require_sensor(path: Path, found: tuple[int, int] | None, sensor: tuple[int, int] | None) -> None:
    """Refuse a file whose header says another size than the user's.

    Raises:
        UserError: it does.
    """
    if found is not None and sensor is not None and found != sensor:
        raise UserError(
            f"{path}: is a recording of {list(found)} pixels [height, width], and data.sensor says {list(sensor)}; "
            f"write sensor: {list(found)}, and keep recordings of other cameras elsewhere"
        )


def block_events(x: NDArray[Any], y: NDArray[Any], t: NDArray[Any], p: NDArray[Any]) -> Events:
    """Return the events of a block in types of few bytes."""
    return Events(x.astype(np.int32), y.astype(np.int16), t, p.astype(np.int8))


def columns_of_blocks(blocks: Iterable[Events]) -> Events:
    """Join the events of blocks."""
    parts = list(blocks)
    return Events(
        *(
            np.concatenate([part[column] for part in parts], dtype=np.int64) if parts else np.empty(0, np.int64)
            for column in range(4)
        )
    )
