"""The table of a Pareto front.

People read KiB, FLOPs (2 per MAC) and reduction factors against the float baseline; the data files carry MACs too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from spquant_search.report.accuracy_words import best_interval, few_samples_of_front, validation_words
from spquant_search.report.budget_words import budget_words
from spquant_search.report.cost_words import HEADINGS, and_list, cost_cell, cost_text
from spquant_search.report.energy_columns import ENERGY_COLUMNS, ENERGY_NOTES, energy_cells
from spquant_search.report.forms import bits_form, legend, levels_form, sparsity_form
from spquant_search.report.numbers import MISSING, interval_text, percent, reduction
from spquant_search.report.run_summary import RunSummary
from spquant_search.report.step_words import baseline_words, column_note, over_steps
from spquant_search.report.text_table import TextTable
from spquant_search.runs.energy import measured_energy
from spquant_search.runs.intervals import CONFIDENCE, wilson_interval
from spquant_search.runs.pareto import REFERENCE_SLACK, ReferencePoint, figure
from spquant_search.runs.results import Origin, TrialResult
from spquant_search.space.objectives import ACCURACY, COSTS

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
    """Make the table of the front, that of its first cost first, with factors against the float baseline.

    ``with_energy``: with the estimate of a sample's energy. ``intervals``: the columns with the accuracies' intervals
    that are wanted. ``trained_only``: without the members that are subnets. ``grouped``: with spaces between the layers
    of bits and levels, four by four.
    """
    header = (
        *("trial", "val", INTERVAL_COLUMNS[0], "test", INTERVAL_COLUMNS[1], "mean val", "mean test"),
        *(heading for name in summary.shown_costs for heading in (HEADINGS[name], "factor")),
        *(*_further_energy(summary), "T", "bits", "levels", "gate"),
    )
    members = shown_members(summary, trained_only=trained_only)
    rows = [_front_row(summary, member, with_energy=with_energy, grouped=grouped) for member in members]
    dropped = [name for name in INTERVAL_COLUMNS if name not in intervals]
    kept = [column for column in _filled_columns(header, rows) if header[column] not in dropped]
    names = tuple(header[column] for column in kept)
    return TextTable(
        title=f"{summary.run}: the front of {_objective_words(summary)}"
        + (", the trained members alone" if trained_only else ""),
        header=names,
        rows=tuple(tuple(row[column] for column in kept) for row in rows),
        notes=_front_notes(summary, members, columns=names),
        left=frozenset({"trial", "bits", "levels", "gate"}),
    )


def _objective_words(summary: RunSummary) -> str:
    return and_list([ACCURACY, *(COSTS[name].words for name in summary.costs)])


def _further_energy(summary: RunSummary) -> tuple[str, ...]:
    """Return the columns of energy beside that of an objective or a budget."""
    return tuple(
        name for name in ENERGY_COLUMNS if name != HEADINGS["energy_uj"] or "energy_uj" not in summary.shown_costs
    )


def shown_members(summary: RunSummary, *, trained_only: bool) -> tuple[TrialResult, ...]:
    """Return the front's members, all of them or those that were trained at their own configuration."""
    return tuple(member for member in summary.front if member.is_trained or not trained_only)


def _filled_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [column for column in range(len(header)) if any(row[column] for row in rows) or not rows]


def _front_row(summary: RunSummary, member: TrialResult, *, with_energy: bool, grouped: bool) -> tuple[str, ...]:
    energy = measured_energy(member) if with_energy else None
    cells = {} if energy is None else dict(zip(ENERGY_COLUMNS, energy_cells(energy), strict=True))
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
        *(cells.get(name, "") for name in _further_energy(summary)),
        str(member.config.time_steps) if summary.searches_steps else "",
        bits,
        levels,
        sparsity_form(member.config),
    )


def _cost_cells(summary: RunSummary, member: TrialResult) -> tuple[str, ...]:
    """Write each cost and its factor; empty where all trials are equal, or where a member or the baseline has none."""
    cells: list[str] = []
    for name in summary.shown_costs:
        cell, factor = cost_cell(name, figure(member, name)), _factor(summary.baseline, member, name)
        cells += ("", "") if name in summary.hidden_costs else (cell, factor)
    return tuple(cells)


def _factor(baseline: TrialResult | None, member: TrialResult, name: str) -> str:
    if baseline is None or not COSTS[name].of_floats:
        return ""
    return reduction(getattr(baseline, name), getattr(member, name))


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
    counted = f"a sample {over_steps(summary.time_steps)}"
    notes = {
        "FLOPs": f"FLOPs: effective, 2 per MAC, {counted}",
        "SOPs": f"SOPs: synaptic operations, of non-zero inputs alone, {counted}",
        "factor": f"factor: against {baseline_words(summary.time_steps)}",
    }
    shown = [words for column, words in notes.items() if column in columns]
    steps = column_note(summary.time_steps) if "T" in columns else ""
    return ["; ".join(shown), steps, *_device_notes(summary, columns), *constant_notes(summary)]


def _device_notes(summary: RunSummary, columns: Sequence[str]) -> list[str]:
    """Say what flash and RAM are, and what has none."""
    found = [HEADINGS[name] for name in ("flash_bytes", "ram_bytes") if HEADINGS[name] in columns]
    if not found:
        return []
    is_objective = any(not COSTS[name].of_floats for name in summary.costs)
    words = "what keeps floating point, as the float baseline does, has none"
    return [f"{' and '.join(found)}: of the program on a device; {words}{', and is no member' if is_objective else ''}"]


def constant_notes(summary: RunSummary) -> list[str]:
    """Name the objectives that are the same in all trials, and their value."""
    some = next((member for member in reversed(summary.front) if member.origin is not Origin.BASELINE), None)
    some = some or summary.baseline
    if some is None:
        return []
    left_out = {
        name: ", and is left out" if name in summary.hidden_costs else "" for name in summary.constant_objectives
    }
    reason = {"effective_flops": ", as no layer has a channel gate or skips neurons"}
    return [
        _constant_words(name, some) + (reason.get(name, "") if name in summary.fixed else "") + left
        for name, left in left_out.items()
    ]


def _constant_words(name: str, some: TrialResult) -> str:
    if name == ACCURACY:
        return f"accuracy is the same in all trials: {percent(some.accuracy)} %"
    words = COSTS[name].words
    subject = f"the number of {words}" if COSTS[name].unit in ("FLOPs", "operations") else words
    return f"{subject} is the same in all trials: {cost_text(name, figure(some, name))}"


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
    shown = [name for name in point.costs if name not in without]
    corner = ", ".join(
        [f"accuracy {percent(point.accuracy)} %", *(cost_text(name, point.costs[name]) for name in shown)]
    )
    of_space = [name for name in shown if not COSTS[name].of_floats]
    baseline = f"{REFERENCE_SLACK:g} times the float baseline"
    if not of_space:
        return f"{corner}: chance, {baseline}"
    dearest = (
        f"{REFERENCE_SLACK:g} times the dearest configuration of the space in "
        f"{' and in '.join(COSTS[name].words for name in of_space)}, of which the float baseline has none"
    )
    return f"{corner}: chance, {dearest}" if len(of_space) == len(shown) else f"{corner}: chance, {baseline}, {dearest}"


def hypervolume_text(hypervolume: float | None, point: ReferencePoint | None, *, without: Collection[str] = ()) -> str:
    """Write ``hypervolume 0.412 of at most 0.9 (reference point: ...)``; ``without``: the costs that it leaves out."""
    if hypervolume is None or point is None:
        return "hypervolume: not before the float baseline is trained"
    rest = and_list([ACCURACY, *(COSTS[name].words for name in point.costs if name not in without)])
    alone = f" of {rest} alone" if without else ""
    limit = 1 - point.accuracy
    reference = reference_text(point, without=without)
    return f"hypervolume{alone} {hypervolume:.4f} of at most {limit:.3g} (reference point: {reference})"


def run_hypervolume_text(summary: RunSummary) -> str:
    """Write a run's :func:`hypervolume_text`."""
    hidden = summary.hidden_costs
    return hypervolume_text(summary.hypervolume_without(hidden), summary.reference_point, without=hidden)
