"""The reason why no member of a front fits a budget, and what helps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from spquant_search.report.budget_words import difference_text, figure_text
from spquant_search.report.cost_words import cost_texts
from spquant_search.report.numbers import percent
from spquant_search.report.pick_advice import run_words
from spquant_search.report.run_summary import RunSummary
from spquant_search.report.step_words import steps_words
from spquant_search.runs import selection
from spquant_search.runs.intervals import wilson_interval
from spquant_search.runs.pareto import constant_objectives, figure
from spquant_search.runs.results import Origin, TrialResult
from spquant_search.runs.selection import Budget, bound_field
from spquant_search.space.objectives import COSTS

# What a number without a unit may have been meant in.
UNITS = {"bytes": ("KiB", 1024), "FLOPs": ("M", 1_000_000), "operations": ("M", 1_000_000)}

LESS = {"synaptic_ops": "fewer synaptic operations", "energy_uj": "less energy"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What `pick` was asked for: the budget, and by figure the option and its value as they were written."""

    budget: Budget
    options: Mapping[str, str]  # such as {"flash_bytes": "--max-flash 24"}


def member_figures(summary: RunSummary, member: TrialResult) -> str:
    """Write what a member is known by: its objectives, and time steps where members differ in them."""
    figures = [f"{percent(member.accuracy)} %", *cost_texts(member, summary.costs)]
    return ", ".join([*figures, *([steps_words(member.config.time_steps)] if summary.searches_steps else [])])


def why_nothing_fits(
    summary: RunSummary, members: Sequence[TrialResult], wish: Wish, *, smallest: Mapping[str, float]
) -> str:
    """Explain why none of the members that can be picked fits, with the nearest one, and say what helps.

    ``smallest``: by figure, what the smallest configuration of the space takes.
    """
    near = selection.nearest(members, wish.budget)
    missed = list(wish.budget.excess(near))
    figures = member_figures(summary, near)
    lines = [f"no member of the front fits. Nearest is trial {near.number} ({figures}), which misses"]
    lines += [f"  {_miss_words(name, near, members, wish)}" for name in missed]
    lines += [
        f"  {remedy}"
        for name in missed
        if not _meant(name, members, wish) and (remedy := _remedy(name, summary, wish, smallest))
    ]
    lines.append(f"Give a looser budget, or see all members: spquant-search front {run_words(summary)}")
    return "\n".join(lines)


def _miss_words(name: str, near: TrialResult, members: Sequence[TrialResult], wish: Wish) -> str:
    """Say what the nearest member has, where the bound lies as it was read, and what was meant perhaps."""
    value, bound = getattr(near, name), wish.budget.as_dict()[name]
    option = wish.options[name]
    direction = "less" if name == "accuracy" else "more"
    words = f"{option}: it has {figure_text(name, value)}, {difference_text(name, value, bound)} {direction}"
    read = f" than {figure_text(name, bound)}"
    return words + read + _meant(name, members, wish)


def _meant(name: str, members: Sequence[TrialResult], wish: Wish) -> str:
    """Ask whether KiB, or millions, were meant where a number without a unit fits nothing and would fit so."""
    text = wish.options[name].rpartition(" ")[2]
    if name not in COSTS or COSTS[name].unit not in UNITS or not re.fullmatch(r"[\d.]+", text):
        return ""
    unit, factor = UNITS[COSTS[name].unit]
    larger = replace(wish.budget, **{bound_field(name): wish.budget.as_dict()[name] * factor})
    if any(name not in larger.excess(member) for member in members):
        return f"; did you mean {text}{unit}?"
    return ""


def _remedy(name: str, summary: RunSummary, wish: Wish, smallest: Mapping[str, float]) -> str:
    """Say what a further search could do about a bound; empty where nothing is to be said."""
    bound = wish.budget.as_dict()[name]
    if name in smallest:
        least = figure_text(name, smallest[name])
        if bound < smallest[name]:
            return (
                f"no search of this space can do it: its smallest configuration takes {least} of {COSTS[name].words}; "
                "give layers choices of fewer bits or levels, or the network less model.width"
            )
        smallest_words = f"the smallest configuration of this space takes {least} of {COSTS[name].words}"
        return f"{smallest_words}: more --trials may find one that fits"
    if name == "effective_flops":
        if name_is_fixed(summary):
            fewer = ", or several time_steps" if summary.time_steps[-1] > 1 else ""
            return (
                "no search of this space can do it: no layer has a channel gate or skips neurons; give layers choices "
                f"of channel_mass or skip_below{fewer}"
            )
        return "more --trials may find one with fewer operations"
    if name in COSTS:
        return f"more --trials may find one with {LESS[name]}"
    return _accuracy_remedy(summary, bound)


def name_is_fixed(summary: RunSummary) -> bool:
    """Return whether the number of operations is the same in all trials."""
    tried = [result for result in selection.deployable(summary.results) if result.origin is not Origin.BASELINE]
    cost = "effective_flops"
    return not summary.searches_steps and cost in constant_objectives(tried, (cost,), fixed=summary.fixed)


def _accuracy_remedy(summary: RunSummary, bound: float) -> str:
    best = max(selection.deployable(summary.results), key=lambda result: result.accuracy)
    found = wilson_interval(best.accuracy, summary.samples_of(best))
    if found is not None and found.high < bound:
        name = "the float baseline" if best.origin is Origin.BASELINE else f"trial {best.number}"
        return (
            f"the most accurate network of this run, {name}, has {percent(best.accuracy)} %: more trials will hardly "
            "do it; train for longer (train.baseline_epochs, and supernet.epochs or train.epochs), or take more data "
            "or another network"
        )
    return "`spquant-search finalize` trains the front's members on, and more --trials may find a more accurate one"


def why_not_on_the_front(summary: RunSummary, number: int) -> str:
    """Explain why a trial is no member of the front."""
    results = {result.number: result for result in summary.results}
    if number not in results:
        return (
            f"there is no trial {number} yet" if number > max(results, default=-1) else f"trial {number} has not ended"
        )
    trial = results[number]
    if not trial.outcome.has_weights:
        return f"trial {number} left no network: {trial.reason or trial.outcome.value}"
    heirs = [result.number for result in summary.results if result.parent == number]
    measured = selection.deployable(summary.results)
    if lacking := [name for name in summary.costs if getattr(trial, name) is None]:
        return f"trial {number} keeps floating-point numbers, and so has no {' and no '.join(lacking)}"
    if trial not in measured:
        return f"trial {number} was fine-tuned as trial {heirs[0]}" if heirs else f"trial {number} has no accuracy"
    if summary.meets_budget and (over := summary.budget.excess(trial)):
        return f"trial {number} is not within the constraints: {', '.join(over)}"
    better = next((member for member in summary.front if _beats(member, trial, summary.costs)), None)
    return (
        f"trial {number} is beaten by trial {better.number} in all objectives" if better else f"trial {number} is not"
    )


def _beats(one: TrialResult, other: TrialResult, costs: Sequence[str]) -> bool:
    return one.accuracy >= other.accuracy and all(figure(one, cost) <= figure(other, cost) for cost in costs)
