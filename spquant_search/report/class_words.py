"""The names of classes where people read them, by the numbers that a network gives."""

from __future__ import annotations

from collections.abc import Sequence

from spquant_search.report.text_table import markdown_text

_MOST = 200  # names in one sentence; of more the first and the last are shown
_FIRST = 20


def are_numbers(classes: Sequence[str]) -> bool:
    """Tell whether every class is called as its number, as digits are."""
    return all(name == str(label) for label, name in enumerate(classes))


def classes_sentence(classes: Sequence[str]) -> str:
    """Give every class with its number, in Markdown: ``Classes by their numbers: 0 ant, 1 bee.``"""
    if are_numbers(classes):
        return f"Classes: {len(classes)}, called by their numbers from 0."
    named = [f"{label} {markdown_text(name)}" for label, name in enumerate(classes)]
    if len(named) > _MOST:
        named = [*named[:_FIRST], "...", f"{named[-1]} (all of them are in front.json)"]
    return f"Classes by their numbers: {', '.join(named)}."
