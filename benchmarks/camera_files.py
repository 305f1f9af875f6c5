"""Events a second that are read from the cameras' own files, by one core.

    .venv/bin/python benchmarks/camera_files.py       # a table; --json for its figures; --events for fewer

Made-up recordings of a camera of 1280x720 pixels are written to a temporary folder and read from there, as often as
`--rounds` says; the fastest counts, as what slows a round is other work. In `EVT3, alone` every event has a time and a
row of its own (three words of 16 bits), in `EVT3, vectors` it shares them with up to 31 others. The same files are read
by expelliarmus (C), where it is installed and reads them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from measurement import as_document, figure_lines, markdown_table

from spquant_search.data.events.event_files import read_event_file

EVENTS = 20_000_000
WIDTH, HEIGHT = 1280, 720
EVENTS_PER_US = 10
GEOMETRY = f"% geometry {WIDTH}x{HEIGHT}\n% end\n"
Table = np.ndarray


def evt2(events: int, generator: np.random.Generator) -> bytes:
    """Draw EVT2 words in the order of time, a TIME_HIGH wherever the upper 28 bits change."""
    times = np.arange(events) // EVENTS_PER_US
    x, y = generator.integers(0, WIDTH, events, np.uint32), generator.integers(0, HEIGHT, events, np.uint32)
    words = generator.integers(0, 2, events, np.uint32) << 28 | (times & 63).astype(np.uint32) << 22 | x << 11 | y
    changes = np.flatnonzero(np.diff(times >> 6, prepend=-1))
    highs = 0x8 << 28 | times[changes] >> 6
    return f"% evt 2.0\n{GEOMETRY}".encode() + np.insert(words, changes, highs.astype(np.uint32)).tobytes()


def evt3_alone(events: int, generator: np.random.Generator) -> bytes:
    """Draw EVT3 events that have a TIME_LOW, an ADDR_Y and an ADDR_X each."""
    times = np.arange(events)
    words = np.empty((events, 3), np.uint16)
    words[:, 0] = 0x6000 | times & 0xFFF
    words[:, 1] = generator.integers(0, HEIGHT, events, np.uint16)
    words[:, 2] = 0x2000 | generator.integers(0, 2, events, np.uint16) << 11 | generator.integers(0, WIDTH, events)
    return f"% evt 3.0\n{GEOMETRY}".encode() + with_time_highs(words, times).tobytes()


def evt3_vectors(events: int, generator: np.random.Generator) -> bytes:
    """Draw EVT3 rows of 32 pixels of which half have an event: VECT_BASE_X, twice VECT_12, and VECT_8."""
    rows = events // 16
    times = np.arange(rows) * 2
    words = np.empty((rows, 6), np.uint16)
    words[:, 0] = 0x6000 | times & 0xFFF
    words[:, 1] = generator.integers(0, HEIGHT, rows, np.uint16)
    words[:, 2] = 0x3000 | generator.integers(0, WIDTH // 32, rows, np.uint16) * 32
    for column, (kind, bits) in enumerate(((0x4000, 12), (0x4000, 12), (0x5000, 8)), 3):
        words[:, column] = kind | generator.integers(0, 1 << bits, rows, np.uint16)
    return f"% evt 3.0\n{GEOMETRY}".encode() + with_time_highs(words, times).tobytes()


def with_time_highs(words: Table, times: Table) -> Table:
    """Put a TIME_HIGH before the rows of words where the upper 12 bits of their time change."""
    changes = np.flatnonzero(np.diff(times >> 12, prepend=-1))
    highs = (0x8000 | times[changes] >> 12 & 0xFFF).astype(np.uint16)
    return np.insert(words.reshape(-1), changes * words.shape[1], highs)


def dat(events: int, generator: np.random.Generator) -> bytes:
    places = generator.integers(0, WIDTH, events, np.uint32) | generator.integers(0, HEIGHT, events, np.uint32) << 14
    table = np.stack([np.arange(events, dtype=np.uint32) // EVENTS_PER_US, places], axis=1)
    return f"% Version 2\n% Height {HEIGHT}\n% Width {WIDTH}\n".encode() + b"\x0c\x08" + table.tobytes()


FILES: dict[str, tuple[str, str, Callable[[int, np.random.Generator], bytes]]] = {
    "EVT2": (".raw", "evt2", evt2),
    "EVT3, alone": (".raw", "evt3", evt3_alone),
    "EVT3, vectors": (".raw", "evt3", evt3_vectors),
    "DAT": (".dat", "dat", dat),
}


def fastest(read: Callable[[], int], rounds: int) -> tuple[int, float]:
    """Return the number of events, and the seconds of the fastest of several rounds."""
    seconds, events = [], 0
    for _ in range(rounds):
        started = time.perf_counter()
        events = read()
        seconds.append(time.perf_counter() - started)
    return events, min(seconds)


def by_expelliarmus(path: Path, encoding: str, rounds: int) -> float | None:
    """Return the million events a second that expelliarmus reads; None where it is missing or finds others."""
    with suppress(ImportError, RuntimeError):
        wizard = import_module("expelliarmus").Wizard(encoding, fpath=path)
        events, seconds = fastest(lambda: len(wizard.read()), rounds)
        return events / seconds / 1e6
    return None


def measure(events: int, rounds: int) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (suffix, encoding, write) in FILES.items():
            path = Path(folder) / f"a{suffix}"
            path.write_bytes(write(events, np.random.default_rng(0)))
            read = lambda path=path: len(  # noqa: E731
                read_event_file(path, time_unit="us", columns=None, sensor=(HEIGHT, WIDTH)).t
            )
            found, seconds = fastest(read, rounds)
            rows.append(
                {
                    "file": name,
                    "events": found,
                    "mib": path.stat().st_size / 2**20,
                    "million_events_a_second": found / seconds / 1e6,
                    "expelliarmus": by_expelliarmus(path, encoding, rounds),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Events a second that are read from cameras' files.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--events", type=int, default=EVENTS, help="of each file, about")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = measure(max(1000, options.events), max(1, options.rounds))
    figures = {"slowest_raw": min(row["million_events_a_second"] for row in rows if row["file"] != "DAT")}
    document = as_document(rows, figures)
    print(json.dumps(document, indent=1) if options.json else table(document))


def table(document: dict[str, Any]) -> str:
    cells = [
        (
            row["file"],
            f"{row['events']:,}",
            f"{row['mib']:.0f}",
            f"{row['million_events_a_second']:.0f}",
            f"{row['expelliarmus']:.0f}" if row["expelliarmus"] else "",
        )
        for row in document["rows"]
    ]
    lines = markdown_table(("file", "events", "MiB", "million events a second", "expelliarmus"), cells)
    return "\n".join([*lines, *figure_lines(document["figures"], ".0f")])


if __name__ == "__main__":
    main()
