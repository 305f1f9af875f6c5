"""The table of a search's seconds, by process and kind of work."""

from __future__ import annotations

from collections.abc import Mapping

from spquant_search.report.numbers import percent
from spquant_search.report.text_table import TextTable

# In the order of a process's life; what is not named here follows.
_ORDER = ("data", "loading", "compilation", "training", "evaluation", "sampler", "bookkeeping", "report", "waiting")


def profile_table(profile: Mapping[str, Mapping[str, float]]) -> TextTable:
    """Make a row for each kind of work, a column for each process, and the share of the trainers' time.

    "waiting" of the coordinator is for its trainers, of a trainer for a task; "other" is what nothing else names, such
    as starting Python and building networks.
    """
    seen = {what for seconds in profile.values() for what in seconds}
    rows = [*(what for what in _ORDER if what in seen), *sorted(seen.difference(_ORDER))]
    working = [seconds for process, seconds in profile.items() if process != "coordinator"]
    everything = sum(sum(seconds.values()) for seconds in working)

    def row(what: str) -> tuple[str, ...]:
        spent = sum(seconds.get(what, 0.0) for seconds in working)
        cells = [f"{seconds[what]:.1f}" if what in seconds else "" for seconds in profile.values()]
        return (what, *cells, percent(spent / everything) if everything and spent else "")

    return TextTable(
        title="Where the seconds of this start went",
        header=("seconds of", *profile, "% of the trainers'"),
        rows=tuple(map(row, rows)),
        total=("all", *(f"{sum(seconds.values()):.1f}" for seconds in profile.values()), ""),
        left=frozenset({"seconds of"}),
    )
