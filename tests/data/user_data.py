"""Modules of a user in a folder of a test, whose functions return samples."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.data import loading
from spquant_search.data.from_python.samples import forget_looks
from spquant_search.space.schema import DataSpace

MODULE = "samples_of_a_test"
BUILD = f"{MODULE}:build"
HEAD = """\
import numpy as np
g = np.random.default_rng(0)
x, y = g.integers(20, 256, (30, 3, 9, 7), dtype=np.uint8), np.arange(30) % 3
frames = g.integers(0, 4, (30, 4, 2, 9, 7))
class Pairs:
    def __init__(self, x, y):
        self.x, self.y = x, y
    def __len__(self):
        return len(self.x)
    def __getitem__(self, index):
        return self.x[index], self.y[index]
def parts(x, y=y):
    return (x[:18], y[:18]), (x[18:24], y[18:24]), (x[24:], y[24:])
"""


def write_module(folder: Path, body: str, *, head: str = HEAD) -> None:
    """Write a module; ``body`` is that of its function, whose arguments may be named in front of a colon."""
    arguments, colon, rest = body.partition("|")
    arguments, lines = (arguments, rest) if colon else ("", body)
    text = "\n".join(f"    {line}" for line in lines.strip().splitlines())
    (folder / f"{MODULE}.py").write_text(f"{head}\ndef build({arguments}):\n{text}\n", encoding="utf-8")
    forget_module()


def forget_module() -> None:
    """Import it anew, as another process would."""
    for name in [name for name in sys.modules if name.split(".")[0] in (MODULE, "beside_it")]:
        del sys.modules[name]
    forget_looks()


@contextmanager
def in_folder(folder: Path, monkeypatch: Any) -> Iterator[Path]:
    """Work in an empty folder, and forget what was imported from it."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield folder
    forget_module()


def load_built(folder: Path, *, time_steps: int = 2, is_made: bool = False, **values: Any) -> loading.DataSet:
    """Load what the module of a folder returns."""
    options = DataSpace(name="python", build=BUILD, **values)
    limit = dict.fromkeys(loading.SPLITS, 3) if values.get("train_samples") else None
    return loading.load(
        "python", time_steps=time_steps, options=options, cache_dir=folder / "cache", limit=limit, is_made=is_made
    )


def all_frames(loaded: loading.DataSet) -> dict[bytes, int]:
    """Return the label of each sample by its bytes."""
    splits = (loaded.train, loaded.validation, loaded.test)
    return {
        frames.tobytes(): int(label)
        for split in splits
        for frames, label in zip(split.frames, split.labels, strict=True)
    }


def expected(inputs: NDArray[Any], labels: NDArray[Any]) -> dict[bytes, int]:
    return {np.asarray(each, np.uint8).tobytes(): int(label) for each, label in zip(inputs, labels, strict=True)}
