"""Clocks that start again at zero: counted on where a format says how many bits they have, found where none does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.event_writers import HEIGHT, WIDTH, made_up_events
from data.read_events import failure, read
from hypothesis import given
from hypothesis import strategies as st

from spquant_search.data.events.clocks import counted_on, nearest_turns

ROWS = made_up_events(1, WIDTH, HEIGHT)


@given(
    start=st.integers(0, 2**20),
    steps=st.lists(st.integers(0, 127), min_size=1, max_size=50),
    known=st.booleans(),
)
def test_a_counter_is_counted_on(start: int, steps: list[int], known: bool) -> None:
    whole = start + np.cumsum(steps)
    before = start if known else int(whole[0])
    found = counted_on(whole % 256, 8, before)
    assert (found == whole).all()


@given(
    start=st.integers(0, 2**20),
    steps=st.lists(st.integers(-127, 127), min_size=1, max_size=50),
)
def test_times_in_disorder_are_near_each_other(start: int, steps: list[int]) -> None:
    whole = start + np.cumsum([0, *steps])
    found = nearest_turns(whole % 256, 8)
    assert (found - found[0] == whole - whole[0]).all()
    assert found[0] == start % 256


@pytest.mark.parametrize(
    ("dtype", "bits", "unit"),
    [
        *(
            (dtype, bits, unit)
            for dtype, bits in (("u2", 16), ("i4", 31), ("u4", 32), ("i8", 32))
            for unit in ("us", "ms")
        ),
        ("f8", 32, "us"),
    ],
)
def test_a_clock_that_starts_again_is_named(tmp_path: Path, dtype: str, bits: int, unit: str) -> None:
    """Sorting its times would put the end before the beginning."""
    turn = 1 << bits
    table = np.zeros(60, np.dtype([("x", "u1"), ("y", "u1"), ("t", dtype), ("p", "u1")]))
    table["t"] = (turn - 100 + np.arange(60) * 3) % turn
    np.save(tmp_path / "a.npy", table)
    assert failure(tmp_path / "a.npy", time_unit=unit) == (
        f"{tmp_path / 'a.npy'}: its clock of {bits} bits starts again at event 34: {turn - 1:,} is followed by 2, in "
        f"the unit of {'microseconds' if dtype == 'f8' else 'the file'}; add {turn:,} to the times from there on. "
        "Write the file again, or remove it"
    )


def test_microseconds_of_a_clock_that_starts_again_written_in_seconds(tmp_path: Path) -> None:
    times = (2**32 - 100 + np.arange(60) * 3) % 2**32
    lines = [f"{t / 1e6:.6f} 1 1 0\n" for t in times.tolist()]
    (tmp_path / "a.txt").write_text("".join(lines))
    message = failure(tmp_path / "a.txt", time_unit="s", columns="txyp")
    assert (
        "its clock of 32 bits starts again at event 34: 4,294,967,295 is followed by 2, in the unit of micros"
        in message
    )


@pytest.mark.parametrize(
    "order", [np.argsort(ROWS[:, 3], kind="stable"), np.arange(60)[::-1], np.random.default_rng(0).permutation(60)]
)
@pytest.mark.parametrize("start", [0, 2**31 - 400_000, 2**32 - 10, 2**50])
def test_times_in_any_other_order_are_read(tmp_path: Path, order: np.ndarray, start: int) -> None:
    """All OFF before all ON, from the last to the first, or in no order: `sort_events` puts these right."""
    rows = ROWS[order] + np.array([0, 0, start, 0])
    np.save(tmp_path / "a.npy", rows)
    np.testing.assert_array_equal(read(tmp_path / "a.npy", columns="xytp"), rows)
