"""Costs as people read them: in a sentence, as a cell of a table, along the axis of a picture."""

from __future__ import annotations

from collections.abc import Sequence

from spquant_search.report.numbers import flops, kib, mega, microjoules, quantity
from spquant_search.runs.energy import PICOJOULES
from spquant_search.runs.pareto import figure
from spquant_search.runs.results import EpochMetrics, TrialResult
from spquant_search.space.objectives import COSTS

HEADINGS = {
    "memory_bytes": "KiB",
    "flash_bytes": "flash KiB",
    "ram_bytes": "RAM KiB",
    "effective_flops": "FLOPs",
    "synaptic_ops": "SOPs",
    "energy_uj": "uJ int",
}
NARROW_HEADINGS = {**HEADINGS, "flash_bytes": "flash K", "ram_bytes": "RAM K", "effective_flops": "MFLOPs"} | {
    "synaptic_ops": "MSOPs"
}


_UNITS = {"bytes": ("KiB", 1024.0), "FLOPs": ("MFLOPs", 1e6), "operations": ("million", 1e6)}


def shown_unit(name: str) -> tuple[str, float]:
    """Return the unit that a page shows a cost in, and how much of the cost that is; by the cost's own unit."""
    unit: str = COSTS[name].unit
    return _UNITS.get(unit, (unit, 1.0))


def and_list(words: Sequence[str]) -> str:
    """Write ``accuracy, memory and operations``."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def cost_cell(name: str, value: float) -> str:
    """Write a cost without its unit, which the heading has; empty where there is none."""
    if value == float("inf"):
        return ""
    unit = COSTS[name].unit
    if unit == "bytes":
        return kib(value)
    return microjoules(value * PICOJOULES) if unit == "uJ" else quantity(value)


def narrow_cell(name: str, value: float) -> str:
    """Write a cost in few characters: KiB, millions of operations, microjoules."""
    is_count = COSTS[name].unit in ("FLOPs", "operations") and value < float("inf")
    return mega(value) if is_count else cost_cell(name, value)


def cost_text(name: str, value: float) -> str:
    """Write a cost with its unit: ``54.2 KiB``, ``20.1 KiB of flash``, ``38.2 MFLOPs``, ``0.812 uJ``."""
    if value == float("inf"):
        return f"no {COSTS[name].words}"
    if name == "effective_flops":
        return flops(value)
    cell = cost_cell(name, value)
    units = {"memory_bytes": "KiB", "flash_bytes": "KiB of flash", "ram_bytes": "KiB of RAM", "energy_uj": "uJ"}
    return f"{cell} {units.get(name, COSTS[name].words)}"


def cost_texts(result: TrialResult, costs: Sequence[str]) -> list[str]:
    return [cost_text(name, figure(result, name)) for name in costs]


def present_cost(name: str, task: TrialResult, latest: EpochMetrics | None) -> float:
    """Return a cost of a trial that is being trained: of its latest epoch where it is measured."""
    if COSTS[name].is_exact:
        return figure(task, name)
    return float("nan") if latest is None else latest.measured(name)
