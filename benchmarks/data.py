"""Time and memory that recordings take to become frames, the first time and from then on.

    .venv/bin/python benchmarks/data.py               # a table; --json for its figures; --samples for fewer

As many made-up recordings as N-MNIST has, 60,000 and 10,000, of its size (about 4,200 events on 34x34 pixels within
0.3 s) and in its format, are written to a temporary folder and binned into 10 time steps, in a process of its own,
whose peak memory is measured with that of the processes that it starts. Then another process opens the frames that lie
in the cache. Times are of `loading.load`, without the imports before it. Needs the `events` extra, 2 GB of disk for the
recordings and 1.6 GB for the frames.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from measurement import as_document, figure_lines, markdown_table

from spquant_search.data import loading
from spquant_search.processes import available_cores
from spquant_search.space.schema import DataSpace

SAMPLES = {"Train": 60_000, "Test": 10_000}
SIDE, DURATION_US, TIME_STEPS = 34, 300_000, 10
EVENTS, SPREAD = 4200, 1000
MIB = 2**20
POLL_S = 0.05


def write_recordings(root: Path, samples: dict[str, int], generator: np.random.Generator) -> int:
    """Write recordings in the layout and format of N-MNIST, and return the number of their events."""
    total = 0
    for part, count in samples.items():
        for digit in range(10):
            (root / part / str(digit)).mkdir(parents=True)
        for number in range(count):
            events = int(np.clip(generator.normal(EVENTS, SPREAD), 1200, 8000))
            path = root / part / str(number % 10) / f"{number:05}.bin"
            path.write_bytes(recording(events, generator).tobytes())
            total += events
    return total


def recording(events: int, generator: np.random.Generator) -> np.ndarray:
    """Draw a recording of 5 bytes an event: x, y, polarity and the time's upper 7 bits, its middle and lower 8 bits."""
    record = generator.integers(0, SIDE, (events, 5), np.uint8)
    time_us = np.sort(generator.integers(0, DURATION_US, events, np.uint32))
    record[:, 2] = (record[:, 2] & 1) << 7 | (time_us >> 16)
    record[:, 3] = time_us >> 8 & 255
    record[:, 4] = time_us & 255
    return record


def load(root: Path, cache: Path) -> dict[str, float]:
    """Measure the seconds of one `loading.load` and the MiB of its frames."""
    options = DataSpace(name="nmnist", root=str(root), partial=True)
    started = time.perf_counter()
    loaded = loading.load(
        "nmnist", time_steps=TIME_STEPS, options=options, cache_dir=cache, processes=available_cores()
    )
    seconds = time.perf_counter() - started
    splits = (loaded.train, loaded.validation, loaded.test)
    return {"seconds": seconds, "frame_mib": sum(split.frames.nbytes for split in splits) / MIB}


def in_a_process(root: Path, cache: Path) -> dict[str, float]:
    """Load in a process of its own, and add its peak memory, summed over it and all that it starts."""
    command = [sys.executable, __file__, "--load", str(root), str(cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = [0]
        watcher = threading.Thread(target=_watch, args=(process, peak))
        watcher.start()
        output, _ = process.communicate()
        watcher.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    return json.loads(output) | {"peak_mib": peak[0] / MIB}


def _watch(process: subprocess.Popen[str], peak: list[int]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], sum(map(_resident_bytes, _family(process.pid))))
        time.sleep(POLL_S)


def _family(process: int) -> list[int]:
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    except OSError:
        return []
    return [process, *(member for child in children for member in _family(int(child)))]


def _resident_bytes(process: int) -> int:
    """Return the proportional set size, in which a page that several processes share counts once."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def measure(samples: dict[str, int]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        root, cache = Path(name) / "recordings", Path(name) / "cache"
        started = time.perf_counter()
        events = write_recordings(root, samples, np.random.default_rng(0))
        written = time.perf_counter() - started
        print(f"{sum(samples.values()):,} recordings written in {written:.0f} s", file=sys.stderr)
        counts = {"samples": sum(samples.values()), "events": events}
        return [{"start": start, **counts, **in_a_process(root, cache)} for start in ("first", "second")]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory from recordings to frames.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--samples", type=int, default=sum(SAMPLES.values()), help="recordings, 1 in 7 of them to test")
    parser.add_argument("--load", nargs=2, metavar=("ROOT", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        print(json.dumps(load(*map(Path, options.load))))
        return
    test = max(10, options.samples // 7)
    rows = measure({"Train": max(20, options.samples - test), "Test": test})
    figures = {
        "build_seconds": rows[0]["seconds"],
        "peak_mb": max(row["peak_mib"] for row in rows) * MIB / 1e6,
        "reopen_seconds": rows[1]["seconds"],
    }
    document = as_document(rows, figures)
    print(json.dumps(document, indent=1) if options.json else table(document))


def table(document: dict[str, Any]) -> str:
    cells = [
        (
            row["start"],
            f"{row['samples']:,}",
            f"{row['events']:,}",
            f"{row['seconds']:.2f}",
            f"{row['peak_mib']:.0f}",
            f"{row['frame_mib']:.0f}",
        )
        for row in document["rows"]
    ]
    lines = markdown_table(("start", "recordings", "events", "seconds", "peak MiB", "frames MiB"), cells)
    return "\n".join([*lines, *figure_lines(document["figures"], ".2f")])


if __name__ == "__main__":
    main()
