"""Find recordings with nearly all events in one or two frames: a time stamp far away, or times in another unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64

from spquant_search.data.catalog import EVENT_FOLDER, PYTHON
from spquant_search.data.windows import Windows
from spquant_search.errors import first_of

CROWDED = 0.95  # share of the events in the fullest frames from which on a recording is told
_FEWEST = 20  # events of a recording; fewer may lie anywhere
_SHOWN = 3  # files that a sentence names


def share_of_fullest(counts: Int64[np.ndarray, "sample time"], frames: int) -> Float[np.ndarray, " sample"]:
    """Return the share of a recording's events that lie in its fullest ``frames``; 0 without events."""
    fullest = np.sort(counts, axis=1)[:, -frames:].sum(axis=1)
    shares: Float[np.ndarray, " sample"] = np.zeros(len(counts))
    np.divide(fullest, counts.sum(axis=1), out=shares, where=counts.any(axis=1))
    return shares


def crowded_samples(counts: Int64[np.ndarray, "sample time"]) -> list[int]:
    """Return which recordings of 20 events or more have nearly all in one frame of two or three, or in two of more."""
    steps = counts.shape[1]
    if steps < 2:
        return []
    few, events = 1 if steps < 4 else 2, counts.sum(axis=1)
    # Few are near, so that hardly any are sorted; a share below its bound by rounding is left to the exact look.
    near = np.flatnonzero((events >= _FEWEST) & (few * counts.max(axis=1) >= 0.9 * CROWDED * events))
    found: list[int] = near[share_of_fullest(counts[near], few) >= CROWDED].tolist()
    return found


def crowded_note(split: str, samples: int, steps: int, crowded: Sequence[str], question: str) -> tuple[str, ...]:
    """Say which recordings are crowded into few frames, and ask why; ``crowded`` are their files."""
    if not crowded:
        return ()
    few = "one" if steps < 4 else "one or two"
    return (
        f"{len(crowded)} of {samples} recordings of {split} have {CROWDED:.0%} or more of their events in {few} of "
        f"{steps} frames: {first_of(crowded, _SHOWN)}. {question}",
    )


def crowding_question(name: str, windows: Windows | None, *, frames_given: bool) -> str:
    """Ask for what crowds recordings of a data set, by what its user can change."""
    if name == PYTHON:
        return "Does data.build count the events of each frame by their times?"
    if frames_given:
        return "Has the program that made these frames divided the events by their times, in their unit?"
    has_unit = name == EVENT_FOLDER
    if windows is not None and windows.us is not None:
        cause = f"Is data.window_us, {windows.us:,}, too long"
        return f"{cause}, or is data.time_unit another?" if has_unit else f"{cause}?"
    cause = "Does a time stamp lie far from the others"
    return f"{cause}, or is data.time_unit another?" if has_unit else f"{cause}? If so, fetch these files anew"
