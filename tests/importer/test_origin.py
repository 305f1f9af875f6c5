"""What is kept of the notes on a network that was read."""

from __future__ import annotations

from spquant_search.errors import MOST_SHOWN
from spquant_search.importer.origin import printable
from spquant_search.snn.networks.plan import LONGEST_SENTENCE


def test_notes_are_kept_as_printable_lines() -> None:
    assert printable(["a\nb\x1b[31m", "x" * (LONGEST_SENTENCE + 1)]) == (
        "a?b?[31m",
        "x" * (LONGEST_SENTENCE - 3) + "...",
    )


def test_of_very_many_notes_it_says_how_many_more_there_are() -> None:
    notes = [f"note {number}" for number in range(MOST_SHOWN)]
    assert printable(notes) == tuple(notes)
    assert printable([*notes, "one", "two"]) == (*notes[:-1], "and 3 more")
