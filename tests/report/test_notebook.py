"""The live view in a notebook: one frame that is replaced, drawn now and then, with every name harmless."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from rich.console import Console
from searching import a_plan

from spquant_search.report.live import LiveView, watcher
from spquant_search.report.notebook import SECONDS_A_FRAME, NotebookScreen
from spquant_search.report.plain_log import PlainLog


class Page:
    """A notebook's display, which remembers what it was shown."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.now = 100.0

    def display(self, page: dict[str, str], *, raw: bool, display_id: bool) -> Page:
        assert raw
        assert display_id
        assert not self.pages, "one frame, that is replaced"
        self.pages.append(page["text/html"])
        return self

    def update(self, page: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.pages.append(page["text/html"])


def a_view(page: Page) -> LiveView:
    def screen(view: Any) -> NotebookScreen:
        return NotebookScreen(view, display=page.display, clock=lambda: page.now)

    return LiveView(Console(file=io.StringIO()), clock=lambda: page.now, screen=screen)


def test_a_frame_is_drawn_at_once_then_now_and_then_and_at_the_end() -> None:
    page = Page()
    view = a_view(page)
    view.plan(a_plan())
    assert len(page.pages) == 1
    for _ in range(5):
        view.stage("frames ready", 1, 9)
    assert len(page.pages) == 1
    page.now += SECONDS_A_FRAME
    view.stage("frames ready", 5, 9)
    assert len(page.pages) == 2
    view.close()
    view.close()
    assert len(page.pages) == 3


def test_a_view_that_was_told_nothing_draws_nothing() -> None:
    page = Page()
    a_view(page).close()
    assert page.pages == []


def test_names_cannot_be_html() -> None:
    page = Page()
    a_view(page).plan(replace(a_plan(), run="<script>alert(1)</script>", data="<b>"))
    assert "<script>" not in page.pages[0]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.pages[0]
    assert page.pages[0].startswith("<pre")


def test_a_notebook_is_known_by_rich_and_a_pipe_has_plain_lines() -> None:
    assert isinstance(watcher(Console(file=io.StringIO())), PlainLog)
    notebook = Console(file=io.StringIO(), force_jupyter=True)
    assert isinstance(watcher(notebook), LiveView)
