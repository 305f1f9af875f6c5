"""The front of several runs on the same data: networks of another width, or other networks, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spquant_search.errors import UserError
from spquant_search.report.cost_words import HEADINGS, and_list, cost_cell, cost_texts
from spquant_search.report.data_files import null_for_nan
from spquant_search.report.forms import sparsity_form
from spquant_search.report.front_table import ORIGIN_MARKS, SPARSITY_LEGEND
from spquant_search.report.numbers import interval_text, percent
from spquant_search.report.run_summary import RunSummary
from spquant_search.report.step_words import column_note
from spquant_search.report.text_table import TextTable, one_line
from spquant_search.runs import pareto, selection
from spquant_search.runs.intervals import CONFIDENCE, wilson_interval
from spquant_search.runs.pareto import figure
from spquant_search.runs.results import TrialResult
from spquant_search.space.objectives import ACCURACY, COSTS


@dataclass(frozen=True, kw_only=True, slots=True)
class JointMember:
    """A member of a joint front, and the run that it is of."""

    summary: RunSummary
    result: TrialResult

    @property
    def run(self) -> str:
        """The word that means its run on the command line."""
        return self.summary.argument or self.summary.run


def joint_front(summaries: Sequence[RunSummary]) -> tuple[JointMember, ...]:
    """Return the members of the runs' fronts that no member of another run dominates, by the first cost.

    Raises:
        UserError: the runs cannot be compared, as their data or their objectives differ.
    """
    _require_comparable(summaries)
    members = [JointMember(summary=summary, result=member) for summary in summaries for member in summary.front]
    costs = summaries[0].costs
    keep = pareto.non_dominated(pareto.objectives([member.result for member in members], costs))
    kept = [member for member, stays in zip(members, keep, strict=True) if stays]
    order = {summary.argument or summary.run: place for place, summary in enumerate(summaries)}
    return tuple(
        sorted(
            kept,
            key=lambda member: (
                *(figure(member.result, cost) for cost in costs),
                order[member.run],
                member.result.number,
            ),
        )
    )


def _require_comparable(summaries: Sequence[RunSummary]) -> None:
    first, *others = summaries
    for other in others:
        pairs = {
            "data": (first.data, other.data),
            "classes": (", ".join(first.classes), ", ".join(other.classes)),
            "validation samples": (f"{first.validation_samples:,}", f"{other.validation_samples:,}"),
            "objectives": (", ".join(first.costs), ", ".join(other.costs)),
        }
        differing = [f"{what} ({one!r}, {two!r})" for what, (one, two) in pairs.items() if one != two]
        if differing:
            raise UserError(
                f"{first.run} and {other.run}: these runs have no joint front, as they differ in {and_list(differing)}"
                "; give runs on the same data with the same objectives"
            )


def joint_table(summaries: Sequence[RunSummary]) -> TextTable:
    """Make the table of a joint front: each member with its run, and whose members stay."""
    members = joint_front(summaries)
    costs = tuple(dict.fromkeys(name for summary in summaries for name in summary.shown_costs))
    steps = sorted({count for summary in summaries for count in summary.time_steps})
    header = ("run", "trial", "val", "val 95 %", "test", *(HEADINGS[name] for name in costs), "T", "gate")
    rows = [_row(member, costs) for member in members]
    filled = [column for column in range(len(header)) if any(row[column] for row in rows)]
    objectives = and_list([ACCURACY, *(COSTS[name].words for name in summaries[0].costs)])
    return TextTable(
        title=f"the joint front of {and_list([one_line(summary.run) for summary in summaries])}: {objectives}",
        header=tuple(header[column] for column in filled),
        rows=tuple(tuple(row[column] for column in filled) for row in rows),
        notes=(
            *_stay_notes(summaries, members),
            *_baseline_notes(summaries),
            f"val: accuracy in %; 95 %: Wilson's {100 * CONFIDENCE:g} % interval; {one_line(summaries[0].data)}",
            column_note(steps),
            *([SPARSITY_LEGEND] if any(sparsity_form(member.result.config) for member in members) else []),
        ),
        left=frozenset({"run", "trial", "gate"}),
    )


def _row(member: JointMember, costs: Sequence[str]) -> tuple[str, ...]:
    result, summary = member.result, member.summary
    test, mark = summary.test_accuracy.get(result.number), ORIGIN_MARKS.get(result.origin, "")
    return (
        member.run,
        f"{result.number}{'*' if result.is_trained else ''} {mark}".rstrip(),
        percent(result.accuracy),
        interval_text(wilson_interval(result.accuracy, summary.samples_of(result))),
        "" if test is None else percent(test),
        *(cost_cell(name, figure(result, name)) for name in costs),
        str(result.config.time_steps),
        sparsity_form(result.config),
    )


def _stay_notes(summaries: Sequence[RunSummary], members: Sequence[JointMember]) -> list[str]:
    """Say how many members of each run's own front are on the joint one."""
    stay = Counter(member.run for member in members)
    words = [
        f"{stay[summary.argument or summary.run]} of {len(summary.front)} of {one_line(summary.run)} "
        f"({one_line(summary.network)})"
        for summary in summaries
    ]
    return [f"members of the runs' own fronts that stay: {', '.join(words)}"]


def _baseline_notes(summaries: Sequence[RunSummary]) -> list[str]:
    """Name every run's float baseline, whether or not it is on the front."""
    notes = []
    for summary in summaries:
        if (baseline := summary.baseline) is not None:
            figures = ", ".join([f"{percent(baseline.accuracy)} %", *cost_texts(baseline, summary.costs)])
            notes.append(f"float baseline of {one_line(summary.run)}: {figures}")
    return notes


def joint_document(summaries: Sequence[RunSummary]) -> dict[str, Any]:
    """Make the document of `front --json` for several runs: members as for one run, each with its run."""
    members = joint_front(summaries)
    document = {
        "runs": [summary.argument or summary.run for summary in summaries],
        "classes": list(summaries[0].classes),
        "objectives": [ACCURACY, *summaries[0].costs],
        "baselines": [
            _member(JointMember(summary=summary, result=summary.baseline)) for summary in summaries if summary.baseline
        ],
        "members": [_member(member) for member in members],
    }
    clean: dict[str, Any] = null_for_nan(document)
    return clean


def _member(member: JointMember) -> dict[str, Any]:
    summary, result = member.summary, member.result
    figures = selection.member_dict(
        result,
        samples=summary.samples_of(result),
        test_accuracy=summary.test_accuracy.get(result.number),
        test_samples=summary.test_samples,
    )
    return {"run": member.run, **figures}
