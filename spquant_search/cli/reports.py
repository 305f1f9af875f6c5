"""The front and the reports of a run, shown and written."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from spquant_search.cli.terminal import fits, show_table
from spquant_search.commands.reports import write_all_reports

if TYPE_CHECKING:
    from rich.console import Console

    from spquant_search.report.run_summary import RunSummary
    from spquant_search.report.text_table import TextTable
    from spquant_search.runs.folder import RunFolder
    from spquant_search.runs.results import TrialResult


def shown_front(summary: RunSummary, folder: RunFolder, console: Console, *, trained_only: bool = False) -> TextTable:
    """Return the front's table, with as many of its further columns as the terminal has room for."""
    from spquant_search.report.front_table import INTERVAL_COLUMNS, front_table

    further = ((INTERVAL_COLUMNS, True), (INTERVAL_COLUMNS, False), (INTERVAL_COLUMNS[:1], False), ((), False))
    for intervals, with_energy in further:
        table = front_table(summary, intervals=intervals, with_energy=with_energy, trained_only=trained_only)
        if fits(table, console):
            return table
    narrow = front_table(summary, intervals=(), trained_only=trained_only, grouped=False)
    return narrow if fits(narrow, console) else table


def show_reports(folder: RunFolder, console: Console, *, advises: bool = True) -> RunSummary:
    """Write the files that people and scripts read, and show the front; ``advises``: with a command that picks.

    Returns what they were made from.
    """
    from spquant_search.report.pick_advice import pick_advice, why_nothing_is_pickable

    summary = write_all_reports(folder)
    show_table(shown_front(summary, folder, console), console)
    names = "report.html, front.png, front.csv, front.json, results.csv, report.md"
    console.print(f"Written to {folder.path}: {names}", markup=False, soft_wrap=True)
    if not advises:
        return summary
    advice = pick_advice(summary, out=_free_folder())
    if advice is None:
        words = f"Nothing can be picked: {why_nothing_is_pickable(summary)}."
    else:
        words = f"Pick from it: {advice.within_cost}"
    console.print(words, markup=False, soft_wrap=True)
    return summary


def _free_folder() -> str:
    """Return the name of a folder that `pick` can write in the present one."""
    names = (f"picked-{number}" if number > 1 else "picked" for number in count(1))
    return next(name for name in names if not Path(name).exists())


def show_who_left(before: Sequence[TrialResult], folder: RunFolder, console: Console) -> None:
    """Name the members of an earlier front that are on it no more."""
    from spquant_search.report.run_summary import summarize_run

    now = {member.number for member in summarize_run(folder).front}
    left = [str(member.number) for member in before if member.number not in now]
    if left:
        console.print(f"No longer on the front, as other members beat them now: trial {', '.join(left)}")
