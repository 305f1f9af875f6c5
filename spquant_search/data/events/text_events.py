"""Read events from text: a row an event, with or without a line of names."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.data.events.event_columns import Columns, nameless, names_of_axes
from spquant_search.data.events.refusals import damaged, unfit

_LONGEST_LINE = 4096  # bytes that are looked at for names and separators


def read_text(path: Path, columns: str | None) -> Columns:
    """Read columns separated by commas, semicolons, tabs or spaces; lines that begin with # or % are comments.

    Whole numbers are read exactly. Names stand in the first line, or in the last comment before the first event;
    without names there must be four columns, in the order that ``columns`` says.

    Raises:
        UserError: the file is no such text.
    """
    try:
        names, first, skipped = _first_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(path, str(error)) from error
    if not first:
        raise unfit(path, "it holds no events")
    separator = next((sign for sign in ",;\t" if sign in first), None)
    count = len(_words(first, separator))
    axes = names_of_axes(names)
    if axes and len(names) == count:
        places = {axis: names.index(name) for axis, name in axes.items()}
    elif count != 4:
        named = f"the columns {', '.join(names)}" if names else f"{count} columns without names"
        raise unfit(path, f"it must have columns called x, y, t, p, or four columns; it has {named}")
    elif columns is None:
        raise nameless(path)
    else:
        places = {axis: place for place, axis in enumerate(columns)}
    return _values(path, places, separator, skipped)


def _first_lines(path: Path) -> tuple[list[str], str, int]:
    """Return the names of the columns, the first line with numbers, and how many lines come before it."""
    names: list[str] = []
    with path.open(encoding="utf-8-sig") as file:
        for number in range(1000):
            line = file.readline(_LONGEST_LINE).strip()
            plain = line.lstrip("#%").strip()
            separator = next((sign for sign in ",;\t" if sign in plain), None)
            words = _words(plain, separator)
            if not line.startswith(("#", "%")) and words and _is_number(words[0]):
                return names, line, number
            if words and (names_of_axes(words) or not line.startswith(("#", "%"))):
                names = words
            if not line and file.tell() == path.stat().st_size:
                break
    return names, "", 0


def _words(line: str, separator: str | None) -> list[str]:
    return [word.strip().strip('"').strip() for word in line.split(separator) if separator or word]


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?(nan|inf)", word.lower()) is not None


def _values(path: Path, places: dict[str, int], separator: str | None, skipped: int) -> Columns:
    """Read the columns at these places: as whole numbers where all are, then with times, then all as fractions."""
    error: ValueError | None = None
    for fractions in ("", "t", "xytp"):
        kinds = np.dtype([(axis, np.float64 if axis in fractions else np.int64) for axis in places])
        try:
            table = _table(path, kinds, list(places.values()), separator, skipped)
        except (ValueError, OverflowError) as problem:
            error = ValueError(str(problem))
        except (OSError, MemoryError) as problem:
            raise damaged(path, str(problem)) from problem
        else:
            return {axis: table[axis] for axis in places}
    raise damaged(path, str(error))


def _table(path: Path, kinds: np.dtype[Any], places: list[int], separator: str | None, skipped: int) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # a fraction read as a whole number
        found = np.loadtxt(
            path,
            kinds,
            comments=["#", "%"],
            delimiter=separator,
            skiprows=skipped,
            usecols=places,
            ndmin=1,
            encoding="utf-8-sig",
        )
    return np.asarray(found)
