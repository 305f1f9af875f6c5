"""The table of a Pareto front.

People read KiB, FLOPs (2 per MAC) and reduction factors against the float baseline; the data files carry MACs too.
"""

from __future__ import annotations

from collections.abc import Sequence

from spquant_search.costs.memory import FLOPS_PER_MAC
from spquant_search.report.energy_columns import ENERGY_COLUMNS, ENERGY_NOTES, energy_cells
from spquant_search.report.forms import bits_form, legend, levels_form, sparsity_form
from spquant_search.report.numbers import flops, kib, percent, quantity, reduction
from spquant_search.report.run_summary import RunSummary
from spquant_search.report.text_table import TextTable
from spquant_search.runs import selection
from spquant_search.runs.energy import measured_energy
from spquant_search.runs.pareto import REFERENCE_SLACK, ReferencePoint
from spquant_search.runs.results import Origin, TrialResult

SPARSITY_LEGEND = "g5s3: 5 layers with a channel gate, 3 layers that skip neurons"
ORIGIN_MARKS = {Origin.BASELINE: "base", Origin.REFERENCE: "ref"}


def _without_empty_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [column for column in range(len(header)) if any(row[column] for row in rows) or not rows]


def front_table(summary: RunSummary, *, time_steps: int | None = None) -> TextTable:
    """Make the table of the front, smallest memory first, with factors against the float baseline.

    With ``time_steps`` (of a sample) it has the estimate of a sample's energy, too.
    """
    header = (
        *("trial", "val", "test", "mean val", "mean test", "KiB", "factor", "FLOPs", "factor"),
        *(*ENERGY_COLUMNS, "bits", "levels", "gate"),
    )
    rows = [_front_row(summary, member, time_steps) for member in summary.front]
    kept = _without_empty_columns(header, rows)
    has_energy = any(header[column] in ENERGY_COLUMNS for column in kept)
    return TextTable(
        title=f"{summary.run}: the front of accuracy, memory and operations",
        header=tuple(header[column] for column in kept),
        rows=tuple(tuple(row[column] for column in kept) for row in rows),
        notes=_front_notes(summary, has_energy=has_energy and bool(rows)),
        left=frozenset({"trial", "bits", "levels", "gate"}),
    )


def budget_words(summary: RunSummary) -> str:
    """Name the space file's constraints, and by how much the nearest trial misses them; empty without constraints."""
    budget = summary.budget
    if not budget:
        return ""
    words = ", ".join(_bound_words(name, bound) for name, bound in budget.as_dict().items())
    if summary.meets_budget or not summary.front:
        return f"constraints: {words}; the front is that of the trials within them"
    near = selection.nearest(summary.front, budget)
    missed = sorted(budget.excess(near).items(), key=lambda item: item[1])
    listed = " and ".join(
        f"{name} by {100 * share:.3g} % ({_figure(name, getattr(near, name))})" for name, share in missed
    )
    return (
        f"NO TRIAL IS WITHIN THE CONSTRAINTS ({words}): the front is that of all trials. "
        f"Nearest is trial {near.number}, which misses {listed}"
    )


def _bound_words(name: str, bound: float) -> str:
    return f"{name} {'at least' if name == 'accuracy' else 'at most'} {_figure(name, bound)}"


def _figure(name: str, value: float) -> str:
    if name == "effective_flops":
        return flops(value)
    return f"{value:.4g}" if name == "accuracy" else f"{value:,.0f}"


def _front_row(summary: RunSummary, member: TrialResult, time_steps: int | None) -> tuple[str, ...]:
    baseline = summary.baseline
    energy = None if time_steps is None else measured_energy(member, time_steps=time_steps)
    test, final = summary.test_accuracy.get(member.number), member.final
    return (
        f"{member.number} {ORIGIN_MARKS.get(member.origin, '')}".rstrip(),
        percent(member.accuracy),
        "" if test is None else percent(test),
        "" if final is None else _mean_cell(final.validation_mean, final.validation_std),
        "" if final is None else _mean_cell(final.test_mean, final.test_std),
        kib(member.memory_bytes),
        reduction(baseline.memory_bytes if baseline else None, member.memory_bytes),
        quantity(member.effective_flops),
        reduction(baseline.effective_flops if baseline else None, member.effective_flops),
        *(("", "") if energy is None else energy_cells(energy)),
        bits_form(member.config),
        levels_form(member.config),
        sparsity_form(member.config),
    )


def _mean_cell(mean: float | None, deviation: float | None) -> str:
    """Write ``84.2 ±0.3``."""
    return percent(mean) if deviation is None else f"{percent(mean)} ±{percent(deviation)}"


def _final_notes(members: Sequence[TrialResult]) -> list[str]:
    """Say how members were fine-tuned at the end, and which kept their earlier weights."""
    tuned = [(member.number, member.final) for member in members if member.final is not None]
    notes = []
    if tuned:
        recipes = {(final.seeds, final.epochs) for _, final in tuned}
        words = ", ".join(f"{seeds} x {epochs} epochs" for seeds, epochs in sorted(recipes))
        notes.append(
            f"mean val, mean test: over the seeds of the last fine-tuning ({words}), ± one standard deviation; "
            "val, test: of the weights that were kept, chosen by val"
        )
    kept = [str(number) for number, final in tuned if not final.improved]
    if kept:
        notes.append(f"no seed improved on the earlier weights, which are kept: trial {', '.join(kept)}")
    return notes


def _front_notes(summary: RunSummary, *, has_energy: bool) -> tuple[str, ...]:
    tested = f", test: on {summary.test_samples:,} test samples" if summary.test_accuracy else ""
    members = summary.front
    notes = [
        f"val: accuracy in % on {summary.validation_samples:,} validation samples{tested}; {summary.data}",
        "FLOPs: effective, 2 per MAC, a sample over all time steps; factor: against the float baseline",
        *_final_notes(members),
        legend(member.config for member in members),
    ]
    if any(sparsity_form(member.config) for member in members):
        notes.append(SPARSITY_LEGEND)
    if summary.budget:
        notes.insert(0, budget_words(summary))
    if has_energy:
        notes += [f"{ENERGY_NOTES[0]}; operations as measured on the validation split", *ENERGY_NOTES[1:]]
    if any(member.origin in ORIGIN_MARKS for member in members):
        notes.append("base: the float baseline; ref: a reference of uniform precision")
    return tuple(notes)


def reference_text(point: ReferencePoint) -> str:
    """Describe the reference point, without which a hypervolume says nothing."""
    operations = flops(point.effective_macs * FLOPS_PER_MAC)
    corner = f"accuracy {percent(point.accuracy)} %, {kib(point.memory_bytes)} KiB, {operations}"
    return f"{corner}: chance, {REFERENCE_SLACK:g} times the float baseline"


def hypervolume_text(hypervolume: float | None, point: ReferencePoint | None) -> str:
    """Write ``hypervolume 0.412 of at most 0.9 (reference point: ...)``."""
    if hypervolume is None or point is None:
        return "hypervolume: not before the float baseline is trained"
    limit = 1 - point.accuracy
    return f"hypervolume {hypervolume:.4f} of at most {limit:.3g} (reference point: {reference_text(point)})"
