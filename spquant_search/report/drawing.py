"""Inks, texts and files that all pictures share."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from spquant_search.report.text_table import one_line
from spquant_search.runs.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, SOFT = "#1f2430", "#7a8190"
DOTS_PER_INCH = 200


def write_png(figure: Figure, path: Path) -> None:
    """Save a drawing at ``path``, whole or not at all; equal drawings give equal files."""
    drawn = io.BytesIO()
    # Matplotlib would write its version into the file.
    figure.savefig(drawn, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    write_bytes(path, drawn.getvalue())


def write_svg(figure: Figure, path: Path) -> None:
    """Save a drawing as SVG at ``path``, whole or not at all; equal drawings give equal files."""
    from matplotlib import rc_context

    drawn = io.BytesIO()
    # Matplotlib would name parts of the drawing at random, and write the time and its version into the file.
    with rc_context({"svg.hashsalt": "spquant-search"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    write_bytes(path, drawn.getvalue())


def plain_text(text: str, *, wrap: int | None = None) -> str:
    """Escape text so that matplotlib draws it as it is, in lines of at most ``wrap`` characters."""
    # Matplotlib would set text between two dollar signs as a formula.
    safe = one_line(text).replace("$", r"\$")
    return safe if wrap is None else textwrap.fill(safe, wrap)
