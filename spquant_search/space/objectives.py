"""The objectives that a search may have: a row for each cost, which everything that concerns it reads.

A cost bears one name as an objective, as a key under ``constraints``, as a figure of a trial's result and as a column.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

ACCURACY = "accuracy"
MOST_COSTS = 2  # beside the accuracy: volumes and improvements are worked out in so many dimensions


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What is to be small: how people call it, and when it is known."""

    name: str
    words: str  # in a sentence: no more ... than
    unit: Literal["bytes", "FLOPs", "operations", "uJ"]
    option: str  # of `pick`, that bounds it
    # Known of every configuration before any training; otherwise it is learned from the trials that have finished.
    is_exact: bool
    # A network that keeps floating-point numbers has it, too: the float baseline, with which all are compared.
    of_floats: bool = True


_ROWS = (
    Cost(name="memory_bytes", words="memory", unit="bytes", option="--max-memory", is_exact=True),
    Cost(name="flash_bytes", words="flash", unit="bytes", option="--max-flash", is_exact=True, of_floats=False),
    Cost(name="ram_bytes", words="RAM", unit="bytes", option="--max-ram", is_exact=True, of_floats=False),
    Cost(name="effective_flops", words="operations", unit="FLOPs", option="--max-flops", is_exact=False),
    Cost(
        name="synaptic_ops",
        words="synaptic operations",
        unit="operations",
        option="--max-synaptic-ops",
        is_exact=False,
    ),
    Cost(name="energy_uj", words="energy", unit="uJ", option="--max-energy", is_exact=False),
)
COSTS = {cost.name: cost for cost in _ROWS}
DEFAULT_COSTS = ("memory_bytes", "effective_flops")


def in_order(costs: Iterable[str]) -> tuple[str, ...]:
    """Return costs in the order of the table, so that a search does not depend on that in which they were written."""
    given = set(costs)
    return tuple(name for name in COSTS if name in given)


def with_columns(costs: Iterable[str], others: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the costs that are shown: the objectives, and what is shown of every search, and ``others``."""
    return tuple(dict.fromkeys((*costs, *DEFAULT_COSTS, *others)))


def no_more(costs: Iterable[str]) -> str:
    """Write ``no more memory and no more operations``."""
    return " and ".join(f"no more {COSTS[name].words}" for name in costs)
