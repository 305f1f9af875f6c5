"""The estimate of a search's time against what it took: as first told, in all and by part.

    .venv/bin/python benchmarks/estimate.py [spaces/tiny.yaml ...] [--json]

Each space is searched from nothing but the cache, as the command line does it; the estimate is that which a log shows
after the first epochs. Let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measurement import as_document, markdown_table
from rich.console import Console

from spquant_search.commands.session import open_session, search_plan
from spquant_search.commands.trainers import hire
from spquant_search.driver.coordinator import run_search
from spquant_search.driver.limits import Limits
from spquant_search.processes import keep_compiled_code
from spquant_search.report.plain_log import PlainLog
from spquant_search.report.time_estimate import PartSeconds
from spquant_search.runs.events import SearchPlan
from spquant_search.runs.files import cache_folder
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.results import EpochMetrics
from spquant_search.training.prepare import prepare

TINY = Path(__file__).parent.parent / "spaces" / "tiny.yaml"


class _Noting(PlainLog):
    """A log that keeps the first estimate, and when it was made."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.first: tuple[PartSeconds, ...] | None = None
        self.told_after = 0.0

    def plan(self, plan: SearchPlan) -> None:
        super().plan(plan)
        self._note()

    def epoch(self, number: int, metrics: EpochMetrics) -> None:
        super().epoch(number, metrics)
        self._note()

    def parts(self) -> tuple[PartSeconds, ...] | None:
        estimate = self.progress.time_estimate
        return None if estimate is None else estimate.in_all(time.monotonic())

    def _note(self) -> None:
        if self.first is None:
            self.first = self.parts()
            self.told_after = time.monotonic() - self.progress.begun


def main() -> None:
    parser = argparse.ArgumentParser(description="The estimate of a search's time against what it took.")
    parser.add_argument("spaces", nargs="*", type=Path, default=[TINY])
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="as of spquant-search")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    keep_compiled_code(cache_folder())
    rows = [row for space in arguments.spaces for row in measure(space, arguments.overrides)]
    totals = {row["space"]: row["ratio"] for row in rows if row["part"] == "all"}
    if arguments.json:
        figures = {f"estimated_over_real_{name}": ratio for name, ratio in totals.items()}
        print(json.dumps(as_document(rows, figures), indent=1))
        return
    cells = [
        [row["space"], row["part"], *(f"{row[key]:.2f}" for key in ("estimated_minutes", "minutes", "ratio"))]
        for row in rows
    ]
    print("\n".join(markdown_table(["space", "part", "estimated", "minutes", "ratio"], cells, text_columns=2)))


def measure(space: Path, overrides: list[str]) -> list[dict[str, Any]]:
    """Search a space, and return a row for all of it and one for each part."""
    hired = hire(prepare(space, overrides), device="auto", workers=None)
    prepared, log, started = hired.prepared, _Noting(), time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(path=Path(place) / space.stem)
        console = Console(file=sys.stderr)
        trials = prepared.space.file.search.trials
        with open_session(hired, folder, console=console, started=started, trials=trials) as session:
            log.plan(search_plan(prepared.space, folder, session, trials=trials, work=""))
            run_search(
                prepared,
                folder,
                trainer_config=session.trainer_config,
                limits=Limits(trials=trials),
                watcher=log,
            )
            real, took = log.parts() or (), time.monotonic() - log.progress.begun
    before = took - sum(part.seconds for part in real)
    first = log.first or ()
    ends = {part.work.part: part.seconds for part in real}
    rows = [_row(space, "all", before + sum(part.seconds for part in first), took)]
    return rows + [_row(space, part.work.part, part.seconds, ends.get(part.work.part, 0.0)) for part in first]


def _row(space: Path, part: str, estimated: float, real: float) -> dict[str, Any]:
    return {
        "space": space.stem,
        "part": str(part),
        "estimated_minutes": estimated / 60,
        "minutes": real / 60,
        "ratio": estimated / real if real else float("nan"),
    }


if __name__ == "__main__":
    main()
