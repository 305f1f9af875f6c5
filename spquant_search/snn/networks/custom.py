"""Build a user's network: a function that returns an ordinary module made of this package's layers."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn

from spquant_search.errors import Problem, SpaceError
from spquant_search.snn.layers import searchable_layers
from spquant_search.snn.networks.argument_errors import error_words
from spquant_search.snn.spikes import Spikes

if TYPE_CHECKING:
    from spquant_search.space.shapes import InputShape


def build_custom(path: str, shape: InputShape, *, source: str) -> nn.Module:
    """Call the function at ``path`` ("package.module:function") to make a network for inputs of this shape.

    The module is looked for in the current folder first, as Python itself would.

    Raises:
        SpaceError: there is no such function, it fails, or what it returns has no layer to search.
    """
    function = _function(path, source)
    try:
        network = function(shape)
    except Exception as error:
        raise SpaceError(
            source, [Problem("model.build", f"{path} failed for {shape}: {error_words(error)}")]
        ) from error
    if not isinstance(network, nn.Module) or not searchable_layers(network):
        found = type(network).__name__
        rule = f"{path} must return a torch.nn.Module with layers of spquant_search.snn in it"
        raise SpaceError(source, [Problem("model.build", f"{rule}; got {found}")])
    network.register_forward_pre_hook(_with_time)
    return network


def _with_time(_network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Write a still image out for every time step: a user's forward is promised values with a time axis."""
    return tuple(value.repeated() if isinstance(value, Spikes) and value.constant else value for value in inputs)


def _function(path: str, source: str) -> Callable[[InputShape], object]:
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise SpaceError(source, [Problem("model.build", f"must be written package.module:function; got {path!r}")])
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a module does when it is imported
        sentence = f"{module_name} could not be imported from {here}: {error_words(error)}"
        raise SpaceError(source, [Problem("model.build", sentence)]) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise SpaceError(source, [Problem("model.build", f"{module_name} has no function {name!r}")])
    built: Callable[[InputShape], object] = function
    return built
