"""Networks of SpikingJelly and snnTorch, read by running them once; neither library is imported here."""

from spquant_search.importer.reading import ReadNetwork, read_network
from spquant_search.importer.refusals import NotImportable

__all__ = ["NotImportable", "ReadNetwork", "read_network"]
