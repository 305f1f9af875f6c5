"""The files that people and scripts read, written from a run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spquant_search.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from spquant_search.report.run_summary import RunSummary
    from spquant_search.runs.folder import RunFolder
    from spquant_search.space.shapes import LayerShape


def write_all_reports(folder: RunFolder) -> RunSummary:
    """Write a run's tables, figures and report again, and return what they were made from."""
    from spquant_search.report.run_summary import summarize_run
    from spquant_search.report.writing import write_reports, write_run_page, write_sensitivity_picture
    from spquant_search.runs.files import as_user_error

    summary = summarize_run(folder)
    with as_user_error(folder.path):
        write_reports(summary, folder.path)
        write_sensitivity_picture(folder)
        write_run_page(folder, summary, shapes=_unkept_shapes(folder))
    return summary


def write_run_figures(folder: RunFolder, summary: RunSummary, out: Path) -> tuple[str, ...]:
    """Write the page's figures as PNG and SVG into the folder ``out``, and return the names of the files."""
    from spquant_search.report.run_figures import write_figures
    from spquant_search.report.writing import page_source
    from spquant_search.runs.files import as_user_error

    with as_user_error(out):
        return write_figures(page_source(folder, summary, shapes=_unkept_shapes(folder)), out)


def _unkept_shapes(folder: RunFolder) -> Sequence[LayerShape]:
    """Return the shapes of a network's layers where its run was begun before they were kept; none if it is gone."""
    from spquant_search.runs.folder import layers_file
    from spquant_search.runs.records import read_frozen_space

    if layers_file(folder).is_file():
        return ()
    from spquant_search.training.prepare import bind_network

    try:
        return bind_network(read_frozen_space(folder), source=str(folder.space_file)).shapes
    except UserError:
        return ()


def report_interrupted(folder: RunFolder, console: Console) -> None:
    """Write the reports of a run that was interrupted, if it has a front, and say what can be done with it now."""
    from spquant_search.report.pick_advice import pick_advice, run_words
    from spquant_search.report.run_summary import summarize_run
    from spquant_search.report.writing import write_reports, write_run_page

    try:
        summary = summarize_run(folder)
    except (UserError, OSError):  # no baseline yet, or no folder
        return
    try:
        write_run_page(folder, summary)
        if not summary.front:
            return
        write_reports(summary, folder.path)
    except OSError as error:
        console.print(f"The reports could not be written: {error}", markup=False, soft_wrap=True)
        return
    run, can_pick = run_words(summary), pick_advice(summary) is not None
    commands = f"`spquant-search front {run}`" + (f" and `spquant-search pick {run} --out DIR`" if can_pick else "")
    console.print(
        f"What there is by now is in {folder.path}: report.html, front.png, front.csv, front.json, results.csv, "
        f"report.md; {commands} {'work' if can_pick else 'works'} on it now.",
        markup=False,
        soft_wrap=True,
    )
