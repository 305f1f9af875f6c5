from spquant_search.commands.python.calls import load_space as load_space
from spquant_search.commands.python.calls import open_run as open_run
from spquant_search.commands.python.calls import search as search
from spquant_search.commands.python.picked import Picked as Picked
from spquant_search.commands.python.run import Run as Run
from spquant_search.importer.conversion import from_torch as from_torch

__version__: str
