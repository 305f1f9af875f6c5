"""The neurons of SpikingJelly and snnTorch, known by the names of their classes: neither library is imported here.

A neuron is what derives from a class of either library that keeps a state from one time step to the next, so that a
user's subclass is one too; whether it does what its class does is left to the proof.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from spquant_search.importer.library_neuron import LibraryNeuron, Reset
from spquant_search.importer.refusals import Refused

Library = Literal["SpikingJelly", "snnTorch"]

_LEAKY = ("LIFNode", "SimpleLIFNode", "ParametricLIFNode")
_WITHOUT_LEAK = ("IFNode", "SimpleIFNode", "HalfThresholdIFNode")
_WITHOUT_STATE = ("Dropout", "Dropout2d")  # in evaluation, where the mask that they keep is not used
# What the state function of snnTorch's Leaky does; the choice is made when the neuron is made.
_RESETS: dict[str, Reset] = {"_base_zero": "zero", "_base_sub": "subtract", "_base_int": "none"}
_RECURRENT = "what comes out goes in again in the next step, a recurrence"
_SECOND_ORDER = "it has more states than a membrane"
_MEMBRANES = "it gives membranes and not spikes"
_OTHERS = {
    "RLeaky": "its spikes come back to it in the next step, a recurrence",
    "RSynaptic": "its spikes come back to it in the next step, a recurrence",
    **dict.fromkeys(("LinearRecurrentContainer", "ElementWiseRecurrentContainer"), _RECURRENT),
    **dict.fromkeys(("SpikingLSTM", "SpikingVanillaRNN", "SpikingGRU"), _RECURRENT),
    **dict.fromkeys(("SpikingLSTMCell", "SpikingVanillaRNNCell", "SpikingGRUCell"), _RECURRENT),
    **dict.fromkeys(("Synaptic", "Alpha", "SLSTM", "SConv2dLSTM"), _SECOND_ORDER),
    **dict.fromkeys(("CUBALIFNode", "ILCCUBALIFNode", "NoisyCUBALIFNode", "NoisyILCCUBALIFNode"), _SECOND_ORDER),
    **dict.fromkeys(("NonSpikingIFNode", "NonSpikingLIFNode", "NoisyNonSpikingIFNode"), _MEMBRANES),
}
# Where the libraries define neurons: some keep no state that their base classes tell of, as they take all time steps.
_PLACES = {"spikingjelly": {"neuron", "rnn"}, "snntorch": {"_neurons"}}
_BASES = {"spikingjelly": "MemoryModule", "snntorch": "SpikingNeuron"}


class NeuronClass(NamedTuple):
    """The library that a neuron comes from, and the class of it that the neuron is or derives from."""

    library: Library
    name: str


def neuron_class(module: nn.Module) -> NeuronClass | None:
    """Return what neuron a module is; None where it is none."""
    classes = type(module).__mro__
    for cls in classes:
        package, *places = cls.__module__.split(".")
        if package == "spikingjelly" and cls.__name__ in _WITHOUT_STATE:
            return None
        if package in _PLACES and (
            _PLACES[package].intersection(places) or any(base.__name__ == _BASES[package] for base in classes)
        ):
            return NeuronClass("SpikingJelly" if package == "spikingjelly" else "snnTorch", cls.__name__)
    return None


def library_neuron(module: Any, neuron: NeuronClass) -> LibraryNeuron:
    """Return what a neuron computes.

    Raises:
        Refused: it has no form here.
    """
    return _of_spikingjelly(module, neuron.name) if neuron.library == "SpikingJelly" else _of_snntorch(module, neuron)


def _of_spikingjelly(module: Any, kind: str) -> LibraryNeuron:
    leak, gain = 1.0, 1.0
    if kind in _LEAKY:
        rate = float(module.w.detach().sigmoid()) if kind == "ParametricLIFNode" else 1.0 / module.tau
        leak, gain = 1.0 - rate, rate if module.decay_input else 1.0
    elif kind not in _WITHOUT_LEAK:
        raise Refused(_why_not(kind), f"neurons that have one: {', '.join((*_LEAKY, *_WITHOUT_LEAK))}")
    rest = module.v_reset or 0.0
    threshold = float(module.v_threshold) - rest
    if not threshold > 0:
        raise Refused(f"its threshold, {module.v_threshold}, is not above its v_reset, {rest}")
    return LibraryNeuron(
        leak=leak,
        learns_leak=kind == "ParametricLIFNode",
        gain=gain,
        threshold=threshold,
        reset="subtract" if module.v_reset is None else "zero",
        start=float(module.get_reset_value("v")) - rest,
        rest=rest,
    )


def _of_snntorch(module: Any, neuron: NeuronClass) -> LibraryNeuron:
    if neuron.name != "Leaky":
        raise Refused(_why_not(neuron.name), "neurons of snnTorch that have one: Leaky")
    if module.inhibition or module.state_quant:
        raise Refused("inhibition and state_quant have no form", "leave them out")
    reset = _RESETS.get(getattr(module.state_function, "__name__", ""))
    if reset is None:
        raise Refused("its state_function is none of snnTorch's own")
    if reset == "subtract":
        reset = "delayed" if module.reset_delay else "guarded"
    threshold = _number_or_channels(module.threshold)
    if not (min(threshold) if isinstance(threshold, tuple) else threshold) > 0:
        raise Refused("its threshold is not above 0")
    return LibraryNeuron(
        leak=_number_or_channels(module.beta.clamp(0, 1)),
        learns_leak=isinstance(module.beta, nn.Parameter),
        threshold=threshold,
        strict=True,
        reset=reset,
        shows="before" if module.reset_delay else "after",
    )


def _why_not(kind: str) -> str:
    return f"{kind} has no form" + (f": {_OTHERS[kind]}" if kind in _OTHERS else "")


def _number_or_channels(value: Tensor) -> float | tuple[float, ...]:
    numbers = [float(number) for number in value.detach().flatten()]
    return numbers[0] if len(set(numbers)) == 1 else tuple(numbers)


def neurons_of(network: nn.Module) -> Iterator[tuple[str, nn.Module, NeuronClass]]:
    """Yield the neurons of a network, with their names."""
    for name, module in network.named_modules():
        neuron = neuron_class(module)
        if neuron is not None:
            yield name, module, neuron


def reset_states(network: nn.Module) -> None:
    """Set the states of all neurons to those before the first time step."""
    for _, module, neuron in neurons_of(network):
        reset: Any = getattr(module, "reset_mem" if neuron.library == "snnTorch" else "reset", None)
        if callable(reset):
            reset()
