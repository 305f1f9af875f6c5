"""Build a user's network: a function that returns an ordinary module made of this package's layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from spquant_search.errors import Problem, SpaceError
from spquant_search.snn.layers import searchable_layers
from spquant_search.snn.networks.argument_errors import error_words
from spquant_search.snn.spikes import Spikes
from spquant_search.space.user_functions import FAILURES, NoSuchFunction, find_function, prints_aside

if TYPE_CHECKING:
    from spquant_search.space.shapes import InputShape


def build_custom(path: str, shape: InputShape, *, source: str) -> nn.Module:
    """Call the function at ``path`` ("package.module:function") to make a network for inputs of this shape.

    The module is looked for in the current folder first, as Python itself would.

    Raises:
        SpaceError: there is no such function, it fails, or what it returns has no layer to search.
    """
    try:
        function = find_function(path)
    except NoSuchFunction as error:
        raise SpaceError(source, [Problem("model.build", str(error))]) from error
    try:
        with prints_aside():
            network = function(shape)
    except FAILURES as error:
        raise SpaceError(
            source, [Problem("model.build", f"{path} failed for {shape}: {error_words(error)}")]
        ) from error
    if not isinstance(network, nn.Module) or not searchable_layers(network):
        found = type(network).__name__
        rule = f"{path} must return a torch.nn.Module with layers of spquant_search.snn in it"
        raise SpaceError(source, [Problem("model.build", f"{rule}; got {found}{_of_another_library(network)}")])
    network.register_forward_pre_hook(_with_time)
    return network


def _of_another_library(network: object) -> str:
    """Return what helps where a network has parts of a library whose networks can be imported."""
    parts = network.modules() if isinstance(network, nn.Module) else ()
    packages = {type(part).__module__.partition(".")[0] for part in parts}
    if not packages & {"spikingjelly", "snntorch"}:
        return ""
    return (
        ", a network of another library: return it with an example of its input, and name the function in model.import"
    )


def _with_time(_network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Write a still image out for every time step: a user's forward is promised values with a time axis."""
    return tuple(value.repeated() if isinstance(value, Spikes) and value.constant else value for value in inputs)
