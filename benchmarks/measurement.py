"""The output of every benchmark: a document for ``--json``, otherwise Markdown tables and figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spquant_search.runs.environment import describe_environment


def as_document(rows: list[Any], figures: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return rows and figures with the machine and the versions that they were measured with."""
    versions = describe_environment()
    machine = {name: versions[name] for name in ("processor", "cores", "system")}
    return {"machine": machine, "versions": versions, **more, "rows": rows, "figures": figures}


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 1) -> list[str]:
    """Return the lines of a Markdown table: the text columns come first and lean left, the figures lean right."""
    alignments = [":--" if column < text_columns else "--:" for column in range(len(headings))]
    return [f"| {' | '.join(headings)} |", f"|{'|'.join(alignments)}|", *(f"| {' | '.join(row)} |" for row in rows)]


def figure_lines(figures: Mapping[str, float | None], form: str) -> list[str]:
    """Return a line for each known figure; ``form`` is a format such as ``.3g``."""
    return [f"{name}: {value:{form}}" for name, value in figures.items() if value is not None]
