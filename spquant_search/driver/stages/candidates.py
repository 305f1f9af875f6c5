"""The stage that tries candidates: references, the budget ladder, and what the sampler proposes."""

from __future__ import annotations

from spquant_search.driver.search import Search
from spquant_search.runs.results import Outcome


def try_candidates(search: Search) -> None:
    """Try candidates, one on every trainer, until a limit is reached or nothing is left to propose."""
    search.runner.run_all(search.decisions.next_candidate)
    limits, begun = search.context.limits, search.book.begun()
    over = sum(result.outcome is Outcome.OVER_BUDGET for result in search.book.results)
    if over and begun < limits.trials and not limits.late():
        search.context.watcher.warning(
            f"the search ends after {begun} of {limits.trials} trials: {search.book.exhausted()}, "
            f"{over} of those proposed are over budget; raise constraints, give layers smaller choices, or take "
            "search.sampler grey-box, which proposes nothing over a budget of memory, flash or RAM"
        )
