"""The command that picks from a run's front, or the reason why none would work."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass

from spquant_search.report.run_summary import RunSummary
from spquant_search.runs import selection
from spquant_search.runs.pareto import figure
from spquant_search.runs.results import Origin, TrialResult
from spquant_search.space.objectives import COSTS


@dataclass(frozen=True, kw_only=True, slots=True)
class PickAdvice:
    """The member at the knee of those that can be picked, and commands that work: for it, and within its first cost."""

    member: TrialResult
    at_knee: str
    within_cost: str


def pick_advice(summary: RunSummary, *, out: str = "picked") -> PickAdvice | None:
    """Propose commands that write a member of the front to the folder ``out``; None where none can be picked."""
    members = summary.pickable
    if not members:
        return None
    member = selection.knee(members, summary.costs)
    command = f"spquant-search pick {run_words(summary)}"
    return PickAdvice(
        member=member,
        at_knee=f"{command} --knee --out {shlex.quote(out)}",
        within_cost=f"{command} {_bound(summary.costs[0], member)} --out {shlex.quote(out)}",
    )


def _bound(cost: str, member: TrialResult) -> str:
    """Write the option that bounds a cost, with the member's own figure rounded up."""
    value, unit = figure(member, cost), COSTS[cost].unit
    if unit == "bytes":
        return f"{COSTS[cost].option} {math.ceil(value / 1024)}KiB"
    if unit == "uJ":
        return f"{COSTS[cost].option} {math.ceil(1000 * value) / 1000:g}uJ"
    return (
        f"{COSTS[cost].option} {math.ceil(value / 1e6)}M" if value > 1e7 else f"{COSTS[cost].option} {math.ceil(value)}"
    )


def within_words(summary: RunSummary) -> str:
    """Say what the command within a cost is about: ``a memory``."""
    cost = summary.costs[0]
    return "a memory" if cost == "memory_bytes" else f"a bound on {COSTS[cost].words}"


def run_words(summary: RunSummary) -> str:
    """Write the word that means a run on the command line."""
    return shlex.quote(summary.argument or summary.run)


def why_nothing_is_pickable(summary: RunSummary) -> str:
    """Say in one sentence why no member of the front can be picked, and what to do."""
    members = summary.front
    if not members:
        return "no trial has left a network yet; start the search again, which goes on"
    if summary.no_integer_form:
        return f"no configuration has an integer form, as {summary.no_integer_form}"
    if all(member.origin is Origin.BASELINE for member in members):
        return f"only the float baseline is on the front, which keeps floats; {_why_only_the_baseline(summary)}"
    return (
        "every member of the front keeps float weights or membranes; give layers choices of weight_bits below 32 and "
        "of membrane_levels other than 0"
    )


def _why_only_the_baseline(summary: RunSummary) -> str:
    left = [trial for trial in summary.trials if trial.outcome.has_weights]
    if not summary.trials:
        return "no other trial has ended: start the search again, which goes on, or with --trials"
    if not left:
        return "no other trial has left a network (results.csv says why)"
    if summary.budget and summary.meets_budget:
        return "no other trial is within the constraints"
    return "no other trial has a measured accuracy"
