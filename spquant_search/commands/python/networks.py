"""The network that a search is asked for: a function that builds it, by which every process can find it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spquant_search.errors import UserError
from spquant_search.space.user_functions import NoSuchFunction, find_function

_PATH = re.compile(r"[\w.]+:\w+")
_RULE = (
    "trainers and later commands build the network anew, so it needs a function that every process can import: write "
    'it into a file such as my_network.py beside your script, and give "my_network:build"'
)
_IN_A_NOTEBOOK = " (in a notebook, %%writefile my_network.py above a cell does that)"


def is_builder_path(what: object) -> bool:
    """Tell whether something is written package.module:function."""
    return isinstance(what, str) and _PATH.fullmatch(what) is not None


def builder_path(function: Callable[..., Any]) -> str:
    """Return where a function or class can be imported from, as package.module:function.

    Raises:
        UserError: it cannot be, or something else is found there; says what to do.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    shown = name or repr(function)
    if module is None or name is None:
        raise UserError(f"network: {shown} is no function with a name of its own; {_RULE}")
    if not name.isidentifier():
        raise UserError(f"network: {shown} lies within another function or class; {_RULE}")
    path = f"{_main_module(shown) if module == '__main__' else module}:{name}"
    try:
        found = find_function(path)
    except NoSuchFunction as error:
        raise UserError(f"network: {shown}: {error}; {_RULE}") from error
    if found is not function and not (module == "__main__" and _same_code(found, function)):
        raise UserError(f"network: {path} is another function than the one given; {_RULE}")
    return path


def class_path(network: Any) -> str:
    """Return where the class of a network can be imported from, which builds such a one from an InputShape.

    Raises:
        UserError: it cannot be, or it is a class of torch's, which builds anything.
    """
    kind = type(network)
    if kind.__module__.partition(".")[0] in ("torch", "spquant_search"):
        raise UserError(
            f"network: a {kind.__name__} does not say how it is built; {_RULE}, with weights=network for its weights"
        )
    return builder_path(kind)


def refuse_other_libraries(network: Any) -> None:
    """Refuse a network that has neurons of another library.

    Raises:
        UserError: says how it is searched.
    """
    from spquant_search.importer.libraries import neurons_of

    if (found := next(neurons_of(network), None)) is not None:
        name, _, neuron = found
        raise UserError(
            f"network: is one of {neuron.library} ({name or 'itself'} is a {neuron.name}); give "
            "search(from_torch(network, example), ...), which makes one of this package's layers of it"
        )


def _main_module(shown: str) -> str:
    """Return the name by which the script that runs can be imported."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    script = None if file is None else Path(file)
    if script is None or script.suffix != ".py" or not script.is_file():
        raise UserError(f"network: {shown} was written into this session, not into a file; {_RULE}{_IN_A_NOTEBOOK}")
    if not script.stem.isidentifier():
        raise UserError(f"network: {shown} lies in {script.name}, which cannot be imported by its name; {_RULE}")
    return script.stem


def _same_code(found: Any, function: Any) -> bool:
    """Tell whether two functions or classes stand at the same place: of the script, and of it once more as a module."""
    codes = [getattr(getattr(each, "__init__", each), "__code__", None) for each in (found, function)]
    own = [getattr(each, "__code__", code) for each, code in zip((found, function), codes, strict=True)]
    places = [None if code is None else (Path(code.co_filename).resolve(), code.co_firstlineno) for code in own]
    return places[0] is not None and places[0] == places[1]
