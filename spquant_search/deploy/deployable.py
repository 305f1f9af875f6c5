"""Which members of a front have a form in integers, and the frames of the test vectors."""

from __future__ import annotations

from spquant_search.costs.device import kept_in_floats
from spquant_search.runs.results import TrialResult
from spquant_search.training.prepared import Prepared


def float_parts(prepared: Prepared, member: TrialResult) -> dict[str, str]:
    """What of a member is floating point, by layer; empty where it has a form in integers."""
    kept = {
        shape.name: kept_in_floats(member.config[shape.name], has_weights=shape.has_weights)
        for shape in prepared.shapes
    }
    return {name: what for name, what in kept.items() if what is not None}
