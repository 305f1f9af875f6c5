"""Tell what a member of a front keeps in floating point."""

from __future__ import annotations

from spquant_search.costs.device import kept_in_floats
from spquant_search.runs.results import TrialResult
from spquant_search.training.prepared import Prepared


def float_parts(prepared: Prepared, member: TrialResult) -> dict[str, str]:
    """Name what a member keeps in floating point, by layer; a member with an integer form has no such part."""
    kept = {
        shape.name: kept_in_floats(member.config[shape.name], has_weights=shape.has_weights)
        for shape in prepared.shapes
    }
    return {name: part for name, part in kept.items() if part is not None}
