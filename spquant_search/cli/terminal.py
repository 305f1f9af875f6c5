"""Tables on a terminal or in a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from spquant_search.report.text_table import TextTable

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
