"""The data files of a run, for scripts: results.csv, front.csv and front.json."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from spquant_search.report.front_table import shown_members
from spquant_search.report.run_summary import RunSummary
from spquant_search.report.text_table import one_line
from spquant_search.runs import selection
from spquant_search.runs.files import write_text
from spquant_search.runs.intervals import CONFIDENCE, wilson_interval
from spquant_search.runs.results import Outcome, TrialResult
from spquant_search.space.objectives import ACCURACY
from spquant_search.space.schema import Constraints

INTERVAL_COLUMNS = ("accuracy_samples", "accuracy_low", "accuracy_high")
TEST_COLUMNS = ("test_accuracy", "test_accuracy_low", "test_accuracy_high")
RESULT_COLUMNS = (
    "number",
    "origin",
    "outcome",
    "reason",
    "trained",
    "accuracy",
    *INTERVAL_COLUMNS,
    "memory_bytes",
    "weight_bytes",
    "membrane_bytes",
    "overhead_bytes",
    "flash_bytes",
    "ram_bytes",
    "paper_total_bytes",
    "dense_macs",
    "effective_macs",
    "effective_flops",
    "synaptic_ops",
    "energy_uj",
    "density",
    "epochs",
    "seconds",
    "seed",
)


def write_results_csv(summary: RunSummary, path: Path) -> None:
    """Write one row a trial, the baseline and failed trials included."""
    rows = [_result_row(summary, result) for result in summary.results]
    write_text(path, _csv(RESULT_COLUMNS, rows, summary.results))


def write_front_csv(summary: RunSummary, path: Path) -> None:
    """Write the front's rows of results.csv, with accuracy and interval on the test split where that was measured."""
    rows = [_result_row(summary, member) | _test_cells(summary, member) for member in summary.front]
    write_text(path, _csv((*RESULT_COLUMNS, *TEST_COLUMNS), rows, summary.results))


def _result_row(summary: RunSummary, result: TrialResult) -> dict[str, Any]:
    computed = {"outcome", "reason", "trained", "epochs", *INTERVAL_COLUMNS}
    row = {name: getattr(result, name) for name in RESULT_COLUMNS if name not in computed}
    row |= {"outcome": result.outcome.name, "reason": one_line(result.reason), "epochs": result.trained_epochs}
    row["trained"] = "true" if result.is_trained else "false"
    row |= dict(zip(INTERVAL_COLUMNS, _interval_cells(result.accuracy, summary.samples_of(result)), strict=True))
    return row | {str(address): value for address, value in result.config.flat().items()}


def _test_cells(summary: RunSummary, member: TrialResult) -> dict[str, float | int | None]:
    tested = summary.test_accuracy.get(member.number)
    cells = (None, None, None) if tested is None else (tested, *_interval_cells(tested, summary.test_samples)[1:])
    return dict(zip(TEST_COLUMNS, cells, strict=True))


def _interval_cells(accuracy: float, samples: int) -> tuple[int | None, float | None, float | None]:
    """Return the samples that an accuracy was measured on and the bounds of its interval; None without an accuracy."""
    found = wilson_interval(accuracy, samples)
    return (None, None, None) if found is None else (samples, found.low, found.high)


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], results: Sequence[TrialResult]) -> str:
    """Write rows as CSV; an empty cell is unknown, or the layer has no such value."""
    addresses = dict.fromkeys(str(address) for result in results for address in result.config.flat())
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, *addresses], lineterminator="\n")
    writer.writeheader()
    writer.writerows(null_for_nan(dict(row)) for row in rows)
    return text.getvalue()


def front_document(summary: RunSummary, *, trained_only: bool = False) -> dict[str, Any]:
    """Make the document of `front --json` and front.json; accuracies are fractions, null is unknown."""
    baseline, point = summary.baseline, summary.reference_point
    document = {
        "run": summary.run,
        "classes": list(summary.classes),
        "objectives": [ACCURACY, *summary.costs],
        "constant_objectives": list(summary.constant_objectives),
        "reference_point": None if point is None else point.as_dict(),
        "hypervolume": summary.hypervolume,
        "seconds": summary.seconds,
        "interval": {"method": "wilson", "confidence": CONFIDENCE},
        "constraints": _constraints(summary),
        "trials": trial_counts(summary),
        "baseline": None if baseline is None else _member(summary, baseline),
        "members": [_member(summary, member) for member in shown_members(summary, trained_only=trained_only)],
    }
    clean: dict[str, Any] = null_for_nan(document)
    return clean


def write_front_json(summary: RunSummary, path: Path) -> None:
    write_text(path, json.dumps(front_document(summary), indent=1, allow_nan=False) + "\n")


def trial_counts(summary: RunSummary) -> dict[str, int]:
    """Count how far the trials besides the baseline got; ``subnets`` were evaluated without any training."""
    trials = summary.trials
    ends = Counter(trial.outcome for trial in trials)
    return {
        "total": len(trials),
        "subnets": ends[Outcome.SUBNET],
        "trained_one_epoch": sum(trial.trained_epochs > 0 for trial in trials),
        "last_rung": ends[Outcome.COMPLETE],
        "stopped": ends[Outcome.STOPPED],
        "over_budget": ends[Outcome.OVER_BUDGET],
        "failed": ends[Outcome.FAILED] + ends[Outcome.DIVERGED],
    }


def _constraints(summary: RunSummary) -> dict[str, Any] | None:
    """Give the space file's budgets and whether the members keep them, None where there are none.

    ``nearest``: where no trial fits, the trial that misses least, and by which part of each bound.
    """
    budget = summary.budget
    if not budget:
        return None
    bounds = {constraint.name: budget.as_dict().get(constraint.name) for constraint in fields(Constraints)}
    nearest = None
    if summary.front and not summary.meets_budget:
        near = selection.nearest(summary.front, budget)
        nearest = {"number": near.number, "excess": budget.excess(near)}
    return {**bounds, "met": summary.meets_budget, "nearest": nearest}


def _member(summary: RunSummary, member: TrialResult) -> dict[str, Any]:
    return selection.member_dict(
        member,
        samples=summary.samples_of(member),
        test_accuracy=summary.test_accuracy.get(member.number),
        test_samples=summary.test_samples,
    )


def null_for_nan(value: Any) -> Any:
    """Replace every number that JSON cannot write by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: null_for_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [null_for_nan(item) for item in value]
    return value
