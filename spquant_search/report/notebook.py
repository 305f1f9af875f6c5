"""The live view below a cell of a notebook: a frame drawn by rich as HTML, which the next one replaces."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console, RenderableType

SECONDS_A_FRAME = 0.5  # at least: every frame goes through the notebook's connection
WIDTH, HEIGHT = 110, 30
_PAGE = '<pre style="white-space: pre; overflow-x: auto; line-height: 1.2">{code}</pre>'


class NotebookScreen:
    """What a live view is drawn on in a notebook; ``display`` is that of IPython."""

    def __init__(
        self,
        view: RenderableType,
        *,
        display: Callable[..., Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._view, self._display, self._clock = view, display, clock
        self._shown: Any = None  # IPython's handle of the frame
        self._drawn_at = 0.0

    def start(self) -> None:
        """Draw the view, unless it has been drawn a moment ago."""
        if self._shown is None or self._clock() - self._drawn_at >= SECONDS_A_FRAME:
            self._draw()

    def stop(self) -> None:
        """Draw the view as it is at the end."""
        if self._shown is not None:
            self._draw()

    def _draw(self) -> None:
        self._drawn_at = self._clock()
        page = {"text/html": as_html(self._view), "text/plain": ""}
        if self._shown is None:
            self._shown = self._show()(page, raw=True, display_id=True)
        else:
            self._shown.update(page, raw=True)

    def _show(self) -> Callable[..., Any]:
        if self._display is not None:
            return self._display
        from IPython.display import display

        shown: Callable[..., Any] = display  # which has types where IPython is installed
        return shown


def as_html(view: RenderableType) -> str:
    """Draw something of rich's as HTML that any name in it leaves harmless."""
    console = Console(file=io.StringIO(), record=True, width=WIDTH, height=HEIGHT, force_jupyter=False)
    console.print(view)
    return console.export_html(inline_styles=True, code_format=_PAGE)
