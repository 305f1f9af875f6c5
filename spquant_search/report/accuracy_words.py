"""Sentences on what accuracies were measured on, and on how far they can be trusted."""

from __future__ import annotations

from spquant_search.report.numbers import interval_text, percent
from spquant_search.report.run_summary import RunSummary
from spquant_search.runs.intervals import CONFIDENCE, FEW_SAMPLES, wilson_interval
from spquant_search.runs.results import TrialResult


def validation_words(summary: RunSummary, trials: tuple[TrialResult, ...]) -> str:
    """Say on how many validation samples the accuracies of some trials were measured."""
    numbers = {summary.samples_of(trial): trial.trained_epochs == 0 for trial in trials}
    if len(numbers) <= 1:
        (samples,) = numbers or (summary.validation_samples,)
        return f"{samples:,} validation samples"
    words = [f"{samples:,}" + (" (subnets)" if of_subnets else "") for samples, of_subnets in sorted(numbers.items())]
    return f"{' and '.join(words)} validation samples"


def best_interval(summary: RunSummary) -> str:
    """Say how far the highest accuracy of the front can be trusted; empty without one."""
    if not summary.front:
        return ""
    best = max(summary.front, key=lambda member: member.accuracy)
    found = wilson_interval(best.accuracy, summary.samples_of(best))
    if found is None:
        return ""
    return f"{100 * CONFIDENCE:g} % interval (Wilson) of the highest val, {percent(best.accuracy)}: " + interval_text(
        found, " to "
    )


def one_sample_note(samples: int) -> str:
    """Say what one of few validation samples is worth; empty where they are many."""
    if not 0 < samples < FEW_SAMPLES:
        return ""
    words = "sample" if samples == 1 else "samples"
    return f"{samples:,} validation {words}: one sample is worth {100 / samples:.2g} points"


def few_samples_note(accuracy: float, samples: int) -> str:
    """Add to :func:`one_sample_note` which differences mean nothing.

    Those are differences below the way from ``accuracy`` to the lower end of its interval.
    """
    note, found = one_sample_note(samples), wilson_interval(accuracy, samples)
    if not note or found is None:
        return note
    down = accuracy - found.low or found.high - accuracy
    return f"{note}; differences below {100 * down:.2g} points mean nothing"


def few_samples_of_front(summary: RunSummary) -> str:
    """Write :func:`few_samples_note` for the front's most accurate member of those with the fewest samples."""
    if not summary.front:
        return ""
    fewest = min(summary.front, key=lambda member: (summary.samples_of(member), -member.accuracy))
    return few_samples_note(fewest.accuracy, summary.samples_of(fewest))
