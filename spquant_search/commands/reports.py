"""The files that people and scripts read, written from a run's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spquant_search.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from spquant_search.report.run_summary import RunSummary
    from spquant_search.runs.folder import RunFolder


def write_all_reports(folder: RunFolder) -> RunSummary:
    """Write a run's tables, figures and report again, and return what they were made from."""
    from spquant_search.report.run_summary import summarize_run
    from spquant_search.report.writing import write_reports, write_sensitivity_picture
    from spquant_search.runs.files import as_user_error

    summary = summarize_run(folder)
    with as_user_error(folder.path):
        write_reports(summary, folder.path)
        write_sensitivity_picture(folder)
    return summary


def report_interrupted(folder: RunFolder, console: Console) -> None:
    """Write the reports of a run that was interrupted, if it has a front, and say what can be done with it now."""
    from spquant_search.report.pick_advice import pick_advice, run_words
    from spquant_search.report.run_summary import summarize_run
    from spquant_search.report.writing import write_reports

    try:
        summary = summarize_run(folder)
    except (UserError, OSError):  # no baseline yet, or no folder
        return
    if not summary.front:
        return
    try:
        write_reports(summary, folder.path)
    except OSError as error:
        console.print(f"The reports could not be written: {error}", markup=False, soft_wrap=True)
        return
    run, can_pick = run_words(summary), pick_advice(summary) is not None
    commands = f"`spquant-search front {run}`" + (f" and `spquant-search pick {run} --out DIR`" if can_pick else "")
    console.print(
        f"What there is by now is in {folder.path}: front.png, front.csv, front.json, results.csv, report.md; "
        f"{commands} {'work' if can_pick else 'works'} on it now.",
        markup=False,
        soft_wrap=True,
    )
