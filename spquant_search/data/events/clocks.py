"""Clocks of few bits that start again at zero: count on where a format says so, and find where none does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NEAR = 256  # a clock wraps where it falls from the last 256th of its range into the first


def counted_on(values: NDArray[np.int64], bits: int, before: int) -> NDArray[np.int64]:
    """Return the readings of a counter of ``bits`` bits, which is read at every turn, without its returns to zero.

    ``before`` is the last reading, counted on, before the first of ``values``. The counter has started again where it
    falls by half of its range or more.
    """
    turn = 1 << bits
    falls = np.diff(values, prepend=before % turn) <= -(turn // 2)
    return values + (np.cumsum(falls) + before // turn) * turn


def nearest_turns(times: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Return times of a clock of ``bits`` bits without its returns to zero; each time is nearest to the one before.

    So events in slight disorder may lie on either side of a return.
    """
    turn = 1 << bits
    steps = np.diff(times, prepend=times[:1])
    turns = (steps <= -(turn // 2)).astype(np.int64) - (steps >= turn // 2)
    return times + np.cumsum(turns) * turn


def wrapped_at(times: NDArray[np.int64], turn: int) -> int | None:
    """Return the number of the first event after a clock with a range of ``turn`` has started again; None if never.

    No time of such a clock lies outside of its range; those in disorder hardly fall from one end of it to the other.
    """
    if times.min() < 0 or times.max() >= turn:
        return None
    near = turn // _NEAR
    falls = np.flatnonzero((times[:-1] >= turn - near) & (times[1:] < near))
    return int(falls[0]) + 1 if len(falls) else None
