"""The files that a run leaves for people and scripts.

Each is written beside its place and then moved there, so that a reader, or a crash, never meets half a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from spquant_search.report.data_files import write_front_csv, write_front_json, write_results_csv
from spquant_search.report.front_figure import write_front_figure
from spquant_search.report.page import write_page
from spquant_search.report.page_data import PageSource
from spquant_search.report.run_report import write_report
from spquant_search.report.run_summary import RunSummary
from spquant_search.report.sensitivity_report import write_sensitivity_figure
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.records import read_facts, read_frozen_space, read_layers, read_profile, read_sensitivity
from spquant_search.runs.sensitivity import Sensitivity
from spquant_search.space.shapes import LayerShape

PAGE = "report.html"


def write_reports(summary: RunSummary, folder: Path) -> None:
    """Write results.csv, front.csv, front.json, front.png and report.md into ``folder``."""
    write_results_csv(summary, folder / "results.csv")
    write_front_csv(summary, folder / "front.csv")
    write_front_json(summary, folder / "front.json")
    write_front_figure(summary, folder / "front.png")
    write_report(summary, folder / "report.md")


def write_run_page(
    folder: RunFolder, summary: RunSummary, *, shapes: Sequence[LayerShape] = (), is_running: bool = False
) -> None:
    """Write report.html into a run's folder; ``shapes``: as :func:`page_source`."""
    source = page_source(folder, summary, shapes=shapes)
    write_page(replace(source, is_running=is_running), folder.path / PAGE)


def page_source(folder: RunFolder, summary: RunSummary, *, shapes: Sequence[LayerShape] = ()) -> PageSource:
    """Read what a page shows beside the summary; ``shapes``: of the layers, where the run did not keep them."""
    return PageSource(
        summary=summary,
        space=read_frozen_space(folder),
        shapes=read_layers(folder) or tuple(shapes),
        sensitivity=read_sensitivity(folder),
        profile=read_profile(folder) if folder.profile_file.is_file() else {},
    )


def write_sensitivity_picture(folder: RunFolder) -> Sensitivity | None:
    """Draw sensitivity.png and return the analysis that it shows; None where the run has none."""
    found = read_sensitivity(folder)
    if found is not None:
        title = f"{read_frozen_space(folder).model.network} on {read_facts(folder).data}"
        write_sensitivity_figure(found, folder.path / "sensitivity.png", title=title)
    return found
