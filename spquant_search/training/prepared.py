"""A space bound to its network: what a search or a table of costs starts from. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from spquant_search.costs.device import Architecture, Footprint, footprint
from spquant_search.costs.memory import CostReport
from spquant_search.space.search_space import SearchSpace
from spquant_search.space.shapes import InputShape, LayerShape


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A space bound to its network, and the network's layers."""

    space: SearchSpace
    shapes: tuple[LayerShape, ...]
    input: InputShape
    architecture: Architecture | None  # None where the network has no form in integers

    def footprint(self, cost: CostReport) -> Footprint | None:
        """What a configuration takes on a device; None where it has no form in integers."""
        return None if self.architecture is None else footprint(self.architecture, cost)
