"""A space bound to its network, as a value that needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from spquant_search.costs.device import Architecture, Footprint, footprint
from spquant_search.costs.memory import CostReport
from spquant_search.space.search_space import SearchSpace
from spquant_search.space.shapes import InputShape, LayerShape


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A space and the layers of its network: a search and a table of costs start from it."""

    space: SearchSpace
    shapes: tuple[LayerShape, ...]
    input: InputShape
    architecture: Architecture | None  # None if the network has no integer form
    no_integer_form: str | None = None  # why no configuration can be written in integers: `pick` refuses all of them

    def footprint(self, cost: CostReport) -> Footprint | None:
        """Return what a configuration takes on a device; None if the network has no integer form."""
        return None if self.architecture is None else footprint(self.architecture, cost)
