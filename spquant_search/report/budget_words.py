"""Budgets in words: what is asked for, what a trial has, and by how much it misses."""

from __future__ import annotations

from spquant_search.report.cost_words import cost_text
from spquant_search.report.run_summary import RunSummary
from spquant_search.runs import selection
from spquant_search.runs.results import TrialResult
from spquant_search.runs.selection import Budget
from spquant_search.space.objectives import ACCURACY, COSTS


def budget_words(summary: RunSummary) -> str:
    """Name the space file's constraints, and by how much the nearest trial misses them; empty without constraints."""
    budget = summary.budget
    if not budget:
        return ""
    words = ", ".join(_bound_words(name, bound) for name, bound in budget.as_dict().items())
    if not summary.front:
        return f"constraints: {words}"
    if summary.meets_budget:
        return f"constraints: {words}; the front is that of the trials within them"
    near = selection.nearest(summary.front, budget)
    missed = sorted(budget.excess(near).items(), key=lambda item: item[1])
    listed = " and ".join(f"{name} by {_difference(name, near, budget)}" for name, _ in missed)
    return (
        f"NO TRIAL IS WITHIN THE CONSTRAINTS ({words}): the front is that of all trials. "
        f"Nearest is trial {near.number}, which misses {listed}"
    )


def _bound_words(name: str, bound: float) -> str:
    return f"{name} {'at least' if name == 'accuracy' else 'at most'} {figure_text(name, bound)}"


def _difference(name: str, member: TrialResult, budget: Budget) -> str:
    """Write the difference to the bound, and the member's own figure."""
    value, bound = getattr(member, name), budget.as_dict()[name]
    return f"{difference_text(name, value, bound)} ({figure_text(name, value)})"


def difference_text(name: str, value: float, bound: float) -> str:
    """Write how far a figure is beyond its bound, in the figure's unit."""
    beyond = abs(value - bound)
    if name != ACCURACY:
        return figure_text(name, beyond)
    points = f"{100 * beyond:.2g}"
    return f"{points} {'point' if points == '1' else 'points'}"


def figure_text(name: str, value: float) -> str:
    """Write a figure that a budget bounds: bytes, operations, microjoules, or an accuracy in percent."""
    if name == ACCURACY:
        return f"{100 * value:.4g} %"
    return f"{value:,.0f} bytes" if COSTS[name].unit == "bytes" else cost_text(name, value)
