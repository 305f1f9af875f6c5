"""The page report.md: the subject of a run, its front, its trials and the next commands."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from pathlib import Path

from spquant_search.costs.memory import FLOPS_PER_MAC
from spquant_search.report.forms import short_form
from spquant_search.report.front_table import front_table, hypervolume_text
from spquant_search.report.layer_table import layer_table
from spquant_search.report.numbers import duration, flops, kib, percent, standard_error
from spquant_search.report.run_summary import RunSummary
from spquant_search.report.text_table import one_line
from spquant_search.runs import selection
from spquant_search.runs.files import write_text
from spquant_search.runs.results import Outcome


def write_report(summary: RunSummary, path: Path) -> None:
    write_text(path, report_markdown(summary))


def report_markdown(summary: RunSummary) -> str:
    """Write the whole run on one page."""
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
The front was chosen on this split, so its accuracies are optimistic.

{_sentence(hypervolume_text(summary.hypervolume, summary.reference_point))}. Its axes: accuracy above chance, memory
and operations as parts of the reference point's.
"""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _trials_section(summary: RunSummary) -> str:
    ends = Counter(trial.outcome for trial in summary.trials)
    rows = [f"| {outcome.value} | {ends[outcome]} |" for outcome in Outcome if ends[outcome]]
    table = "\n".join(["| how it ended | trials |", "| :-- | --: |", *rows, "", ""]) if rows else ""
    trials, epochs = len(summary.trials), sum(trial.trained_epochs for trial in summary.trials)
    return f"""## Trials

{table}{trials} trials besides the float baseline, {epochs} epochs, {duration(summary.seconds)} of wall clock.
Each trial is a row of `results.csv`, with the reason why it ended.
"""


def _counting_section(summary: RunSummary) -> str:
    baseline = summary.baseline
    dense = ""
    if baseline is not None:
        dense = f"\n- Dense operations of the network: {flops(baseline.dense_macs * FLOPS_PER_MAC)}."
    return f"""## What is counted

- Memory: weights packed at their bits, membranes at ceil(log2 levels) bits a neuron (one sample, one time step),
  scales, offsets and gate predictors. Code, input frames and scratch buffers are not in it.
- FLOPs: 2 per MAC, a sample over all time steps. Effective FLOPs omit closed channels and skipped neurons, include the
  gates' predictors, and are measured on the validation split; zeros in the input are counted.{dense}
"""


def pick_command(summary: RunSummary) -> str:
    """Write the command that picks a member of the front within the memory of its knee."""
    kib = math.ceil(selection.knee(summary.front).memory_bytes / 1024)
    return f"spquant-search pick {shlex.quote(summary.run)} --max-memory {kib}KiB --out picked"


def _next_section(summary: RunSummary) -> str:
    run = shlex.quote(summary.run)
    lines = ["## Next", ""]
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
