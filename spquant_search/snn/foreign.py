"""Find what a network has beside this package's layers as they are: other weights, shared weights, changed layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from spquant_search.snn.attention import SpikingSelfAttention
from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.layers import SearchableLayer, searchable_layers
from spquant_search.snn.linear import SpikingLinear
from spquant_search.snn.readout import Readout
from spquant_search.snn.spiking_convolution import SpikingConv2d

_KINDS = (SpikingLinear, SpikingConv2d, Shortcut, SpikingSelfAttention, Readout)
# The weights of these layers, by name; all that costs count.
COUNTED = {
    *("weight", "bias", "norm.weight", "norm.bias", "linear.weight", "linear.bias"),
    *("gate.weight", "gate.bias", "gate.mass_slope", "neuron.log_threshold", "neuron.leak_logit"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignWeights:
    """A module's own weights that no layer of this package counts."""

    module: str  # its name; empty for the network itself
    kind: str  # its class
    parameters: tuple[str, ...]

    def __str__(self) -> str:
        """Name the module, or the parameters where they are the network's own."""
        return f"{self.module} ({self.kind})" if self.module else f"{', '.join(self.parameters)} (of {self.kind})"


def foreign_weights(network: nn.Module) -> dict[str, tuple[ForeignWeights, tuple[nn.Parameter, ...]]]:
    """Find the weights that no layer of this package counts, by the name of the module that has them."""
    layers = searchable_layers(network)
    counted = {
        id(parameter)
        for layer in layers.values()
        for name, parameter in layer.named_parameters(remove_duplicate=False)
        if name in COUNTED
    }
    found = {}
    for name, module in network.named_modules():
        parameters = [(key, value) for key, value in module.named_parameters(recurse=False) if id(value) not in counted]
        if parameters:
            names, values = zip(*parameters, strict=True)
            found[name] = (ForeignWeights(module=name, kind=type(module).__name__, parameters=names), values)
    return found


def names_of_layers(network: nn.Module) -> dict[str, list[str]]:
    """Return all names that each layer has, by the first, which is the one that it is known by."""
    first = {id(layer): name for name, layer in searchable_layers(network).items()}
    found: dict[str, list[str]] = {name: [] for name in first.values()}
    for name, module in network.named_modules(remove_duplicate=False):
        if id(module) in first:
            found[first[id(module)]].append(name)
    return found


def shared_weights(network: nn.Module) -> list[tuple[str, str, str]]:
    """Find the layers that share weights: a layer, an earlier one, and the name that the weights have in the first.

    On the meta device only the same tensors are found, elsewhere also other tensors in the same memory.
    """
    owner: dict[int, str] = {}
    found = []
    for layer_name, layer in searchable_layers(network).items():
        for name, tensor in _state(layer):
            for key in _identities(tensor):
                if owner.setdefault(key, layer_name) != layer_name:
                    found.append((layer_name, owner[key], name))
                    break
    return found


def _state(layer: SearchableLayer) -> Iterator[tuple[str, Tensor]]:
    yield from layer.named_parameters()
    yield from layer.named_buffers()


def _identities(tensor: Tensor) -> Iterable[int]:
    memory = 0 if tensor.is_meta else tensor.untyped_storage().data_ptr()
    return (id(tensor), memory) if memory else (id(tensor),)


def own_behaviour(layer: SearchableLayer) -> str | None:
    """Say what a layer does beside what this package's layer does; None where nothing is changed."""
    kind = type(layer)
    base = next((known for known in _KINDS if isinstance(layer, known)), None)
    if base is None:
        return f"is a {kind.__name__}, which is no layer of this package"
    own = [*vars(layer), *(name for between in kind.__mro__[: kind.__mro__.index(base)] for name in vars(between))]
    changed = sorted({name for name in own if callable(getattr(base, name, None)) and not name.startswith("__")})
    if changed:
        return f"is a {kind.__name__} whose {', '.join(changed)} differs from that of {base.__name__}"
    if layer._forward_hooks or layer._forward_pre_hooks:
        return "has hooks, which may change what it does"
    return None
