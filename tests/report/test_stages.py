"""Bars that show how far a command is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from spquant_search.report.stages import stages


def test_a_terminal_gets_bars_that_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    console = Console(force_terminal=True, width=80, file=io.StringIO())
    with stages(console) as stage:
        stage("downloading [a].zip", 1, 4)
        stage("downloading [a].zip", 4, 4)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "downloading [a].zip" in shown
    assert "100 %" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # the line is cleared
