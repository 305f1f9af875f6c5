"""Tables on a terminal or in a pipe, and data that is loaded while a terminal shows how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from spquant_search.data.loading import DataSet
    from spquant_search.report.stages import Stage
    from spquant_search.report.text_table import TextTable
    from spquant_search.space.schema import SpaceFile

WIDE = 100  # columns of a terminal


def is_wide(console: Console) -> bool:
    """Say whether two more columns still leave a network of nine layers uncut; a pipe has no width."""
    return not console.is_terminal or console.width >= WIDE


def fits(table: TextTable, console: Console) -> bool:
    """Return whether a table is no wider than the terminal; a pipe has no width."""
    from rich.measure import Measurement

    unbounded = console.options.update(width=10_000)
    return not console.is_terminal or Measurement.get(console, unbounded, table.rich()).maximum <= console.width


def show_table(table: TextTable, console: Console) -> None:
    """Print a table; for a pipe as plain text, which no width wraps."""
    if console.is_terminal:
        console.print(table.rich())
    else:
        typer.echo(table.plain())


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
