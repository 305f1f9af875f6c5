"""Data that is loaded while whoever waits for it is shown how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spquant_search.data.loading import DataSet
    from spquant_search.report.stages import Stage
    from spquant_search.space.schema import SpaceFile


def load_shown(file: SpaceFile, stage: Stage) -> DataSet:
    """Load a space's data, from the cache or made now; ``stage`` shows how far that is."""
    from spquant_search.processes import available_cores
    from spquant_search.runs.files import cache_folder
    from spquant_search.training.data_set import load_data

    # The same words, be the frames made now or found in the cache.
    words = "recordings ready" if file.data.name == "fashion-events" or file.data.as_events else "frames ready"
    return load_data(
        file,
        cache=cache_folder(),
        progress=lambda done, total: stage(words, done, total),
        waiting=lambda who, done, total: stage(f"waiting for {who}, which makes these frames; MiB", *_mib(done, total)),
        processes=available_cores(),
    )


def _mib(done: int, total: int) -> tuple[int, int]:
    whole = max(1, round(total / 2**20))
    return min(round(done / 2**20), whole), whole


@contextmanager
def bars_on_terminal() -> Iterator[Stage]:
    """Show stages on a terminal's standard error, and nowhere else."""
    from rich.console import Console

    from spquant_search.report.stages import stages

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _text, _done, _total: None
        return
    with stages(console) as stage:
        yield stage
