"""The files that a run leaves for people and scripts: results.csv, front.csv, front.json, front.png, report.md.

Each is written beside its place and then moved there, so that a reader, or a crash, never meets half a file.
"""

from __future__ import annotations

import csv
import io
import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spquant_search.costs.memory import FLOPS_PER_MAC
from spquant_search.report.figures import front_figure
from spquant_search.report.summary import RunSummary
from spquant_search.report.tables import (
    duration,
    flops,
    front_table,
    hypervolume_text,
    kib,
    layer_table,
    one_line,
    percent,
    short_form,
    standard_error,
)
from spquant_search.runs import pareto, selection
from spquant_search.runs.files import write_text
from spquant_search.runs.results import Outcome, TrialResult

RESULT_COLUMNS = (
    "number",
    "origin",
    "outcome",
    "reason",
    "accuracy",
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
    "density",
    "epochs",
    "seconds",
    "seed",
)


def write_reports(summary: RunSummary, folder: Path, *, figure: bool = True) -> None:
    """Write all files of the run into ``folder``; without ``figure`` all but front.png, which takes a second."""
    write_results_csv(summary, folder / "results.csv")
    write_front_csv(summary, folder / "front.csv")
    write_front_json(summary, folder / "front.json")
    if figure:
        front_figure(summary, folder / "front.png")
    write_report(summary, folder / "report.md")


# ---------------------------------------------------------------- CSV


def write_results_csv(summary: RunSummary, path: Path) -> None:
    """One row a trial, the baseline and those that failed included."""
    write_text(path, _csv(RESULT_COLUMNS, [_result_row(result) for result in summary.results], summary.results))


def write_front_csv(summary: RunSummary, path: Path) -> None:
    """The front's rows of results.csv, with the accuracy on the test split where that was measured."""
    members = summary.front
    rows = [_result_row(member) | {"test_accuracy": summary.test_accuracy.get(member.number)} for member in members]
    write_text(path, _csv((*RESULT_COLUMNS, "test_accuracy"), rows, summary.results))


def _result_row(result: TrialResult) -> dict[str, Any]:
    row = {name: getattr(result, name) for name in RESULT_COLUMNS}
    row |= {"outcome": result.outcome.name, "reason": one_line(result.reason), "epochs": result.trained_epochs}
    return row | result.config.flat()


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], results: Sequence[TrialResult]) -> str:
    """Empty cells stand for what is unknown or what a layer does not have."""
    addresses = dict.fromkeys(address for result in results for address in result.config.flat())
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, *addresses], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_null_for_nan(dict(row)) for row in rows)
    return text.getvalue()


# ---------------------------------------------------------------- JSON


def front_document(summary: RunSummary) -> dict[str, Any]:
    """What `front --json` prints and front.json holds; accuracies are fractions, null is unknown."""
    baseline, point = summary.baseline, summary.reference_point
    document = {
        "run": summary.run,
        "objectives": list(pareto.OBJECTIVES),
        "reference_point": None if point is None else point.as_dict(),
        "hypervolume": summary.hypervolume,
        "seconds": summary.seconds,
        "constraints": _constraints(summary),
        "trials": trial_counts(summary),
        "baseline": None if baseline is None else _member(summary, baseline),
        "members": [_member(summary, member) for member in summary.front],
    }
    clean: dict[str, Any] = _null_for_nan(document)
    return clean


def write_front_json(summary: RunSummary, path: Path) -> None:
    write_text(path, json.dumps(front_document(summary), indent=1, allow_nan=False) + "\n")


def trial_counts(summary: RunSummary) -> dict[str, int]:
    """How many trials besides the baseline got how far; ``read_out`` counts those judged without any training."""
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
    """The space file's budgets and whether the members keep them, None where there are none.

    ``nearest``: where no trial fits, the one that misses least, and by which part of each bound that it misses.
    """
    budget = summary.budget
    if not budget:
        return None
    bounds = {name: budget.as_dict().get(name) for name in ("memory_bytes", "effective_flops", "accuracy")}
    nearest = None
    if summary.front and not summary.meets_budget:
        near = selection.nearest(summary.front, budget)
        nearest = {"number": near.number, "excess": budget.excess(near)}
    return {**bounds, "met": summary.meets_budget, "nearest": nearest}


def _member(summary: RunSummary, member: TrialResult) -> dict[str, Any]:
    return selection.member_dict(member, test_accuracy=summary.test_accuracy.get(member.number))


def _null_for_nan(value: Any) -> Any:
    """``value`` with None for every number that JSON cannot write."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _null_for_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_null_for_nan(item) for item in value]
    return value


# ---------------------------------------------------------------- report.md


def write_report(summary: RunSummary, path: Path) -> None:
    write_text(path, report_markdown(summary))


def report_markdown(summary: RunSummary) -> str:
    """The whole run on one page."""
    sections = (_opening, _front_section, _trials_section, _counting_section, _next_section, _layers_section)
    return "\n".join(section(summary) for section in sections)


def _opening(summary: RunSummary) -> str:
    return f"""# {one_line(summary.run)}: how few bits and operations

Searched: weight bits, membrane levels and sparsity of every layer of {summary.network}, as `{summary.source}` allows.
Data: {one_line(summary.data)}.

Accuracy is that of the last epoch, or of a subnet, on {summary.validation_samples:,} validation samples;
{_test_sentence(summary)}

![accuracy against memory of every trial that left weights](front.png)
"""


def _test_sentence(summary: RunSummary) -> str:
    if not summary.test_accuracy:
        return "the test split was not used."
    return f"the test split ({summary.test_samples:,} samples) was used once, after the search, for the front alone."


def _front_section(summary: RunSummary) -> str:
    members = summary.front
    if not members:
        return "## The front\n\nNo trial has completed yet.\n"
    best = max(member.accuracy for member in members)
    error = standard_error(best, summary.validation_samples)
    return f"""## The front

{front_table(summary).markdown()}
One standard error of the highest accuracy, from the number of validation samples alone: {percent(error)} points.
The front was chosen on this split, so that its accuracies lean to the high side.

{_sentence(hypervolume_text(summary.hypervolume, summary.reference_point))}. Its axes: accuracy above chance, memory
and operations as parts of the reference point's.
"""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _trials_section(summary: RunSummary) -> str:
    ends = Counter(trial.outcome for trial in summary.trials)
    rows = "\n".join(f"| {outcome.value} | {ends[outcome]} |" for outcome in Outcome if ends[outcome])
    epochs = sum(trial.trained_epochs for trial in summary.trials)
    return f"""## Trials

| how it ended | trials |
| :-- | --: |
{rows}

{len(summary.trials)} trials besides the float baseline, {epochs} epochs, {duration(summary.seconds)} of wall clock.
Every one, with the reason why it ended, is a row of `results.csv`.
"""


def _counting_section(summary: RunSummary) -> str:
    baseline = summary.baseline
    dense = (
        "" if baseline is None else f" The network's dense operations: {flops(baseline.dense_macs * FLOPS_PER_MAC)}."
    )
    return f"""## What is counted

- Memory: weights packed at their bits, membranes at ceil(log2 levels) bits a neuron (one sample, one time step),
  scales, offsets and gate predictors. Code, input frames and scratch buffers are not in it.
- FLOPs: 2 per MAC, a sample over all time steps. Effective ones leave out closed channels and skipped neurons, include
  the gates' predictors, and are measured on the validation split; zeros in the input are counted.{dense}
"""


def pick_command(summary: RunSummary) -> str:
    """The command that picks a member of the front within so much memory as its knee needs."""
    kib = math.ceil(selection.knee(summary.front).memory_bytes / 1024)
    return f"spquant-search pick {shlex.quote(summary.run)} --max-memory {kib}KiB --out picked"


def _next_section(summary: RunSummary) -> str:
    run = shlex.quote(summary.run)
    lines = ["## Use it", ""]
    if summary.front:
        member = selection.knee(summary.front)
        lines += [
            "To deploy the member nearest to the ideal corner (the knee: here trial "
            f"{member.number}, `{short_form(member.config)}`), or the most accurate one within a memory:",
            "",
            f"    spquant-search pick {run} --knee --out picked",
            f"    {pick_command(summary)}",
            "",
        ]
    command = one_line(summary.command) or f"spquant-search --space {shlex.quote(summary.source)} --run {run}"
    lines += ["The same search again; equal seeds give equal results apart from times:", "", f"    {command}", ""]
    if summary.environment:
        rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in summary.environment.items()]
        lines += ["| made with | |", "| :-- | :-- |", *rows, ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return one_line(str(text)).replace("|", "\\|")


def _layers_section(summary: RunSummary) -> str:
    parts = ["## Layers of the front's members\n"]
    for member in summary.front:
        figures = f"{percent(member.accuracy)} %, {kib(member.memory_bytes)} KiB, {flops(member.effective_flops)}"
        parts.append(f"### Trial {member.number} ({member.origin}): {figures}\n\n{layer_table(member).markdown()}")
    return "\n".join(parts)
