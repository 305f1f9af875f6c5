"""The stage that trains the float baseline, from whose weights every candidate starts."""

from __future__ import annotations

from spquant_search.driver.search import Search
from spquant_search.errors import UserError
from spquant_search.runs.results import BASELINE, Outcome


def train_baseline(search: Search) -> None:
    """Train trial 0, the float network, whatever the limits: a run without its baseline is nothing.

    Raises:
        UserError: the baseline cannot be trained.
    """
    while BASELINE not in search.book:
        trial = search.decisions.next_baseline()
        if trial is not None:
            search.runner.run(trial)
        elif BASELINE not in search.book:
            search.runner.wait("another coordinator is training the float baseline")
    baseline = search.book[BASELINE]
    if baseline.outcome is not Outcome.COMPLETE:
        raise UserError(
            f"{search.context.folder.path}: the float baseline could not be trained: {baseline.reason}. "
            "Without it nothing can be compared; fix the cause (a smaller train.baseline_learning_rate where the "
            "loss diverged), and start a run of its own with --run NAME."
        )
