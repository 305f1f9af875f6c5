"""Tell what a member of a front keeps in floating point, and how small the networks of a space can be."""

from __future__ import annotations

from functools import partial

from spquant_search.costs.device import kept_in_floats
from spquant_search.costs.memory import cost_report
from spquant_search.runs.results import TrialResult
from spquant_search.runs.sensitivity import LOWERED
from spquant_search.space.configuration import TIME_STEPS, precision
from spquant_search.training.prepared import Prepared


def float_parts(prepared: Prepared, member: TrialResult) -> dict[str, str]:
    """Name what a member keeps in floating point, by layer; a member with an integer form has no such part."""
    kept = {
        shape.name: kept_in_floats(member.config[shape.name], has_weights=shape.has_weights)
        for shape in prepared.shapes
    }
    return {name: part for name, part in kept.items() if part is not None}


def smallest_figures(prepared: Prepared) -> dict[str, float]:
    """Return the bytes of a space's smallest configuration by figure: memory and, where it has any, flash and RAM.

    It has the fewest time steps, bits and levels everywhere, and no gates where a layer can do without.
    """
    fewest = (*LOWERED, TIME_STEPS.parameter)
    lowered = {
        address: (min if address.parameter in fewest else max)(options, key=partial(precision, address.parameter))
        for address, options in prepared.space.choices().items()
    }
    cost = cost_report(prepared.shapes, prepared.space.config(lowered))
    found: dict[str, float] = {"memory_bytes": cost.memory_bytes}
    device = prepared.footprint(cost)
    return found if device is None else found | {"flash_bytes": device.flash, "ram_bytes": device.ram}
