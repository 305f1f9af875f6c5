"""Writes all files that a run leaves for people and scripts.

Each is written beside its place and then moved there, so that a reader, or a crash, never meets half a file.
"""

from __future__ import annotations

from pathlib import Path

from spquant_search.report.data_files import write_front_csv, write_front_json, write_results_csv
from spquant_search.report.front_figure import write_front_figure
from spquant_search.report.run_report import write_report
from spquant_search.report.run_summary import RunSummary


def write_reports(summary: RunSummary, folder: Path, *, figure: bool = True) -> None:
    """Write all files of the run into ``folder``; without ``figure`` all but front.png, which takes a second."""
    write_results_csv(summary, folder / "results.csv")
    write_front_csv(summary, folder / "front.csv")
    write_front_json(summary, folder / "front.json")
    if figure:
        write_front_figure(summary, folder / "front.png")
    write_report(summary, folder / "report.md")
