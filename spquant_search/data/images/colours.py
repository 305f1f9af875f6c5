"""Tell grey image files from those in colour by their headers, once for each state of a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from spquant_search.data.file_listing import File, fingerprint
from spquant_search.runs.files import write_text

LOOKED_AT = 8  # files in colour whose pixels are looked at
# Raise this with every change of what counts as grey: counts of the old code are then no longer used.
_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Colours:
    """How many files are grey and in colour by their headers; files that cannot be read are neither.

    ``colours_seen``: False where the pixels of the first, the last and some files between them of those in colour, up
    to ``LOOKED_AT`` in all, show only grey.
    """

    grey: int
    colour: int
    colours_seen: bool

    @property
    def images(self) -> int:
        return self.grey + self.colour


def count_colours(base: Path, files: Sequence[File], *, cache: Path) -> Colours:
    """Count the grey files; only headers are read, and nothing at all while no file has changed since the last time.

    A file is grey where it has one channel, with transparency or without, or a palette of greys. A file in colour
    counts as such whatever its pixels are.
    """
    key = hashlib.sha256(f"{_VERSION} {fingerprint(base, files)}".encode()).hexdigest()[:16]
    kept = cache / "images" / f"colours-{key}.json"
    with suppress(OSError, ValueError, TypeError):  # absent, or not as it was written
        return Colours(**json.loads(kept.read_text(encoding="utf-8")))
    found = _counted([base / file.name for file in files])
    with suppress(OSError):  # the next start counts again
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, json.dumps(asdict(found)))
    return found


def _counted(paths: Sequence[Path]) -> Colours:
    grey, coloured = 0, []
    for path in paths:
        # What is damaged is named when images are read.
        with suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError), Image.open(path) as picture:
            if _is_grey(picture):
                grey += 1
            else:
                coloured.append(path)
    places = np.linspace(0, len(coloured) - 1, min(LOOKED_AT, len(coloured))).astype(int)
    seen = any(_shows_colour(coloured[place]) for place in places.tolist())
    return Colours(grey=grey, colour=len(coloured), colours_seen=seen)


def _is_grey(picture: Image.Image) -> bool:
    if picture.mode in ("P", "PA"):
        palette = picture.getpalette() or []
        return palette[0::3] == palette[1::3] == palette[2::3]
    return picture.mode in ("1", "L", "LA", "La", "F") or picture.mode.startswith("I")


def _shows_colour(path: Path) -> bool:
    with suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError), Image.open(path) as picture:
        red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB")), -1, 0)
        return bool((red != green).any() or (green != blue).any())
    return True
