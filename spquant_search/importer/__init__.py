"""Networks of SpikingJelly and snnTorch, read by running them once, and graphs of NIR; neither library is imported."""

from spquant_search.importer.conversion import from_nir, from_torch
from spquant_search.importer.nir_reading import read_nir
from spquant_search.importer.own_network import ImportedNetwork
from spquant_search.importer.reading import ReadNetwork, read_network
from spquant_search.importer.refusals import NotImportable

__all__ = ["ImportedNetwork", "NotImportable", "ReadNetwork", "from_nir", "from_torch", "read_network", "read_nir"]
