"""The stopwatch: every second once, for the innermost thing."""

from __future__ import annotations

import pytest

from spquant_search.profile import Stopwatch
from spquant_search.report.profile_table import profile_table


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_seconds_count_for_the_innermost_thing_and_add_up_to_all() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    clock.now += 1
    with watch.on("training"):
        clock.now += 2
        with watch.on("compilation"):
            clock.now += 4
        clock.now += 8
    with watch.on("training"):
        clock.now += 16
    clock.now += 32
    assert watch.seconds() == {"other": 33, "training": 26, "compilation": 4}


def test_what_raises_is_counted_and_left() -> None:
    clock = Clock()
    watch = Stopwatch(clock)

    def work() -> None:
        with watch.on("training"):
            clock.now += 2
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    clock.now += 1
    assert watch.seconds() == {"training": 2, "other": 1}


def test_the_table_shows_every_process_and_shares_of_the_trainers_time() -> None:
    profile = {
        "coordinator": {"sampler": 1.0, "waiting": 9.0},
        "trainer 1": {"training": 6.0, "compilation": 1.0, "other": 1.0},
        "trainer 2": {"training": 3.0, "waiting": 5.0},
    }
    table = profile_table(profile)
    assert table.header == ("seconds of", "coordinator", "trainer 1", "trainer 2", "% of the trainers'")
    assert table.rows == (
        ("compilation", "", "1.0", "", "6.2"),
        ("training", "", "6.0", "3.0", "56.2"),
        ("sampler", "1.0", "", "", ""),
        ("waiting", "9.0", "", "5.0", "31.2"),
        ("other", "", "1.0", "", "6.2"),
    )
    assert table.total == ("all", "10.0", "8.0", "8.0", "")
