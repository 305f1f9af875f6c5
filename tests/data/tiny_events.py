"""Load a few samples of ``fashion-events``, and look at what was cached."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from spquant_search.data import loading

TINY = {"train": 20, "validation": 10, "test": 10}


def load_tiny(folder: Path | None, **options: Any) -> loading.DataSet:
    return loading.load("fashion-events", **{"time_steps": 3, "cache_dir": folder, "limit": TINY} | options)


def cached_files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def content(data_set: loading.DataSet) -> str:
    digest = hashlib.sha256()
    for split in (data_set.train, data_set.validation, data_set.test):
        digest.update(split.frames.tobytes() + split.labels.tobytes())
    return digest.hexdigest()
