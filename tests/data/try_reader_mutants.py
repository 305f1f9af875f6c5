"""Read mutated files of every format, in a process of its own: one line of JSON a format, for a test to judge."""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from data.camera_writers import (
    evt2_words,
    evt3_words,
    evt21_words,
    write_aedat2,
    write_aedat3,
    write_dat,
    write_words,
)
from data.event_writers import (
    HEIGHT,
    WIDTH,
    made_up_events,
    structured,
    write_aedat4,
    write_bin,
    write_gesture,
    write_group,
    write_structured,
)
from data.file_mutations import mutated
from data.image_files import idx_bytes, made_up_pixels, write_cifar_bin, write_cifar_py
from PIL import Image

from spquant_search.data.events.binning import Events
from spquant_search.data.events.event_files import read_event_file
from spquant_search.data.events.tonic_readers import read_gesture
from spquant_search.data.images.formats import read_cifar_bin, read_cifar_pickle, read_idx
from spquant_search.data.images.pixels import PixelRule
from spquant_search.data.images.stills import read_image
from spquant_search.errors import UserError

MOST_SECONDS, MOST_BYTES = 2.0, 200 * 10**6
MOST_BYTES_OF_A_PICTURE = 600 * 10**6  # of the most pixels that Pillow reads without a warning
ROWS = made_up_events(1, WIDTH, HEIGHT)
SENSOR = (HEIGHT, WIDTH)
Write = Callable[[Path], None]


def _events(path: Path, read: Callable[[Path], Events]) -> None:
    events = read(path)
    assert len({len(column) for column in events}) == 1, "columns of several lengths"
    assert all(column.dtype == np.int64 and column.ndim == 1 for column in events), "columns that are no numbers"


def _recording(path: Path) -> None:
    own_size = path.suffix in (".aedat", ".aedat4")  # of cameras that are larger than ours
    read = partial(read_event_file, time_unit="us", columns="xytp", stream=None, sensor=None if own_size else SENSOR)
    _events(path, read)


def _image(path: Path) -> None:
    pixels = read_image(path, (8, 8), grey=False, rule=PixelRule())
    assert pixels.shape == (3, 8, 8)


def _batch(path: Path, read: Callable[[Path], tuple[Any, Any]]) -> None:
    pixels, labels = read(path)
    assert pixels.shape == (len(labels), 3, 32, 32)


def _saved(path: Path, save: Callable[..., None], **arrays: Any) -> None:
    with path.open("wb") as file:
        save(file, **arrays)


def _dataset(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("events", data=structured(ROWS), compression="gzip", shuffle=True)


def _text(path: Path) -> None:
    lines = [",".join(map(str, row)) for row in ROWS.tolist()]
    path.write_text("\n".join(["x,y,t,p", *lines, ""]) if path.suffix == ".csv" else "\n".join(lines))


def _picture(path: Path, mode: str = "RGB") -> None:
    Image.fromarray(made_up_pixels(1, 9, 12, 3)[0]).convert(mode).save(path)


def _columns() -> dict[str, Any]:
    return dict(zip("xytp", ROWS.T, strict=True))


def _first_batch(write: Callable[[Path], None], name: str, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "batches")
        content = (Path(folder) / "batches" / name).read_bytes()
    path.write_bytes(content[: 3073 * 2] if name.endswith(".bin") else content)


_READ_BATCH = {True: partial(_batch, read=read_cifar_bin), False: partial(_batch, read=read_cifar_pickle)}
FORMATS: dict[str, tuple[str, Write, Callable[[Path], None]]] = {
    "npy": (".npy", lambda path: write_structured(path, ROWS), _recording),
    "npy table": (".npy", lambda path: np.save(path, ROWS), _recording),
    "npz": (".npz", lambda path: _saved(path, np.savez, **_columns()), _recording),
    "npz compressed": (".npz", lambda path: _saved(path, np.savez_compressed, **_columns()), _recording),
    "csv": (".csv", _text, _recording),
    "txt": (".txt", _text, _recording),
    "h5 group": (".h5", lambda path: write_group(path, ROWS), _recording),
    "h5 table": (".hdf5", _dataset, _recording),
    "bin": (".bin", lambda path: write_bin(path, ROWS), _recording),
    "evt2": (".raw", lambda path: write_words(path, "EVT2", evt2_words(ROWS)), _recording),
    "evt21": (".raw", lambda path: write_words(path, "EVT21", evt21_words(ROWS)), _recording),
    "evt3": (".raw", lambda path: write_words(path, "EVT3", evt3_words(ROWS)), _recording),
    "dat": (".dat", lambda path: write_dat(path, ROWS), _recording),
    "aedat 2": (".aedat", lambda path: write_aedat2(path, ROWS), _recording),
    "aedat 3": (".aedat", lambda path: write_aedat3(path, ROWS), _recording),
    "aedat 4": (".aedat4", lambda path: write_aedat4(path, ROWS), _recording),
    "dvs-gesture": (".npy", lambda path: write_gesture(path, ROWS), partial(_events, read=read_gesture)),
    "idx": ("", lambda path: path.write_bytes(idx_bytes(made_up_pixels(3, 5, 5))), read_idx),
    "cifar10 binary": (".bin", partial(_first_batch, write_cifar_bin, "test_batch.bin"), _READ_BATCH[True]),
    "cifar10 python": ("", partial(_first_batch, write_cifar_py, "test_batch"), _READ_BATCH[False]),
    "png": (".png", _picture, _image),
    "png with a palette": (".png", partial(_picture, mode="P"), _image),
    "jpeg": (".jpg", _picture, _image),
    "gif": (".gif", _picture, _image),
    "bmp": (".bmp", _picture, _image),
    "ppm": (".ppm", _picture, _image),
    "tiff": (".tif", _picture, _image),
    "webp": (".webp", _picture, _image),
}


def try_format(name: str, folder: Path, count: int) -> dict[str, Any]:
    """Read ``count`` mutants of a format, and count what comes of them; a fault is what should never come."""
    suffix, write, read = FORMATS[name]
    path = folder / f"a{suffix}"
    write(path)
    whole, chance = path.read_bytes(), random.Random(f"{name} {count}")
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    slowest = 0.0
    read(path)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 4 * MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        content = mutated(whole, chance)
        path.unlink()  # writing over a file waits for the disk
        path.write_bytes(content)
        began = time.process_time()
        try:
            read(path)
            outcomes["read"] += 1
        except UserError as error:
            outcomes["refused"] += 1
            if not _is_named(str(error), path):
                faults.append(f"{number}: {error!r}")
        except BaseException:  # whatever escapes is the fault that is looked for
            faults.append(f"{number}: {traceback.format_exc()[-1200:]}\n{content[:300]!r}")
        slowest = max(slowest, seconds := time.process_time() - began)
        if seconds > MOST_SECONDS:
            faults.append(f"{number}: {seconds:.1f} s\n{content[:300]!r}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) * 1024
    if grown > (MOST_BYTES_OF_A_PICTURE if read is _image else MOST_BYTES):
        faults.append(f"{grown / 1e6:.0f} MB")
    return {"format": name, "outcomes": outcomes, "faults": faults, "slowest": slowest, "bytes": grown}


def _is_named(message: str, path: Path) -> bool:
    return message.startswith(f"{path}: ") and message.isprintable() and len(message) < 2000


def main(count: int, names: list[str]) -> None:
    warnings.simplefilter("error")
    sys.modules["torch"] = None  # type: ignore[assignment]  # tonic imports it where it is, for seconds
    with tempfile.TemporaryDirectory() as folder:
        for name in names or FORMATS:
            # What is printed is a fault, whoever prints it; of a process that ends, it is the last that is known.
            printed = Path(folder) / "printed"
            with printed.open("w+b") as held:
                shown = os.dup(2)
                os.dup2(held.fileno(), 2)
                result = try_format(name, Path(folder), count)
                sys.stderr.flush()
                os.dup2(shown, 2)
                os.close(shown)
            print(json.dumps(result | {"printed": printed.read_text(errors="replace")}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
