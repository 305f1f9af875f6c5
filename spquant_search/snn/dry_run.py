"""Run a network once, on frames of zeros or frames made up for it, and note which layers run, and on what."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spquant_search.snn.convolution import Convolution
from spquant_search.snn.foreign import own_behaviour
from spquant_search.snn.kernels.compile import uncompiled
from spquant_search.snn.layers import SearchableLayer, searchable_layers
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.snn.tracing import Signal, Step, Trace, Untraceable, record, traced
from spquant_search.space.shapes import InputShape


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A call of a layer that is about to happen."""

    name: str
    layer: SearchableLayer
    inputs: tuple[Spikes | Tensor, ...]  # by the parameters of the layer's forward, in their order
    trace: Trace

    @property
    def signals(self) -> tuple[Spikes, ...]:
        """Those of the inputs that are no currents."""
        return tuple(value for value in self.inputs if isinstance(value, Spikes))


CallHook = Callable[[Call], None]


def batch_unlike(time_steps: int) -> int:
    """Return a small number of samples that is not the number of time steps, so that the two cannot be mixed up."""
    return 3 if time_steps == 2 else 2


class ForwardFailed(Exception):
    """A network's forward pass raised, as its cause; the message says in which of its modules, empty: in its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DryRun:
    """What one forward pass of a network did."""

    trace: Trace  # ended at the logits, where these are a tensor
    calls: Counter[str]  # of every layer that ran, in the order of the first calls
    outputs: dict[str, Spikes | Tensor]  # of every layer, at its latest call
    logits: object

    @property
    def needed(self) -> frozenset[str]:
        """The layers that the logits depend on."""
        return frozenset(step.name for step in self.trace.steps if step.operation == "layer")


def dry_run(
    network: nn.Module,
    shape: InputShape,
    *,
    time_steps: int,
    batch: int = 1,
    frames: Tensor | None = None,
    watched: Mapping[int, str] | None = None,
    on_call: CallHook | None = None,
) -> DryRun:
    """Run a network once on ``frames`` [time * batch, channels, height, width], without gradients.

    ``watched`` are the parameters, by identity, whose use the trace notes. ``on_call`` is told of every call of a layer
    before it happens, and may raise.

    Raises:
        ForwardFailed: the network raised, or ``on_call`` did.
    """
    layers = searchable_layers(network)
    calls: Counter[str] = Counter()
    outputs: dict[str, Spikes | Tensor] = {}
    if frames is None:
        device = next(network.parameters()).device
        frames = torch.zeros(time_steps * batch, shape.channels, shape.height, shape.width, device=device)
    given = Spikes(values=frames, time_steps=time_steps, largest=shape.largest)

    def before(call: Call) -> None:
        calls[call.name] += 1
        if on_call is not None:
            on_call(call)

    def after(call: Call, output: Spikes | Tensor) -> None:
        outputs[call.name] = output
        record("layer", [_signal(value) for value in call.inputs], _signal(output), call.name)

    with torch.no_grad(), uncompiled(), traced(network, layers) as trace, _told(layers, trace, before, after):
        trace.watched = dict(watched or {})
        record("input", (), given.signal, "input")
        logits = _run(network, given, trace)
        if isinstance(logits, Tensor):
            trace.end_at(logits)
    return DryRun(trace=trace, calls=calls, outputs=outputs, logits=logits)


@contextmanager
def _told(
    layers: Mapping[str, SearchableLayer],
    trace: Trace,
    before: CallHook,
    after: Callable[[Call, Spikes | Tensor], None],
) -> Iterator[None]:
    """Tell of every call of a layer, before it and after it, in this context."""

    def hooks(name: str, layer: SearchableLayer) -> tuple[Any, Any]:
        def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
            return Call(name=name, layer=layer, inputs=_in_order(layer, args, kwargs), trace=trace)

        return (
            lambda _module, args, kwargs: before(call(args, kwargs)),
            lambda _module, args, kwargs, output: after(call(args, kwargs), output),
        )

    handles = []
    for name, layer in layers.items():
        hook_before, hook_after = hooks(name, layer)
        handles.append(layer.register_forward_pre_hook(hook_before, with_kwargs=True))
        handles.append(layer.register_forward_hook(hook_after, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run(network: nn.Module, given: Spikes, trace: Trace) -> object:
    try:
        return network(given)
    except Exception as error:
        raise ForwardFailed(trace.running[-1] if trace.running else "") from error


def _in_order(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Spikes | Tensor, ...]:
    """Return the signals of a call in the order of the layer's parameters, however they were passed."""
    try:
        given = inspect.signature(type(layer).forward).bind(layer, *args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(f"{type(layer).__name__}.forward() {error}") from None
    return tuple(value for value in given.values() if isinstance(value, (Spikes, Tensor)))


def _signal(value: Spikes | Tensor) -> Signal:
    return value.signal if isinstance(value, Spikes) else Signal(value)


def trace_network(network: nn.Module, shape: InputShape, *, time_steps: int) -> Trace:
    """Return the steps of a network that its logits depend on, each layer once.

    Raises:
        Untraceable: a layer runs twice, something other than layers and this package's operations lies between them, a
            layer does something of its own, or the last is no Readout.
    """
    layers = searchable_layers(network)
    run = dry_run(network, shape, time_steps=time_steps)
    for name, times in run.calls.items():
        if times > 1:
            raise Untraceable(f"{name} runs {times} times")
    if not isinstance(run.logits, Tensor):
        raise Untraceable(f"the network's output is a {type(run.logits).__name__}")
    raise_if_untraceable(run.trace, layers)
    return run.trace


def raise_if_untraceable(trace: Trace, layers: Mapping[str, SearchableLayer]) -> None:
    """Raise Untraceable where the steps that a network's logits depend on have no integer form."""
    if trace.problems:
        raise Untraceable(trace.problems[0])
    last = trace.steps[-1]
    if last.operation != "count" and not isinstance(layers.get(last.name), Readout):
        rule = "where it must be that of its Readout or CountReadout"
        raise Untraceable(f"the network's output is that of {last.name}, {rule}")
    if not any(isinstance(layers.get(step.name), SpikingConv2d) for step in trace.steps):
        raise Untraceable("no layer is a SpikingConv2d, and the C engine runs networks with one at least")
    for step in trace.steps:
        words = own_behaviour(layers[step.name]) if step.name in layers else None
        if words is not None:
            raise Untraceable(f"{step.name} {words}")
        if any(trace.steps[number].operation == "flatten" for number in step.inputs) and not _reads_flat(step, layers):
            raise Untraceable(
                f"{step.name} reads what Flatten makes; in integers a SpikingLinear does, a Readout, and a convolution "
                "of kernel 1 without padding, groups, pool and gate, none of them as a residual"
            )


def _reads_flat(step: Step, layers: Mapping[str, SearchableLayer]) -> bool:
    """Tell whether a step that reads a flattened map is one whose kernel can be the map."""
    layer = layers.get(step.name)
    if isinstance(layer, Readout):
        return True
    if not isinstance(layer, Convolution) or len(step.inputs) > 1:
        return False
    is_plain = layer.kernel.area == layer.groups == 1 and layer.pool is None and not any(layer.kernel.padding)
    return is_plain and getattr(layer, "gate", None) is None
