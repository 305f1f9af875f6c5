"""A network of this package's layers with the weights of an imported one."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from spquant_search.importer.description import Description
from spquant_search.importer.network_plan import PlanMaker
from spquant_search.importer.proof import Proof
from spquant_search.runs.random_streams import Purpose, derived_seed
from spquant_search.snn.networks.planned import PlannedNetwork


class ImportedNetwork(PlannedNetwork):
    """This package's layers with the weights of another library's network: whole numbers in, logits out."""

    def __init__(self, description: Description, unit: float) -> None:
        """Make the layers that carry a description; an input of 1 means ``unit`` in the network that was read.

        Raises:
            NotImportable: these layers do not carry it; all reasons are in it.
        """
        maker = PlanMaker(description, unit)
        with torch.random.fork_rng(devices=[]):  # gates draw weights, which are those of every import then
            torch.manual_seed(derived_seed(0, Purpose.INITIAL_WEIGHTS))
            super().__init__(maker.plan)
        self.neurons = maker.neurons  # the numbers of neurons in the description, by the names of their layers
        self.end = maker.end
        self.proofs: Mapping[str, Proof] = {}  # of what was read, on each example
        self.notes: tuple[str, ...] = tuple(maker.notes)  # what a person must know of it
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name in maker.weights:
                    parameter.copy_(maker.weights[name])
