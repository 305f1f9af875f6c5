"""A space bound to its network, as a value that needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from spquant_search.costs.device import Architecture, Footprint, footprint
from spquant_search.costs.extremes import dearest_figures, smallest_figures
from spquant_search.costs.memory import CostReport, cost_report
from spquant_search.errors import UserError
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.records import read_results
from spquant_search.space.objectives import COSTS
from spquant_search.space.search_space import SearchSpace
from spquant_search.space.shapes import InputShape, LayerShape


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A space and the layers of its network: a search and a table of costs start from it."""

    space: SearchSpace
    shapes: tuple[LayerShape, ...]
    input: InputShape
    architecture: Architecture | None  # None if the network has no integer form
    no_integer_form: str | None = None  # why no configuration can be written in integers: `pick` refuses them all
    notes: tuple[str, ...] = ()  # what of the network is left out of the search, and what may not fit a device

    def footprint(self, cost: CostReport) -> Footprint | None:
        """Return what a configuration takes on a device; None if the network has no integer form."""
        return None if self.architecture is None else footprint(self.architecture, cost)

    def dearest(self) -> dict[str, float]:
        """Return what the dearest configuration costs, by the costs that the float baseline does not have."""
        most = dearest_figures(self.space, self.shapes, self.architecture)
        return {name: value for name, value in most.items() if not COSTS[name].of_floats}

    def byte_ranges(self) -> dict[str, tuple[float, float]]:
        """Return the bytes of the smallest and of the dearest configuration, by cost."""
        least = smallest_figures(self.space, self.shapes, self.architecture)
        most = dearest_figures(self.space, self.shapes, self.architecture)
        return {name: (low, most[name]) for name, low in least.items()}

    @property
    def all_notes(self) -> tuple[str, ...]:
        """The notes on the space and on its network."""
        return (*self.space.notes, *self.notes)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences that a person should read before any training."""
        if self.no_integer_form is None:
            return self.all_notes
        return (*self.all_notes, f"no integer form: {self.no_integer_form}; pick will refuse every configuration")

    def require_network_of(self, folder: RunFolder) -> None:
        """Check that a user's network is the one that a run's trials were made of; its code may have changed since.

        Raises:
            UserError: it has other layers, or they cost something else.
        """
        own = self.space.file.model.own
        results = read_results(folder) if own is not None and folder.exists() else ()
        for result in results[:1]:
            then, now = dict(result.config.layers).keys(), {shape.name for shape in self.shapes}
            if then != now:
                new, gone = ", ".join(sorted(now - then)) or "none", ", ".join(sorted(then - now)) or "none"
                change = f"layers that are new: {new}; that are gone: {gone}"
            else:
                cost = cost_report(self.shapes, result.config)
                if (cost.memory_bytes, cost.dense_macs_all_steps) == (result.memory_bytes, result.dense_macs):
                    return
                change = (
                    f"trial {result.number} took {result.memory_bytes:,} bytes, and would take {cost.memory_bytes:,}"
                )
            raise UserError(
                f"{folder.path}: {own and own[1]} is not the network that this run searched ({change}); "
                "undo the change, or search it as a run of its own with --run NAME"
            )
