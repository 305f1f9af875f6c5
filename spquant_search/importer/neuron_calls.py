"""A call of a neuron while a network is recorded: one more time step of it, or all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from spquant_search.importer.axes import is_time
from spquant_search.importer.calls import Call
from spquant_search.importer.functions.arithmetic import scaled
from spquant_search.importer.graph import Followed, Node, Time
from spquant_search.importer.libraries import NeuronClass, library_neuron
from spquant_search.importer.library_neuron import LibraryNeuron
from spquant_search.importer.operations import Membrane, Spiking
from spquant_search.importer.refusals import Refused

GRADED_WITHIN = 1e-4  # of a spike: what a product with a factor and a quotient by it leave

if TYPE_CHECKING:
    from spquant_search.importer.recorder import Recorder


@dataclass(frozen=True, slots=True)
class NeuronCall:
    """What went into a neuron and what came out."""

    name: str
    module: nn.Module
    neuron: NeuronClass
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[Tensor]

    @property
    def current(self) -> Any:
        """What the neuron integrates."""
        return self.args[0] if self.args else next(iter(self.kwargs.values()))

    @property
    def state(self) -> Any:
        """The membrane that is handed in, where it is."""
        return self.args[1] if len(self.args) > 1 else self.kwargs.get("mem")

    @property
    def takes_all_steps(self) -> bool:
        """Whether this one call is all time steps."""
        return self.neuron.library == "SpikingJelly" and getattr(self.module, "step_mode", "s") == "m"


def follow_neuron(recorder: Recorder, call: NeuronCall, current: Followed) -> list[Followed | None]:
    """Follow the spikes of a call, and its membrane where the library hands it out.

    Raises:
        Refused: the neuron or this way of using it has no form.
    """
    form = library_neuron(call.module, call.neuron)
    number = recorder.calls[call.name]
    recorder.calls[call.name] += 1
    time = _time(recorder, call, current, number)
    _check_state(recorder, call, number)
    features = current.features
    _check_channels(form, features)
    made = Call(graph=recorder.graph, clock=recorder.clock, module=call.name, output=call.outputs[0])
    spikes = replace(made.emit(Spiking(form), replace(current, time=time)), time=time)
    shows = Node(operation=Membrane(), inputs=(spikes.node,), seen=(features,), shape=features, name=call.name)
    recorder.membranes[call.name] = recorder.graph.add(shows)
    membrane = Followed(recorder.membranes[call.name], time, spikes.dimensions)
    _keep_membrane(recorder, call, spikes, membrane)
    return _graded(recorder, call, made, spikes, membrane)


def _time(recorder: Recorder, call: NeuronCall, current: Followed, number: int) -> Time:
    if call.takes_all_steps:
        if current.time != "all" or not is_time(current.dimensions[0]):
            raise Refused('its step_mode is "m", and what goes in has no time axis in front')
        if number:
            raise Refused("is called twice", "make a neuron for each place: one that is shared mixes their states")
        return "all"
    if current.time == "all":
        raise Refused(
            "a neuron of one time step is given all of them at once", 'set step_mode to "m", or loop over time'
        )
    if current.time not in (number, "still"):
        raise Refused(
            f"its call {number + 1} is given time step {current.time}: it is called twice in a step, or out of order",
            "make a neuron for each place: one that is shared mixes their states",
        )
    return number


def _check_state(recorder: Recorder, call: NeuronCall, number: int) -> None:
    state = call.state
    if not isinstance(state, Tensor):
        return
    known = recorder.followed(state)
    if known is None:
        if number or bool(state.any()):
            raise Refused("its membrane is set from outside", "start at zero and hand back what came out")
    elif (known.node, known.time) != (recorder.membranes.get(call.name, -1), number - 1):
        raise Refused("the membrane that goes in is not the one that came out of it one step before")


def _check_channels(form: LibraryNeuron, features: tuple[int, ...]) -> None:
    for what, value in (("leak", form.leak), ("threshold", form.threshold)):
        if isinstance(value, tuple) and len(value) != features[0]:
            raise Refused(f"its {what} differs within a channel: {len(value)} values for {features}")


def _keep_membrane(recorder: Recorder, call: NeuronCall, spikes: Followed, membrane: Followed) -> None:
    """Keep the membrane as the library shows it, of all steps where it does, and follow it where it may be read."""
    module: Any = call.module
    shown = module.mem if call.neuron.library == "snnTorch" else module.v_seq if spikes.time == "all" else module.v
    if isinstance(shown, Tensor) and shown.shape == call.outputs[0].shape:
        recorder.graph.recorded[spikes.node].membranes[spikes.time] = recorder.graph.in_order(spikes, shown)
        recorder.follow(shown, membrane)
        recorder.graph.recorded[membrane.node].times.add(membrane.time)
    last = module.v if call.neuron.library == "SpikingJelly" else None
    if spikes.time == "all" and isinstance(last, Tensor) and recorder.clock.steps is not None:
        recorder.follow(last, Followed(membrane.node, recorder.clock.steps - 1, spikes.dimensions[1:]))


def _graded(
    recorder: Recorder, call: NeuronCall, made: Call, spikes: Followed, membrane: Followed
) -> list[Followed | None]:
    factor, plain = getattr(call.module, "graded_spikes_factor", None), call.outputs[0]
    if isinstance(factor, Tensor) and bool((factor != 1).any()):
        plain = plain / factor.to(plain)
    rounded = plain.round()
    if bool(((plain - rounded).abs() > GRADED_WITHIN).any() or (rounded != rounded.bool()).any()):
        raise Refused(
            "what it gives are other numbers than spikes of 0 and 1",
            "give it a surrogate function whose forward spikes",
        )
    plain = plain if plain is call.outputs[0] else rounded
    recorder.graph.keep(spikes, plain)
    recorder.graph.recorded[spikes.node].times.add(spikes.time)
    if plain is not call.outputs[0]:
        spikes = scaled(made, spikes, factor.detach(), 0.0)  # type: ignore[union-attr]
    return [spikes] if len(call.outputs) == 1 else [spikes, membrane]
