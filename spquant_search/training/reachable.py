"""Find the objectives that no configuration of a space has, and the constraints that none can keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from spquant_search.costs.device import Architecture
from spquant_search.costs.extremes import byte_figures, smallest_configurations, smallest_figures
from spquant_search.costs.memory import FLOPS_PER_MAC, cost_report
from spquant_search.errors import Problem
from spquant_search.runs.energy import membrane_microjoules
from spquant_search.runs.selection import Budget
from spquant_search.space.configuration import OFF
from spquant_search.space.objectives import COSTS
from spquant_search.space.search_space import SearchSpace
from spquant_search.space.shapes import LayerShape

FEWER_BITS = "raise it, or give layers choices of fewer bits or levels"


def without_integer_form(space: SearchSpace, reason: str | None) -> list[Problem]:
    """Return which objectives and constraints are those of a device, where no configuration has an integer form."""
    if reason is None:
        return []
    on_device = [name for name, cost in COSTS.items() if not cost.of_floats]
    bounds = Budget.of(space.file.constraints).costs()
    asked = {f"constraints.{name}": name for name in on_device if name in bounds}
    named = [name for name in on_device if name in space.file.search.costs]
    asked |= {"search.objectives": " and ".join(named)} if named else {}
    return [
        Problem(key, f"{name}: no configuration has an integer form, and so none has any: {reason}; take memory_bytes")
        for key, name in asked.items()
    ]


def unreachable_budgets(
    space: SearchSpace, shapes: Sequence[LayerShape], architecture: Architecture | None
) -> list[Problem]:
    """Return the constraints that no configuration of the space can keep, as far as is known without training."""
    bounds = Budget.of(space.file.constraints).costs()
    least = smallest_figures(space, shapes, architecture)
    problems = [
        Problem(
            f"constraints.{name}",
            f"must be at least {least[name]:,} bytes, what the smallest configuration of this space takes; "
            f"got {bound:,}; {FEWER_BITS}",
        )
        for name, bound in bounds.items()
        if name in least and bound < least[name]
    ]
    problems = problems or _unreachable_together(space, shapes, architecture)
    return [*problems, *_too_few_operations(space, shapes), *_too_little_energy(space, shapes)]


def _unreachable_together(
    space: SearchSpace, shapes: Sequence[LayerShape], architecture: Architecture | None
) -> list[Problem]:
    """Return that constraints on bytes, each of which some configuration keeps, are kept by none together."""
    budget = Budget.of(space.file.constraints)
    tried = [byte_figures(shapes, architecture, config) for config in smallest_configurations(space)]
    bounds = {name: bound for name, bound in budget.costs().items() if all(name in figures for figures in tried)}
    if any(all(figures[name] <= bound for name, bound in bounds.items()) for figures in tried):
        return []
    words = " or ".join(
        " and ".join(f"{figures[name]:,} bytes of {COSTS[name].words}" for name in bounds) for figures in tried
    )
    given = ", ".join(f"{name} {bound:,}" for name, bound in bounds.items())
    sentence = f"no configuration of this space keeps all of them: the smallest take {words}; got {given}; {FEWER_BITS}"
    return [Problem("constraints", sentence)]


def _too_few_operations(space: SearchSpace, shapes: Sequence[LayerShape]) -> list[Problem]:
    bound = space.file.constraints.effective_flops
    fewest = replace(space.baseline(), time_steps=space.file.time_steps[0])
    dense = FLOPS_PER_MAC * cost_report(shapes, fewest).dense_macs_all_steps
    may_be_less = any(OFF[kind] != value for layer in space.layers for kind in OFF for value in getattr(layer, kind))
    if bound is None or bound >= dense or may_be_less:
        return []
    sentence = (
        f"must be at least {dense:,}, what every configuration without gates and masks takes, and this space has "
        f"no others; got {bound:,.0f}; raise it, or give layers choices of channel_mass or skip_below"
    )
    return [Problem("constraints.effective_flops", sentence)]


def _too_little_energy(space: SearchSpace, shapes: Sequence[LayerShape]) -> list[Problem]:
    bound = space.file.constraints.energy_uj
    least = min(membrane_microjoules(cost_report(shapes, config)) for config in smallest_configurations(space))
    if bound is None or bound > least:
        return []
    sentence = (
        f"must be more than {least:.4g} uJ, what reading and writing the smallest membranes of this space takes; "
        f"got {bound:g}; {FEWER_BITS}"
    )
    return [Problem("constraints.energy_uj", sentence)]
