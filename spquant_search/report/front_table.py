"""The table of a Pareto front.

People read KiB, FLOPs (2 per MAC) and reduction factors against the float baseline; the data files carry MACs too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from spquant_search.costs.memory import FLOPS_PER_MAC
from spquant_search.report.accuracy_words import best_interval, few_samples_of_front, validation_words
from spquant_search.report.budget_words import budget_words
from spquant_search.report.energy_columns import ENERGY_COLUMNS, ENERGY_NOTES, energy_cells
from spquant_search.report.forms import bits_form, legend, levels_form, sparsity_form
from spquant_search.report.numbers import MISSING, flops, interval_text, kib, percent, quantity, reduction
from spquant_search.report.run_summary import RunSummary
from spquant_search.report.step_words import baseline_words, column_note, over_steps
from spquant_search.report.text_table import TextTable
from spquant_search.runs.energy import measured_energy
from spquant_search.runs.intervals import CONFIDENCE, wilson_interval
from spquant_search.runs.pareto import REFERENCE_SLACK, ReferencePoint
from spquant_search.runs.results import Origin, TrialResult

SPARSITY_LEGEND = "g5s3: 5 layers with a channel gate, 3 layers that skip neurons"
ORIGIN_MARKS = {Origin.BASELINE: "base", Origin.REFERENCE: "ref"}
ORIGIN_NOTES = {Origin.BASELINE: "base: the float baseline", Origin.REFERENCE: "ref: a reference of uniform precision"}
INTERVAL_COLUMNS = ("val 95 %", "test 95 %")


def front_table(
    summary: RunSummary,
    *,
    with_energy: bool = False,
    intervals: Collection[str] = INTERVAL_COLUMNS,
    trained_only: bool = False,
    grouped: bool = True,
) -> TextTable:
    """Make the table of the front, smallest memory first, with factors against the float baseline.

    ``with_energy``: with the estimate of a sample's energy. ``intervals``: the columns with the accuracies' intervals
    that are wanted. ``trained_only``: without the members that are subnets. ``grouped``: with spaces between the layers
    of bits and levels, four by four.
    """
    header = (
        *("trial", "val", INTERVAL_COLUMNS[0], "test", INTERVAL_COLUMNS[1], "mean val", "mean test"),
        *("KiB", "factor", "FLOPs", "factor", *ENERGY_COLUMNS, "T", "bits", "levels", "gate"),
    )
    members = shown_members(summary, trained_only=trained_only)
    rows = [_front_row(summary, member, with_energy=with_energy, grouped=grouped) for member in members]
    dropped = [name for name in INTERVAL_COLUMNS if name not in intervals]
    kept = [column for column in _filled_columns(header, rows) if header[column] not in dropped]
    names = tuple(header[column] for column in kept)
    return TextTable(
        title=f"{summary.run}: the front of accuracy, memory and operations"
        + (", the trained members alone" if trained_only else ""),
        header=names,
        rows=tuple(tuple(row[column] for column in kept) for row in rows),
        notes=_front_notes(summary, members, columns=names),
        left=frozenset({"trial", "bits", "levels", "gate"}),
    )


def shown_members(summary: RunSummary, *, trained_only: bool) -> tuple[TrialResult, ...]:
    """Return the front's members, all of them or those that were trained at their own configuration."""
    return tuple(member for member in summary.front if member.is_trained or not trained_only)


def _filled_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [column for column in range(len(header)) if any(row[column] for row in rows) or not rows]


def _front_row(summary: RunSummary, member: TrialResult, *, with_energy: bool, grouped: bool) -> tuple[str, ...]:
    energy = measured_energy(member) if with_energy else None
    test, final = summary.test_accuracy.get(member.number), member.final
    mark = ORIGIN_MARKS.get(member.origin, "")
    forms = bits_form(member.config), levels_form(member.config, none=MISSING if summary.searches_steps else "")
    bits, levels = forms if grouped else (form.replace(" ", "") for form in forms)
    return (
        f"{member.number}{'*' if member.is_trained else ''} {mark}".rstrip(),
        percent(member.accuracy),
        interval_text(wilson_interval(member.accuracy, summary.samples_of(member))),
        "" if test is None else percent(test),
        "" if test is None else interval_text(wilson_interval(test, summary.test_samples)),
        "" if final is None else _mean_cell(final.validation_mean, final.validation_std),
        "" if final is None else _mean_cell(final.test_mean, final.test_std),
        *_cost_cells(summary, member),
        *(("", "") if energy is None else energy_cells(energy)),
        str(member.config.time_steps) if summary.searches_steps else "",
        bits,
        levels,
        sparsity_form(member.config),
    )


def _cost_cells(summary: RunSummary, member: TrialResult) -> tuple[str, str, str, str]:
    """Write memory and operations with their factors; empty where all trials are equal."""
    baseline, hidden = summary.baseline, summary.hidden_costs
    memory = kib(member.memory_bytes), _factor(baseline, member, "memory_bytes")
    operations = quantity(member.effective_flops), _factor(baseline, member, "effective_flops")
    return (
        *(("", "") if "memory_bytes" in hidden else memory),
        *(("", "") if "effective_macs" in hidden else operations),
    )


def _factor(baseline: TrialResult | None, member: TrialResult, figure: str) -> str:
    return "" if baseline is None else reduction(getattr(baseline, figure), getattr(member, figure))


def _mean_cell(mean: float | None, deviation: float | None) -> str:
    """Write ``84.2 ±0.3``."""
    return percent(mean) if deviation is None else f"{percent(mean)} ±{percent(deviation)}"


# ---------------------------------------------------------------- notes


def _front_notes(summary: RunSummary, members: tuple[TrialResult, ...], *, columns: Sequence[str]) -> tuple[str, ...]:
    notes = [budget_words(summary), _trained_note(summary, members)]
    if members:
        notes += [*_accuracy_notes(summary, members, columns), *_cost_notes(summary, columns), *_final_notes(members)]
        notes.append(legend(member.config for member in members))
    if any(sparsity_form(member.config) for member in members):
        notes.append(SPARSITY_LEGEND)
    if members and any(name in ENERGY_COLUMNS for name in columns):
        notes += [f"{ENERGY_NOTES[0]}; operations as measured on the validation split", *ENERGY_NOTES[1:]]
    origins = {member.origin for member in members}
    notes.append("; ".join(words for origin, words in ORIGIN_NOTES.items() if origin in origins))
    return tuple(note for note in notes if note)


def _trained_note(summary: RunSummary, members: Sequence[TrialResult]) -> str:
    """Say what the mark of a trained member means, and what those without it are."""
    words = "*: trained at its own configuration"
    if not members:
        found = "no member of the front was" if summary.front else "no trial has left a network yet, so none was"
        return f"{found} trained at its own configuration"
    if all(member.is_trained for member in members):
        return words
    rest = "the others are subnets of the supernet as it left them, not fine-tuned"
    return (
        f"{words}; {rest}" if any(member.is_trained for member in members) else f"no member is fine-tuned: {rest[4:]}"
    )


def _accuracy_notes(summary: RunSummary, members: tuple[TrialResult, ...], columns: Sequence[str]) -> list[str]:
    tested = f", test: on {summary.test_samples:,} test samples" if "test" in columns else ""
    intervals = f"; 95 %: Wilson's {100 * CONFIDENCE:g} % interval" if set(INTERVAL_COLUMNS) & set(columns) else ""
    words = f"val: accuracy in % on {validation_words(summary, members)}{tested}{intervals}; {summary.data}"
    notes = [words, few_samples_of_front(summary)]
    return notes if intervals else [*notes, best_interval(summary)]


def _cost_notes(summary: RunSummary, columns: Sequence[str]) -> list[str]:
    counted = f"FLOPs: effective, 2 per MAC, a sample {over_steps(summary.time_steps)}"
    shown = [counted] if "FLOPs" in columns else []
    shown += [f"factor: against {baseline_words(summary.time_steps)}"] if "factor" in columns else []
    steps = column_note(summary.time_steps) if "T" in columns else ""
    return ["; ".join(shown), steps, *constant_notes(summary)]


def constant_notes(summary: RunSummary) -> list[str]:
    """Name the objectives that are the same in all trials, and their value."""
    some = next((member for member in reversed(summary.front) if member.origin is not Origin.BASELINE), None)
    some = some or summary.baseline
    if some is None:
        return []
    left_out = {
        name: ", and is left out" if name in summary.hidden_costs else "" for name in summary.constant_objectives
    }
    words = {
        "accuracy": f"accuracy is the same in all trials: {percent(some.accuracy)} %",
        "memory_bytes": f"memory is the same in all trials: {kib(some.memory_bytes)} KiB",
        "effective_macs": f"the number of operations is the same in all trials: {flops(some.effective_flops)}",
    }
    reason = {"effective_macs": ", as no layer has a channel gate or skips neurons"}
    return [
        words[name] + (reason.get(name, "") if name in summary.fixed else "") + left for name, left in left_out.items()
    ]


def _final_notes(members: Sequence[TrialResult]) -> list[str]:
    """Say how members were fine-tuned at the end, and which kept their earlier weights."""
    tuned = [(member.number, member.final) for member in members if member.final is not None]
    notes = []
    if tuned:
        recipes = {(final.seeds, final.epochs) for _, final in tuned}
        words = ", ".join(f"{seeds} x {epochs} epochs" for seeds, epochs in sorted(recipes))
        notes.append(
            f"mean val, mean test: over the seeds of the last fine-tuning ({words}), ± one standard deviation over "
            "them; val and test are those of the one network that was kept, which val has chosen"
        )
    kept = [str(number) for number, final in tuned if not final.improved]
    if kept:
        notes.append(
            "no seed gave a network to keep (as accurate, and within the constraints), so the earlier one stays: "
            f"trial {', '.join(kept)}"
        )
    return notes


# ---------------------------------------------------------------- the hypervolume


def reference_text(point: ReferencePoint, *, without: Collection[str] = ()) -> str:
    """Describe the reference point, without which a hypervolume says nothing."""
    costs = {
        "memory_bytes": f"{kib(point.memory_bytes)} KiB",
        "effective_macs": flops(point.effective_macs * FLOPS_PER_MAC),
    }
    corner = ", ".join(
        [f"accuracy {percent(point.accuracy)} %", *(costs[name] for name in costs if name not in without)]
    )
    return f"{corner}: chance, {REFERENCE_SLACK:g} times the float baseline"


def hypervolume_text(hypervolume: float | None, point: ReferencePoint | None, *, without: Collection[str] = ()) -> str:
    """Write ``hypervolume 0.412 of at most 0.9 (reference point: ...)``; ``without``: the costs that it leaves out."""
    if hypervolume is None or point is None:
        return "hypervolume: not before the float baseline is trained"
    words = {"memory_bytes": "memory", "effective_macs": "operations"}
    rest = " and ".join(["accuracy", *(word for name, word in words.items() if name not in without)])
    alone = f" of {rest} alone" if without else ""
    limit = 1 - point.accuracy
    reference = reference_text(point, without=without)
    return f"hypervolume{alone} {hypervolume:.4f} of at most {limit:.3g} (reference point: {reference})"


def run_hypervolume_text(summary: RunSummary) -> str:
    """Write a run's :func:`hypervolume_text`."""
    hidden = summary.hidden_costs
    return hypervolume_text(summary.hypervolume_without(hidden), summary.reference_point, without=hidden)
