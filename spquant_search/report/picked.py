"""What is said of a member that was picked: how good it is, what it takes, and its neighbours on the front."""

from __future__ import annotations

from collections.abc import Sequence

from spquant_search.report.accuracy_words import one_sample_note
from spquant_search.report.boards import boards_line
from spquant_search.report.budget_words import difference_text, figure_text
from spquant_search.report.numbers import interval_text, percent
from spquant_search.report.pick_advice import run_words
from spquant_search.report.pick_reasons import Wish, member_figures
from spquant_search.report.run_summary import RunSummary
from spquant_search.runs.intervals import CONFIDENCE, wilson_interval
from spquant_search.runs.pareto import figure
from spquant_search.runs.results import TrialResult
from spquant_search.space.objectives import ACCURACY, COSTS


def picked_lines(
    summary: RunSummary,
    member: TrialResult,
    out: str = "",
    *,
    time_steps: str = "",
    origin: str = "",
    frame_bytes: int = 0,
    wish: Wish | None = None,
) -> list[str]:
    """Write the member that was taken, what it leaves of the budgets, and its neighbours on the front.

    ``out``: where it was written; ``time_steps``: in words, those that it takes, where they are fewer than the search
    made frames for; ``origin``: in words, where a network came from that was imported; ``frame_bytes``: of its RAM,
    those of the input frame; ``wish``: the budgets that it was chosen within.
    """
    members, figures = summary.front, member_figures(summary, member)
    return [
        f"trial {member.number} of {len(members)} members of the front: {figures}{f' -> {out}' if out else ''}",
        f"  {_accuracy_words(summary, member)}",
        *([f"  time steps: {time_steps}"] if time_steps else []),
        *([f"  {origin}"] if origin else []),
        *([f"  {_seeds_words(member)}"] if member.final is not None else []),
        *_device_lines(member, frame_bytes),
        *([f"  {line}" for line in _budget_lines(member, wish)] if wish is not None else []),
        *([] if member.is_trained else [f"  {_subnet_words(summary)}"]),
        *_neighbours(summary, member, wish),
    ]


def _device_lines(member: TrialResult, frame_bytes: int) -> list[str]:
    """Say what a device needs, and which have it."""
    flash, ram = member.flash_bytes, member.ram_bytes
    if flash is None or ram is None:
        return []
    frame = f" ({frame_bytes:,} of them the input frame)" if frame_bytes else ""
    sizes = f"flash {flash:,} bytes, RAM {ram:,} bytes{frame}, {flash + ram:,} in all"
    return [
        f"  on a device: {sizes}; the stack comes on top",
        f"  {boards_line(flash, ram)}",
    ]


def _budget_lines(member: TrialResult, wish: Wish) -> list[str]:
    """Say what a member leaves of each bound."""
    lines = []
    for name, bound in wish.budget.as_dict().items():
        spare = difference_text(name, getattr(member, name), bound)
        lines.append(f"{wish.options[name]}: {figure_text(name, bound)}, of which {spare} are left")
        if name == ACCURACY:
            lines[-1] = f"{wish.options[name]}: it has {spare} more"
    return lines


def _accuracy_words(summary: RunSummary, member: TrialResult) -> str:
    """Write both accuracies with their intervals."""
    validated = _with_interval(member.accuracy, summary.samples_of(member))
    words = f"{100 * CONFIDENCE:g} % intervals (Wilson): validation {validated}"
    tested = summary.test_accuracy.get(member.number)
    if tested is not None:
        words += f", test {_with_interval(tested, summary.test_samples)}"
    note = one_sample_note(summary.samples_of(member))
    return f"{words}; {note}" if note else words


def _with_interval(accuracy: float, samples: int) -> str:
    found = interval_text(wilson_interval(accuracy, samples), " to ")
    return f"{percent(accuracy)} %, {found}, on {samples:,} samples"


def _seeds_words(member: TrialResult) -> str:
    """Say how the network that was picked compares with the others of its fine-tuning."""
    final = member.final
    assert final is not None
    if not final.seeds:
        return "the last fine-tuning gave no network, so this is the earlier one"
    spread = "" if final.validation_std is None else f" ±{percent(final.validation_std)} (one standard deviation)"
    which = "the best of them by validation" if final.improved else "the earlier network, as none of them was as good"
    return (
        f"of {final.seeds} seeds of the last fine-tuning, on average {percent(final.validation_mean)} %{spread} on the "
        f"validation split, this is {which}"
    )


def _subnet_words(summary: RunSummary) -> str:
    return (
        "not fine-tuned: it is the supernet at this configuration; `spquant-search finalize "
        f"{run_words(summary)}` trains the front's members on, `front --trained` shows those that are trained"
    )


def _neighbours(summary: RunSummary, member: TrialResult, wish: Wish | None) -> list[str]:
    """Name the next better and the next cheaper member, by each cost that is bounded, or by the first objective."""
    bounded = [] if wish is None else [name for name in wish.budget.as_dict() if name in COSTS]
    lines: dict[str, None] = {}
    for cost in bounded or summary.costs[:1]:
        for word, neighbour in _nearest_by(cost, summary.pickable, member):
            points = 100 * (neighbour.accuracy - member.accuracy)
            change = figure(neighbour, cost) - figure(member, cost)
            more = difference_text(cost, figure(neighbour, cost), figure(member, cost))
            costs = f"{more} {'more' if change > 0 else 'less'} {COSTS[cost].words}"
            figures = member_figures(summary, neighbour)
            lines[f"  next {word}: trial {neighbour.number} ({figures}), {points:+.1f} points, {costs}"] = None
    return list(lines)


def _nearest_by(cost: str, members: Sequence[TrialResult], member: TrialResult) -> list[tuple[str, TrialResult]]:
    """Return the cheapest of the more accurate members, and the most accurate of the cheaper ones.

    No other member has as much accuracy for as little of the cost.
    """
    better = [one for one in members if one.accuracy > member.accuracy]
    cheaper = [one for one in members if figure(one, cost) < figure(member, cost)]
    found = []
    if better:
        found.append(("better", min(better, key=lambda one: (figure(one, cost), -one.accuracy, one.number))))
    if cheaper:
        found.append(("cheaper", min(cheaper, key=lambda one: (-one.accuracy, figure(one, cost), one.number))))
    return found
