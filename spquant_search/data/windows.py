"""Say what fixed windows of time leave out of recordings, and which recordings end before their last window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from spquant_search.errors import first_of
from spquant_search.space.schema import DataSpace

MUCH = 0.1  # share of the events left out, on average, from which on it is told
MOST = 0.5  # share of its events that a recording may lose without being named
_SHOWN = 3  # files that a sentence names


@dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """The windows in which recordings are seen, from their start."""

    count: int
    us: int | None  # None: frames of files that say no time

    def __str__(self) -> str:
        """Return the windows in words."""
        return f"{self.count:,} windows of {self.us:,} us" if self.us is not None else f"{self.count:,} frames"


def windows_of(options: DataSpace, time_steps: int) -> Windows | None:
    """Return the windows that the options ask for; None where steps are parts of a whole recording."""
    if options.window_us is None and options.first_windows is None:
        return None
    return Windows(count=options.first_windows or time_steps, us=options.window_us)


def left_out_shares(
    events: Int64[np.ndarray, "sample time"], left_out: Int64[np.ndarray, " sample"]
) -> Float[np.ndarray, " sample"]:
    """Return the share of each recording's events that come after its last window; 0 without events."""
    every = events.sum(axis=1) + left_out
    shares: Float[np.ndarray, " sample"] = np.zeros(len(every))
    np.divide(left_out, every, out=shares, where=every > 0)
    return shares


def ended_early(
    events: Int64[np.ndarray, "sample time"], left_out: Int64[np.ndarray, " sample"]
) -> Bool[np.ndarray, " sample"]:
    """Tell which recordings have no event in their last time step, nor after it."""
    ended: Bool[np.ndarray, " sample"] = (events[:, -1] == 0) & (left_out == 0)
    return ended


def window_notes(
    split: str,
    events: Int64[np.ndarray, "sample time"],
    left_out: Int64[np.ndarray, " sample"],
    file_of: Callable[[int], str],
    windows: Windows,
) -> tuple[str, ...]:
    """Say how many events are left out, where these are many, and how many recordings are too short, if most are."""
    shares, notes = left_out_shares(events, left_out), []
    cut = [file_of(at) for at in np.flatnonzero(shares > MOST).tolist()]
    more = "more time_steps" if windows.us is not None else "a larger data.first_windows"
    longer = " or a longer data.window_us keep" if windows.us is not None else " keeps"
    if cut or shares.mean() >= MUCH:
        named = f"; {len(cut)} of {len(shares)} recordings lose more than half: {first_of(cut, _SHOWN)}"
        notes.append(
            f"of a recording of {split} {shares.mean():.1%} of the events are left out on average, {shares.max():.1%} "
            f"at most, as they come after its first {windows}{named if cut else ''}; {more}{longer} them"
        )
    short = int(ended_early(events, left_out).sum())
    if 2 * short > len(shares):
        notes.append(
            f"{short} of {len(shares)} recordings of {split} have no event in the last time step or after it: they "
            f"end before their first {windows} do"
        )
    return tuple(notes)
