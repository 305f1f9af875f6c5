"""Time steps in words: how many a network has, what its operations are counted over, and what factors are against."""

from __future__ import annotations

from collections.abc import Sequence

from spquant_search.costs.memory import FLOPS_PER_MAC
from spquant_search.report.numbers import flops


def enumerated(items: Sequence[object], before_last: str) -> str:
    """Write ``1, 2 or 4``, of one item that item alone."""
    *others, last = map(str, items)
    return f"{', '.join(others)} {before_last} {last}" if others else last


def steps_words(*time_steps: int) -> str:
    """Write ``4 time steps``, ``1 time step``, or ``1, 2 or 4 time steps``."""
    return f"{enumerated(time_steps, 'or')} time {'step' if time_steps == (1,) else 'steps'}"


def over_steps(time_steps: Sequence[int]) -> str:
    """Say what a sample's operations are counted over, where networks have one of these numbers of time steps."""
    if len(time_steps) > 1:
        return "over all time steps of its network"
    (steps,) = time_steps
    return f"over all {steps} time steps" if steps > 1 else "in the only time step"


def baseline_words(time_steps: Sequence[int]) -> str:
    """Name the float baseline, and where networks differ in their time steps its own, which are the most."""
    return "the float baseline" + (f" at {steps_words(time_steps[-1])}" if len(time_steps) > 1 else "")


def dense_words(macs: int, time_steps: Sequence[int]) -> str:
    """Write dense operations, ``macs`` at the most time steps, and what of them fewer steps leave."""
    *fewer, most = time_steps
    words = flops(macs * FLOPS_PER_MAC)
    if not fewer:
        return words
    rest = [f"{flops(macs // most * steps * FLOPS_PER_MAC)} at {steps}" for steps in reversed(fewer)]
    return f"{words} at {steps_words(most)}, {', '.join(rest)}"


def column_note(time_steps: Sequence[int]) -> str:
    """Explain the column T, and why a network with a single time step has no levels beside it."""
    words = "T: time steps of the network"
    return f"{words}; with 1 no membrane is stored, so there are no levels" if 1 in time_steps else words
