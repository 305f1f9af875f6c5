"""How few bits and how few operations does this spiking network need?

    from spquant_search import search

    run = search("my_network:build", train=(frames, labels), budget={"memory": "64 KiB"}, out="runs/mine")
    run.front
    run.pick().export("picked")

Importing this package imports nothing heavy: torch comes with the first call. docs/python.md goes through it all.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.7.0"
__all__ = ["Picked", "Run", "from_torch", "load_space", "open_run", "search"]

# Type checkers read __init__.pyi: an import here, for types alone too, would tie every room to the interface.
_MODULES = {
    "Picked": "commands.python.picked",
    "Run": "commands.python.run",
    "from_torch": "importer.conversion",
    "load_space": "commands.python.calls",
    "open_run": "commands.python.calls",
    "search": "commands.python.calls",
}


def __getattr__(name: str) -> Any:
    """Import a name of the interface when it is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
