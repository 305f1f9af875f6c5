"""The page of a running search: written now and then, never in the search's way."""

from __future__ import annotations

import threading

import pytest
from examples import config, trial
from searches import unfinished_run

from spquant_search.report import live_page
from spquant_search.report.live_page import PAUSE_SECONDS, LivePage
from spquant_search.runs.records import write_result

BASELINE = trial(0, 0.9, 100, 50, origin="baseline", of=config("000", "0 0"))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Shown:
    """The watcher that people see."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def __getattr__(self, name: str):
        return lambda *given, **_more: self.told.append((name, *given))


@pytest.fixture
def shown() -> Shown:
    return Shown()


def finish(page: LivePage, clock: Clock, *, after: float = 2 * PAUSE_SECONDS) -> None:
    """End a trial some time later, and wait for the page that this may begin."""
    clock.now += after
    page.finished(trial(1))
    if page._thread is not None:
        page._thread.join()


def test_a_page_is_written_after_trials_but_not_after_each(tmp_path, shown):
    folder, clock = unfinished_run(tmp_path / "tiny", BASELINE), Clock()
    page, file = LivePage(shown, folder, clock=clock), tmp_path / "tiny" / "report.html"
    finish(page, clock, after=1.0)
    assert not file.exists()  # a search of seconds needs none
    finish(page, clock)
    first = file.read_text()
    assert '"running":true' in first
    write_result(folder, trial(1))
    finish(page, clock, after=1.0)
    assert file.read_text() == first
    finish(page, clock)
    assert file.read_text() != first
    assert shown.told == [("finished", trial(1))] * 4


def test_a_page_that_takes_long_is_written_seldom(tmp_path, shown, monkeypatch):
    folder, clock, written = unfinished_run(tmp_path / "tiny", BASELINE), Clock(), []

    def slow(*_given, **_more) -> None:
        clock.now += 100.0
        written.append(clock.now)

    monkeypatch.setattr(live_page, "write_run_page", slow)
    page = LivePage(shown, folder, clock=clock)
    finish(page, clock)
    finish(page, clock, after=1000.0)
    assert len(written) == 1
    finish(page, clock, after=1001.0)
    assert len(written) == 2


def test_a_page_that_fails_is_one_note_and_the_search_goes_on(tmp_path, shown, monkeypatch):
    def broken(*_given, **_more) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(live_page, "write_run_page", broken)
    clock = Clock()
    page = LivePage(shown, unfinished_run(tmp_path / "tiny", BASELINE), clock=clock)
    for _ in range(3):
        finish(page, clock)
    page.close()
    notes = [told for told in shown.told if told[0] == "warning"]
    assert notes == [("warning", "report.html could not be written while the search works: RuntimeError: no ink")]
    assert shown.told[-1] == ("close",)


def test_a_search_without_a_baseline_yet_is_no_failure(tmp_path, shown):
    clock = Clock()
    page = LivePage(shown, unfinished_run(tmp_path / "tiny"), clock=clock)
    finish(page, clock)
    page.close()
    assert [told[0] for told in shown.told] == ["finished", "close"]


def test_the_end_waits_for_the_page_that_is_being_written(tmp_path, shown, monkeypatch):
    """Otherwise the page of a search that works would replace that of its end."""
    begun, may_go_on, written = threading.Event(), threading.Event(), []

    def waiting(*_given, **_more) -> None:
        begun.set()
        may_go_on.wait()
        written.append("page")

    monkeypatch.setattr(live_page, "write_run_page", waiting)
    clock = Clock()
    page = LivePage(shown, unfinished_run(tmp_path / "tiny", BASELINE), clock=clock)
    clock.now = 2 * PAUSE_SECONDS
    page.finished(trial(1))
    begun.wait()
    page.finished(trial(2))  # meanwhile the search goes on, and begins no second page
    threading.Timer(0.05, may_go_on.set).start()
    page.close()
    assert written == ["page"]
