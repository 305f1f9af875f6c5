"""The progress of a command other than a search: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from spquant_search.report.plain_log import PlainLog
from spquant_search.report.text_table import one_line

Stage = Callable[[str, int, int], None]  # the stage's name, how much is done, how much in all


@contextmanager
def stages(console: Console) -> Iterator[Stage]:
    """Give a function that shows how far a stage is; the bars go when all is done."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainLog(console.file).stage
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def stage(text: str, done: int, total: int) -> None:
            if text not in tasks:
                tasks[text] = bars.add_task(Text(one_line(text)).plain)
            bars.update(tasks[text], completed=done, total=total or None)

        yield stage
