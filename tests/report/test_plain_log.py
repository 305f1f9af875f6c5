"""A running search in plain lines."""

from __future__ import annotations

import io
import re

from examples import example_run, trial
from searching import Clock, a_plan, feed

from spquant_search.report.plain_log import PlainLog
from spquant_search.runs.results import Outcome


def test_a_resumed_run_says_how_much_is_done():
    file = io.StringIO()
    PlainLog(file).plan(a_plan(finished=example_run().results[:4]))
    assert file.getvalue().splitlines()[1].endswith("2 at a time, 3 of them done before")


def test_a_trial_without_an_epoch_shows_no_accuracy():
    file = io.StringIO()
    PlainLog(file).finished(example_run().results[5])
    assert file.getvalue().startswith("trial 5  diverged  10.0 KiB  ")
    assert "accuracy" not in file.getvalue()


def test_plain_log_writes_no_control_characters_and_never_wraps():
    file = io.StringIO()
    log = PlainLog(file)
    log.plan(a_plan(run="a\x1b[2Jb\rc", data="d\ne" * 100))
    log.stage("s\x07")
    feed(log, [trial(1, outcome=Outcome.FAILED, reason="Traceback\n  \x1b[1m x\x9b", epochs=0)])
    log.warning("w\x00\nw")
    assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", file.getvalue()) == []
    assert file.getvalue().count("\n") == 6


def test_a_stage_that_reports_every_recording_makes_few_lines():
    clock, file = Clock(), io.StringIO()
    log = PlainLog(file, clock=clock)
    for done in range(0, 1001):
        clock.now += 0.02
        log.stage("simulating", done, 1000)
    log.stage("compiling")
    log.stage("compiling")
    lines = file.getvalue().splitlines()
    assert lines[0] == "simulating  0/1,000"
    assert lines[-2:] == ["simulating  1,000/1,000", "compiling"]
    assert len(lines) == 4  # 20 s: one sign of life between


def test_plain_log_outlives_its_reader_and_a_narrow_encoding():
    closed = io.StringIO()
    closed.close()
    PlainLog(closed).warning("nobody reads this")

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    PlainLog(Gone()).warning("nobody reads this")
    raw = io.BytesIO()
    ascii_file = io.TextIOWrapper(raw, encoding="ascii")
    PlainLog(ascii_file).warning("naïve µ")
    assert raw.getvalue() == b"warning: na?ve ?\n"


def test_a_log_closes_once():
    file = io.StringIO()
    log = PlainLog(file)
    log.plan(a_plan())
    log.close()
    log.close()
    assert file.getvalue().count("hypervolume") == 1


def test_a_log_of_what_was_never_begun_says_nothing_of_it():
    file = io.StringIO()
    PlainLog(file).close()
    assert file.getvalue() == ""


def test_a_resumed_run_may_have_more_trials_than_are_asked_for():
    file = io.StringIO()
    PlainLog(file).plan(a_plan(trials=2, finished=example_run().results[:4]))
    assert file.getvalue().splitlines()[1].endswith("2 at a time, 3 done before")


def test_a_log_says_once_what_no_choice_changes():
    file = io.StringIO()
    PlainLog(file).plan(a_plan(fixed=("effective_flops",)))
    assert file.getvalue().count("the number of operations is the same in all trials") == 1
