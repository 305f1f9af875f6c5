"""The plan of a network of this package's layers for a description, with their weights."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Container, Sequence

from torch import Tensor

from spquant_search.importer.description import Description
from spquant_search.importer.layer_plan import LayerOfNeurons, Planner, SpikePool, Weighted
from spquant_search.importer.layer_plan import Step as OwnStep
from spquant_search.importer.library_neuron import LibraryNeuron
from spquant_search.importer.operations import Convolution, Input, Linear, Spiking
from spquant_search.importer.operations import Pool as ReadPool
from spquant_search.importer.readout_plan import Counted, LinearReadout, readout_of
from spquant_search.importer.refusals import NotImportable, Reason, Refused
from spquant_search.snn.networks.plan import (
    INPUT,
    TAKEN,
    ConvolutionLayer,
    CountLayer,
    Layer,
    NetworkPlan,
    PlannedShape,
    PoolLayer,
    PoolOfLayer,
    ReadoutLayer,
    ShortcutLayer,
    Step,
    make_layer,
)
from spquant_search.space.neuron_form import LARGEST_LEARNED_LEAK, LEAK_STEPS, NeuronForm, Reset

_RESETS: dict[str, Reset] = {"zero": "zero", "subtract": "subtract", "delayed": "delayed-subtract"}


class PlanMaker:
    """Makes the plan of a description; an input of 1 means ``unit`` in the network that was read."""

    def __init__(self, description: Description, unit: float) -> None:
        """Make it.

        Raises:
            NotImportable: this package's layers do not carry the description; all reasons are in it.
        """
        self.weights: dict[str, Tensor] = {}  # by their names in the network, in double precision
        self.neurons: dict[str, int] = {}  # the numbers of neurons in the description, by the names of their layers
        self.notes: list[str] = []
        self._description, self._unit = description, unit
        self._layers: dict[str, Layer] = {}
        self._steps: list[Step] = []
        # The names of signals; those of what is refused are never needed.
        self._signals: defaultdict[int, str] = defaultdict(lambda: INPUT)
        planner = Planner(description)
        try:
            self.end = readout_of(description)
        except Refused as refused:
            planner.steps(description.neurons)
            reason = Reason(module="", what="readout", why=refused.why, remedy=refused.remedy)
            raise NotImportable([*planner.reasons, reason]) from refused
        steps = planner.steps([self.end.source])
        reasons = [*planner.reasons, *self._add_all(steps)]
        if reasons:
            raise NotImportable(reasons)
        classes = self._add_readout(self.end)
        channels, height, width = image_shape(next(iter(description.layers.values())).shape)
        shape = PlannedShape(
            channels=channels, height=height, width=width, classes=classes, time_steps=description.steps
        )
        self.plan = NetworkPlan(shape=shape, layers=self._layers, steps=tuple(self._steps))

    def _add_all(self, steps: Sequence[OwnStep]) -> list[Reason]:
        reasons = []
        for step in steps:
            try:
                self._signals[step.number] = self._add(step)
            except (Refused, ValueError) as error:
                name = step.name if isinstance(step, LayerOfNeurons) else ""
                refused = error if isinstance(error, Refused) else Refused(str(error))
                reasons.append(Reason(module=name, what="layer", why=refused.why, remedy=refused.remedy))
        return reasons

    def _add(self, step: OwnStep) -> str:
        """Add the steps of a plan that carry one of a description's, and return the name of their signal."""
        if isinstance(step, SpikePool):
            return self._step(self._named("pool", _pool_layer(step.pool)), step.source)
        if not isinstance(step, LayerOfNeurons):
            name = self._free("sum")
            self._steps.append(
                Step(name=name, operation="add", reads=tuple(self._signals[one] for one in step.sources))
            )
            return name
        weighted, form = step.weighted, self._form(step.neurons, step.name)
        gates = not self._is_input(weighted.source) and not weighted.flattens
        layer = _convolution(weighted, form, step.pool, can_gate=gates)
        residuals = [self._shortcut(shortcut) for shortcut in step.shortcuts]
        residuals += [self._signals[number] for number in step.identities]
        name = self._named(step.name, layer)
        self._set_weights(name, weighted)
        self.neurons[name] = step.neurons
        source = self._flat(name, weighted.source) if weighted.flattens else self._signals[weighted.source]
        self._steps.append(Step(name=name, reads=(source,), residual=residuals[0] if residuals else None))
        return name

    def _flat(self, name: str, source: int) -> str:
        """Flatten what the layer of this name reads."""
        flat = self._free(f"{name}_flat")
        self._steps.append(Step(name=flat, operation="flatten", reads=(self._signals[source],)))
        return flat

    def _shortcut(self, weighted: Weighted) -> str:
        operation = weighted.operation
        assert isinstance(operation, Convolution)
        out, per_group, rows, columns = operation.weight.shape
        layer = ShortcutLayer(
            in_channels=per_group * operation.groups,
            out_channels=out,
            kernel_size=(rows, columns),
            stride=operation.stride,
            padding=operation.sides,
            groups=operation.groups,
        )
        name = self._named(self._description.layers[weighted.number].name, layer)
        self._set_weights(name, weighted)
        return self._step(name, weighted.source)

    def _step(self, name: str, source: int) -> str:
        self._steps.append(Step(name=name, reads=(self._signals[source],)))
        return name

    def _form(self, number: int, layer: str) -> NeuronForm:
        operation = self._description.layers[number].operation
        assert isinstance(operation, Spiking)
        form = own_form(operation.form)
        if operation.form.learns_leak and not form.learn_leak:
            self.notes.append(
                f"{layer}: its trained leak, {form.leak:.7g}, is kept as it is and not trained on: one that is learned "
                "lies below 1"
            )
        return form

    def _is_input(self, number: int) -> bool:
        return isinstance(self._description.layers[number].operation, Input)

    def _named(self, wanted: str, layer: Layer) -> str:
        make_layer(layer, device="meta")  # which checks its arguments
        name = self._free(wanted)
        self._layers[name] = layer
        return name

    def _free(self, wanted: str) -> str:
        return layer_name(wanted, {*self._layers, *(step.name for step in self._steps)})

    def _set_weights(self, name: str, weighted: Weighted) -> None:
        unit = self._unit if self._is_input(weighted.source) else 1.0
        operation = weighted.operation
        weight = unit * operation.weight.double()
        self.weights[f"{name}.weight"] = weight.view(*weight.shape, *[1] * (4 - weight.dim()))
        if operation.bias is not None:
            self.weights[f"{name}.bias"] = operation.bias.double()
        else:
            self.weights[f"{name}.bias"] = weight.new_zeros(len(weight))

    def _add_readout(self, end: Counted | LinearReadout) -> int:
        """Add the readout, and return the number of classes."""
        if isinstance(end, Counted):
            self._step(self._named("counts", CountLayer(classes=end.classes, votes=end.votes)), end.source)
            return end.classes
        shape, classes = self._description.layers[end.source].shape, len(end.weight)
        layer = ReadoutLayer(
            in_channels=shape[0],
            positions=math.prod(shape[1:]),
            classes=classes,
            membrane=end.membrane,
            leak=None if end.membrane is None else end.leak,
        )
        name = self._named(end.name, layer)
        if end.learns_leak:
            self.notes.append(f"{end.name}: the trained leak of its membranes, {end.leak:.7g}, is not trained on")
        unit = self._unit if self._is_input(end.source) else 1.0
        self.weights |= {f"{name}.linear.weight": unit * end.weight, f"{name}.linear.bias": end.bias}
        # Neurons of a vector may be made of a map.
        source = self._flat(name, end.source) if len(shape) == 1 else self._signals[end.source]
        self._steps.append(Step(name=name, reads=(source,)))
        return classes


def image_shape(features: Sequence[int]) -> tuple[int, int, int]:
    """Return the channels, height and width of features: those of one dimension have height 1."""
    channels, *pixels = features
    height, width = [1] * (2 - len(pixels)) + list(pixels)
    return channels, height, width


def layer_name(wanted: str, taken: Container[str]) -> str:
    """Return a free name for a layer: without dots, and none that a space file reads otherwise."""
    name = re.sub(r"\W", "_", wanted)[:100] or "layer"
    name = f"layer_{name}" if name in TAKEN or name[0].isdigit() else name
    number, unique = 1, name
    while unique in taken or unique in TAKEN:
        number += 1
        unique = f"{name}_{number}"
    return unique


def own_form(neuron: LibraryNeuron) -> NeuronForm:
    """Return the form of this package's neurons for one that counts its potentials in thresholds.

    Raises:
        Refused: these neurons have no such form.
    """
    if isinstance(neuron.leak, tuple):
        raise Refused("a leak for each channel has no form in this package's layers", "one for the layer has")
    if not 1 / LEAK_STEPS <= neuron.leak <= 1:
        raise Refused(f"a leak of {neuron.leak:.3g} has no form in this package's layers: 1/4096 to 1 has one")
    if neuron.start:
        raise Refused("neurons that do not start at rest have no form in this package's layers")
    if neuron.threshold != 1.0:
        raise Refused("neurons that never spike are read, and no readout is behind them")
    reset = _RESETS.get(neuron.reset)
    if reset is not None:
        learns = neuron.learns_leak and neuron.leak <= LARGEST_LEARNED_LEAK
        return NeuronForm(leak=neuron.leak, learn_leak=learns, reset=reset, spike_at_threshold=not neuron.strict)
    remedy = "leave reset_delay as it is, or reset to zero" if neuron.reset == "guarded" else "let them reset"
    what = {"guarded": "snnTorch's subtraction with reset_delay=False", "none": "neurons without a reset"}
    raise Refused(f"{what[neuron.reset]} has no form in this package's layers", remedy)


def _convolution(weighted: Weighted, form: NeuronForm, behind: ReadPool | None, *, can_gate: bool) -> ConvolutionLayer:
    operation = weighted.operation
    if isinstance(operation, Linear):
        if weighted.pool is not None or behind is not None:
            raise Refused("a linear layer that is pooled has no form")
        rows, columns = operation.weight.shape
        return ConvolutionLayer(in_channels=columns, out_channels=rows, kernel_size=(1, 1), can_gate=False, neuron=form)
    pool = None
    if weighted.pool is not None:
        pool = _pool_of_layer("max-before" if weighted.pool.kind == "max" else "before", weighted.pool)
        if weighted.pool.kind == "average" and weighted.pool.padding != (0, 0) and operation.bias is not None:
            raise Refused("currents with a bias are averaged over padding", "pool behind the neurons, or without")
    elif behind is not None:
        pool = _pool_of_layer("max" if behind.kind == "max" else "after", behind)
    out, per_group, rows, columns = operation.weight.shape
    return ConvolutionLayer(
        in_channels=per_group * operation.groups,
        out_channels=out,
        kernel_size=(rows, columns),
        stride=operation.stride,
        padding=operation.sides,
        groups=operation.groups,
        pool=pool,
        can_gate=can_gate,
        neuron=form,
    )


def _pool_of_layer(kind: str, pool: ReadPool) -> PoolOfLayer:
    return PoolOfLayer(kind=kind, kernel_size=pool.kernel, stride=pool.stride, padding=pool.padding)  # type: ignore[arg-type]


def _pool_layer(pool: ReadPool) -> PoolLayer:
    kind = "MaxPool2d" if pool.kind == "max" else "AvgPool2d"
    return PoolLayer(kind=kind, kernel_size=pool.kernel, stride=pool.stride, padding=pool.padding)  # type: ignore[arg-type]
