"""Networks of SpikingJelly and snnTorch, read by running them once; neither library is imported here."""

from spquant_search.importer.conversion import from_torch
from spquant_search.importer.own_network import ImportedNetwork
from spquant_search.importer.reading import ReadNetwork, read_network
from spquant_search.importer.refusals import NotImportable

__all__ = ["ImportedNetwork", "NotImportable", "ReadNetwork", "from_torch", "read_network"]
