"""What is said of a member that was picked: how good it is, what it takes, and its neighbours on the front."""

from __future__ import annotations

from spquant_search.report.accuracy_words import one_sample_note
from spquant_search.report.numbers import interval_text, percent
from spquant_search.report.pick_advice import run_words
from spquant_search.report.pick_reasons import member_figures
from spquant_search.report.run_summary import RunSummary
from spquant_search.runs.intervals import CONFIDENCE, wilson_interval
from spquant_search.runs.results import TrialResult


def picked_lines(
    summary: RunSummary, member: TrialResult, out: str = "", *, time_steps: str = "", origin: str = ""
) -> list[str]:
    """Write the member that was taken, and its neighbours on the front, which is sorted by its first cost.

    ``out``: where it was written; ``time_steps``: in words, those that it takes, where they are fewer than the search
    made frames for; ``origin``: in words, where a network came from that was imported.
    """
    members, figures = summary.front, member_figures(summary, member)
    return [
        f"trial {member.number} of {len(members)} members of the front: {figures}{f' -> {out}' if out else ''}",
        f"  {_accuracy_words(summary, member)}",
        *([f"  time steps: {time_steps}"] if time_steps else []),
        *([f"  {origin}"] if origin else []),
        *([f"  {_seeds_words(member)}"] if member.final is not None else []),
        *(
            [f"  on a device: flash {member.flash_bytes:,} bytes, RAM {member.ram_bytes:,} bytes"]
            if member.flash_bytes
            else []
        ),
        *([] if member.is_trained else [f"  {_subnet_words(summary)}"]),
        *_neighbours(summary, member),
    ]


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


def _neighbours(summary: RunSummary, member: TrialResult) -> list[str]:
    members = summary.front
    place = members.index(member)
    smaller, larger = members[max(0, place - 1) : place], members[place + 1 : place + 2]
    return [
        f"  next {word}: trial {neighbour.number} ({member_figures(summary, neighbour)}), "
        f"{100 * (neighbour.accuracy - member.accuracy):+.1f} points"
        for word, neighbours in (("smaller", smaller), ("larger", larger))
        for neighbour in neighbours
    ]
