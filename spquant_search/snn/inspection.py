"""Look at a network before any training: the shapes of its layers, how they are connected, what cannot be.

A network of a user's own may be any module. Here it is run without data, in evaluation and in training, to find what a
search could not do right: weights that nothing counts, layers that run twice or share weights, signals that are no
whole numbers. All of that is refused at once. What has no integer form can be searched, and is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from spquant_search.costs.device import Architecture
from spquant_search.costs.engine_limits import attention_excess, map_excess, side_excess, signal_excess, window_excess
from spquant_search.errors import Problem, SpaceError, first_of
from spquant_search.runs.random_streams import Purpose, derived_seed
from spquant_search.snn.architecture import describe_architecture, pool_behind, unflattened
from spquant_search.snn.attention import SpikingSelfAttention
from spquant_search.snn.convolution import Convolution
from spquant_search.snn.dry_run import (
    Call,
    CallHook,
    DryRun,
    ForwardFailed,
    batch_unlike,
    dry_run,
    raise_if_untraceable,
)
from spquant_search.snn.foreign import foreign_weights, names_of_layers, shared_weights
from spquant_search.snn.layers import SearchableLayer, searchable_layers
from spquant_search.snn.made_up_signals import number_problems
from spquant_search.snn.networks.argument_errors import error_words
from spquant_search.snn.networks.catalog import build
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.tracing import Step, Untraceable
from spquant_search.snn.window import Span
from spquant_search.space.schema import ModelSpace
from spquant_search.space.shapes import InputShape, LayerShape

_MOST_NAMES = 5  # that a sentence lists


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkFacts:
    """What a network says of itself without any data."""

    shapes: tuple[LayerShape, ...]  # of the layers that the logits depend on, in the order in which they run
    architecture: Architecture | None  # None if the network has no integer form
    no_integer_form: str | None  # why, as a sentence
    notes: tuple[str, ...]  # what is left out of search and costs, as sentences
    idle: tuple[str, ...]  # layers that the logits do not depend on
    other_names: Mapping[str, str]  # of layers that have several, to the one that they are known by


def inspect_network(model: ModelSpace, shape: InputShape, *, time_steps: int, source: str) -> NetworkFacts:
    """Look at a network, mostly on the meta device: no memory, no arithmetic.

    Raises:
        SpaceError: the network cannot be built or run, or not be searched as it is.
    """
    with torch.device("meta"):
        network = build(model, shape, source=source).eval()
    look = _Look(network, model, shape, time_steps=time_steps, source=source)
    look.refuse(
        [f"a layer cannot be called {name!r}; name it otherwise" for name in look.layers if name in ("", "all")]
    )
    shapes: dict[str, LayerShape] = {}
    residuals: list[tuple[str, Tensor]] = []

    def take_shape(call: Call) -> None:
        shapes.setdefault(call.name, call.layer.shape(call.name, *call.signals))
        residuals.extend((call.name, value) for value in call.inputs if isinstance(value, Tensor))

    run = look.run(on_call=take_shape)
    notes: tuple[str, ...] = ()
    if model.own is not None:
        look.refuse(_uncounted(look, run))
        training = look.run_in_training()
        look.refuse(_wrong_numbers(look, run))
        notes = tuple(_notes(look, run, training))
    _take_shortcuts(shapes, run, residuals)
    needed = tuple(found for name, found in shapes.items() if name in run.needed)
    architecture, no_integer_form = None, None
    try:
        raise_if_untraceable(run.trace, look.layers)
        _raise_if_too_large(run.trace.steps, look.layers)
        architecture = describe_architecture(run.trace.steps, look.layers, needed)
    except Untraceable as error:
        no_integer_form = str(error)
    return NetworkFacts(
        shapes=needed,
        architecture=architecture,
        no_integer_form=no_integer_form,
        notes=notes,
        idle=tuple(name for name in look.layers if name not in run.needed),
        other_names={
            other: name for name, others in names_of_layers(network).items() for other in others if other != name
        },
    )


def _take_shortcuts(shapes: dict[str, LayerShape], run: DryRun, residuals: Sequence[tuple[str, Tensor]]) -> None:
    """Give every shortcut the positions that the layers take which add its current: no other output is computed.

    ``residuals`` are the currents that layers add, each with the layer's name.
    """
    shortcuts = [name for name, shape in shapes.items() if shape.kind == "shortcut"]
    made = {id(run.outputs[name]): name for name in shortcuts if name in run.outputs}
    taken: dict[str, int] = {}
    for reader, current in residuals:
        if (name := made.get(id(current))) is not None:
            taken[name] = taken.get(name, 0) + shapes[reader].current_positions
    for name, positions in taken.items():
        shapes[name] = replace(shapes[name], positions=positions)


def _raise_if_too_large(steps: Sequence[Step], layers: Mapping[str, SearchableLayer]) -> None:
    """Raise Untraceable where something is more than the engine can hold, whatever the precision."""
    for step in steps:
        layer = layers.get(step.name)
        excess = (
            signal_excess(step.name, _pools(step, layer), step.largest or 0)
            or side_excess(step.name, () if step.operation == "flatten" else step.shape[1:])
            or map_excess(step.name, math.prod(step.shape[1:]))
            or window_excess(step.name, _kernel(layer, step, steps))
            or attention_excess(step.name, _terms(layer, step))
        )
        if excess is not None:
            raise Untraceable(excess)


def _kernel(layer: SearchableLayer | None, step: Step, steps: Sequence[Step]) -> Sequence[Span]:
    """Return the kernel of a layer along both axes; one that reads a flattened map has that as its kernel."""
    if not isinstance(layer, Convolution):
        return ()
    read = step.inputs[0]
    is_flat = steps[read].operation == "flatten"
    return [Span(side) for side in unflattened(steps, read).shape[2:]] if is_flat else layer.kernel


def _pools(step: Step, layer: SearchableLayer | None) -> str:
    """Return the operation whose numbers a step keeps: that of its pool, where a layer pools its spikes in a step."""
    return step.operation if pool_behind(layer) is None else "pool"


def _terms(layer: SearchableLayer | None, step: Step) -> int:
    """Return the largest sum of an attention: the positions times the channels of a head."""
    if not isinstance(layer, SpikingSelfAttention):
        return 0
    return step.shape[2] * step.shape[3] * (layer.channels // layer.heads)


class _Look:
    """A network on the meta device, and the ways to run it and to refuse it."""

    def __init__(
        self, network: nn.Module, model: ModelSpace, shape: InputShape, *, time_steps: int, source: str
    ) -> None:
        self.network, self.model, self.shape = network, model, shape
        # The package's own networks do the same in every time step: one is enough.
        self.time_steps, self.batch = (1, 1) if model.own is None else (time_steps, batch_unlike(time_steps))
        self.source = source
        self.layers = searchable_layers(network)
        self.foreign = foreign_weights(network)

    def refuse(self, sentences: Sequence[str]) -> None:
        """Raise SpaceError if there is anything to say against the network."""
        if sentences:
            key, name = self.model.own or ("model.network", self.model.network)
            raise SpaceError(self.source, [Problem(key, f"{name}: {sentence}") for sentence in sentences])

    def run_in_training(self) -> DryRun:
        """Run the network as training does."""
        self.network.train()
        try:
            return self.run()
        finally:
            self.network.eval()

    def run(self, on_call: CallHook | None = None) -> DryRun:
        """Run the network, and check what every layer gets and what comes out.

        Raises:
            SpaceError: the network fails, or gives anything but logits.
        """

        def check(call: Call) -> None:
            if not call.inputs or not isinstance(call.inputs[0], Spikes):
                raise TypeError(f"a layer reads Spikes; got {[type(value).__name__ for value in call.inputs]}")
            for spikes in call.signals:
                _check_rows(spikes, time_steps=self.time_steps, batch=self.batch)
            if on_call is not None:
                on_call(call)

        mode = " in training" if self.network.training else ""
        try:
            run = dry_run(
                self.network,
                self.shape,
                time_steps=self.time_steps,
                batch=self.batch,
                watched=self._watched(),
                on_call=check,
            )
        except ForwardFailed as error:
            size = (self.time_steps * self.batch, self.shape.channels, self.shape.height, self.shape.width)
            where = f" in {error}" if str(error) else ""
            if self.model.own is not None:
                self.refuse([f"fails{mode} on an input of {size}{where}: {error_words(error.__cause__ or error)}"])
            raise
        expected = (self.time_steps, self.batch, self.shape.classes)
        if not isinstance(run.logits, Tensor) or tuple(run.logits.shape) != expected:
            got = tuple(run.logits.shape) if isinstance(run.logits, Tensor) else type(run.logits).__name__
            self.refuse([f"must give logits of [time, batch, classes], here {expected}{mode}; got {got}"])
        return run

    def _watched(self) -> dict[int, str]:
        """Return words for every weight whose use between layers would not be counted, by its identity."""
        found = {
            id(value): f"the {key} of {name}"
            for name, layer in self.layers.items()
            for key, value in layer.named_parameters()
        }
        for weights, parameters in self.foreign.values():
            found |= {id(parameter): str(weights) for parameter in parameters}
        return found


def _check_rows(spikes: Spikes, *, time_steps: int, batch: int) -> None:
    """Raise ValueError where a layer reads another number of time steps or samples than the network got."""
    if spikes.time_steps != time_steps:
        raise ValueError(
            f"it reads a signal of {spikes.time_steps} time steps where the network's input has {time_steps}; a layer "
            "takes all time steps at once"
        )
    if spikes.values.dim() != 4 or spikes.values.shape[0] != time_steps * batch:
        raise ValueError(
            f"it reads values of {tuple(spikes.values.shape)}; they must be [time * batch, channels, height, width], "
            f"here with {time_steps * batch} rows"
        )


def _uncounted(look: _Look, run: DryRun) -> list[str]:
    """Say what of a network's own no cost would count, or count wrongly."""
    sentences = [
        f"{name} runs {times} times in one pass, where costs count it once; make a layer of its own for each place"
        for name, times in run.calls.items()
        if times > 1
    ]
    sentences += _sharing(look.network)
    foreign = {name: str(weights) for name, (weights, _) in look.foreign.items()}
    called = {words for name, words in foreign.items() if _runs(name, look, run)}
    ordinary = sorted((run.trace.used & set(foreign.values())) | called)
    if ordinary:
        sentences.append(
            f"{first_of(ordinary, _MOST_NAMES)}: weights outside of this package's layers are neither searched nor "
            "counted, and what they make is no whole number; use SpikingConv2d, which brings its batch norm, Shortcut "
            "and Readout instead"
        )
    borrowed = sorted(run.trace.used - set(foreign.values()))
    if borrowed:
        sentences.append(
            f"uses {first_of(borrowed, _MOST_NAMES)} outside of that layer, which nothing counts; call the layer "
            "instead"
        )
    return sentences


def _runs(module: str, look: _Look, run: DryRun) -> bool:
    """Return whether a module was called, as one of its own or as a part of a layer."""
    holds_layers = any(name.startswith(f"{module}.") for name in look.layers)
    return (module in run.trace.ran and not holds_layers) or any(
        f"{module}.".startswith(f"{name}.") for name in run.calls
    )


def _sharing(network: nn.Module) -> list[str]:
    return [
        f"{layer} and {earlier} share {tensor}, which costs count twice; give each its own"
        for layer, earlier, tensor in shared_weights(network)
    ]


def _wrong_numbers(look: _Look, run: DryRun) -> list[str]:
    """Say what only shows where a network has memory: weights that share it, and signals that are no whole numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(0, Purpose.INITIAL_WEIGHTS))
        network = build(look.model, look.shape, source=look.source).eval()
    if not set(network.modules()).isdisjoint(look.network.modules()):
        return ["must make a new network at every call, as trials train networks of their own; it gave the same again"]
    return [*_sharing(network), *number_problems(network, look.shape, run.outputs, time_steps=look.time_steps)]


def _notes(look: _Look, run: DryRun, training: DryRun) -> list[str]:
    """Say what is left out of search and costs, and what is never trained."""
    idle = [name for name in look.layers if name not in run.needed]
    never = [name for name in idle if name not in run.calls and name not in training.calls]
    in_training = [name for name in idle if name not in run.calls and name in training.calls]
    without_effect = [name for name in idle if name in run.calls]
    untrained = [name for name in look.layers if name in run.needed and name not in training.calls]
    weights = [str(found) for found, _ in look.foreign.values()]
    left_out = "not searched and not counted"
    groups = (
        (never, f"never called: left in floating point, {left_out}"),
        (in_training, f"called only in training: left in floating point, {left_out}"),
        (without_effect, f"without effect on the output: left in floating point, {left_out}"),
        (untrained, "called only in evaluation: never trained"),
        (weights, f"weights that evaluation does not use: {left_out}"),
    )
    return [f"{first_of(names, _MOST_NAMES)}: {words}" for names, words in groups if names]
