"""Recordings whose figures can be counted by hand, and the figures of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from data.event_writers import USER_DTYPE

from spquant_search.data import loading
from spquant_search.data.statistics import DataStatistics, dataset_statistics
from spquant_search.space.schema import DataSpace


def facts_of(name: str, cache: Path, **values: Any) -> tuple[DataStatistics, loading.DataSet]:
    loaded = loading.load(name, time_steps=3, options=DataSpace(name=name, **values), cache_dir=cache)
    return dataset_statistics(loaded), loaded


def write_known(root: Path, *counts: int) -> None:
    """Class a with three recordings of so many events each, ON and at the same pixel; class b of one OFF event each."""
    for number, events in enumerate(counts):
        for class_name, polarity, many in (("a", 1, events), ("b", 0, 1)):
            table = np.zeros(many, USER_DTYPE)
            table["t"], table["x"], table["y"], table["p"] = np.arange(many), 1, 2, polarity
            (root / class_name).mkdir(parents=True, exist_ok=True)
            np.save(root / class_name / f"{number}.npy", table)
