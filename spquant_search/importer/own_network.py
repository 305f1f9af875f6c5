"""A network of this package's layers with the weights of an imported one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spquant_search.importer.description import Description
from spquant_search.importer.layer_plan import LayerOfNeurons, Planner, SpikePool, Step, Weighted
from spquant_search.importer.library_neuron import LibraryNeuron
from spquant_search.importer.operations import Convolution, Input, Linear, Spiking
from spquant_search.importer.operations import Pool as ReadPool
from spquant_search.importer.proof import Proof
from spquant_search.importer.readout_plan import Counted, LinearReadout, readout_of
from spquant_search.importer.refusals import NotImportable, Reason, Refused
from spquant_search.snn import (
    AvgPool2d,
    CountReadout,
    Flatten,
    MaxPool2d,
    NeuronForm,
    Pool,
    Readout,
    Shortcut,
    Spikes,
    SpikingConv2d,
    added,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One step of a network: a layer that is called, or, without one, two signals that are added."""

    number: int
    sources: tuple[int, ...]
    layer: str | None = None
    flattens: bool = False
    shortcuts: tuple[tuple[str, int], ...] = ()  # layers and what they read
    identities: tuple[int, ...] = ()


class ImportedNetwork(nn.Module):
    """This package's layers with the weights of another library's network: whole numbers in, logits out."""

    def __init__(self, description: Description, unit: float) -> None:
        """Make the layers that carry a description; an input of 1 means ``unit`` in the network that was read.

        Raises:
            NotImportable: these layers do not carry it; all reasons are in it.
        """
        super().__init__()
        self.neurons: dict[str, int] = {}  # the numbers of neurons in the description, by the names of their layers
        self.proofs: Mapping[str, Proof] = {}  # of what was read, on each example
        self.notes: tuple[str, ...] = ()  # what a person must know of it
        self._description, self._unit = description, unit
        self._calls: list[_Call] = []
        planner = Planner(description)
        try:
            self.end = readout_of(description)
        except Refused as refused:
            reason = Reason(module="", what="readout", why=refused.why, remedy=refused.remedy)
            raise NotImportable([*_reasons_without_readout(planner), reason]) from refused
        self.flatten = Flatten()
        steps = planner.steps([self.end.source])
        reasons = [*planner.reasons, *self._add(steps)]
        if reasons:
            raise NotImportable(reasons)
        self._add_readout(self.end)

    def forward(self, spikes: Spikes) -> Tensor:
        values = {next(iter(self._description.layers)): spikes}
        for call in self._calls:
            values[call.number] = self._run(call, values)
        source = values[self.end.source]
        if isinstance(self.end, LinearReadout) and len(self._description.layers[self.end.source].shape) == 1:
            source = self.flatten(source)
        logits: Tensor = self.get_submodule(self._readout_name)(source)
        return logits

    def _run(self, call: _Call, values: dict[int, Spikes]) -> Spikes:
        sources = [values[source] for source in call.sources]
        if call.layer is None:
            return added(*sources)
        given = self.flatten(sources[0]) if call.flattens else sources[0]
        currents = [self.get_submodule(name)(values[source]) for name, source in call.shortcuts]
        currents += [values[source].current() for source in call.identities]
        layer = self.get_submodule(call.layer)
        made: Spikes = layer(given, residual=currents[0]) if currents else layer(given)
        return made

    def _add(self, steps: Sequence[Step]) -> list[Reason]:
        reasons = []
        for step in steps:
            try:
                self._calls.append(self._call(step))
            except (Refused, ValueError) as error:
                name = step.name if isinstance(step, LayerOfNeurons) else ""
                refused = error if isinstance(error, Refused) else Refused(str(error))
                reasons.append(Reason(module=name, what="layer", why=refused.why, remedy=refused.remedy))
        return reasons

    def _call(self, step: Step) -> _Call:
        if isinstance(step, SpikePool):
            pool = MaxPool2d if step.pool.kind == "max" else AvgPool2d
            made = pool(step.pool.kernel, step.pool.stride, step.pool.padding)
            return _Call(number=step.number, sources=(step.source,), layer=self._named("pool", made))
        if not isinstance(step, LayerOfNeurons):
            return _Call(number=step.number, sources=step.sources)
        weighted, form = step.weighted, self._form(step.neurons)
        gates = not self._is_input(weighted.source) and not weighted.flattens
        layer = _layer(weighted, form, step.pool, can_gate=gates)
        self._set_weights(layer, weighted)
        shortcuts = []
        for shortcut in step.shortcuts:
            short = _shortcut(shortcut)
            self._set_weights(short, shortcut)
            name = self._description.layers[shortcut.number].name
            shortcuts.append((self._named(name, short), shortcut.source))
        name = self._named(step.name, layer)
        self.neurons[name] = step.neurons
        return _Call(
            number=step.number,
            sources=(weighted.source,),
            layer=name,
            flattens=weighted.flattens,
            shortcuts=tuple(shortcuts),
            identities=step.identities,
        )

    def _form(self, number: int) -> NeuronForm:
        operation = self._description.layers[number].operation
        assert isinstance(operation, Spiking)
        return own_form(operation.form)

    def _is_input(self, number: int) -> bool:
        return isinstance(self._description.layers[number].operation, Input)

    def _named(self, wanted: str, module: nn.Module) -> str:
        name = layer_name(wanted, self)
        self.add_module(name, module)
        return name

    @torch.no_grad()
    def _set_weights(self, layer: SpikingConv2d | Shortcut, weighted: Weighted) -> None:
        unit = self._unit if self._is_input(weighted.source) else 1.0
        operation = weighted.operation
        layer.weight.copy_((unit * operation.weight.double()).view(layer.weight.shape))
        assert layer.bias is not None
        if operation.bias is not None:
            layer.bias.copy_(operation.bias)

    @torch.no_grad()
    def _add_readout(self, end: Counted | LinearReadout) -> None:
        if isinstance(end, Counted):
            self._readout_name = self._named("counts", CountReadout(end.classes, votes=end.votes))
            return
        shape = self._description.layers[end.source].shape
        leak = None if end.membrane is None else end.leak
        readout = Readout(shape[0], _pixels(shape), len(end.weight), membrane=end.membrane, leak=leak)
        unit = self._unit if self._is_input(end.source) else 1.0
        readout.linear.weight.copy_(unit * end.weight)
        readout.linear.bias.copy_(end.bias)
        self._readout_name = self._named(end.name, readout)


def _reasons_without_readout(planner: Planner) -> list[Reason]:
    planner.steps(planner.description.neurons)
    return planner.reasons


def _pixels(shape: Sequence[int]) -> int:
    pixels = 1
    for size in shape[1:]:
        pixels *= size
    return pixels


def layer_name(wanted: str, network: nn.Module) -> str:
    """Return a free name for a layer: without dots, and none that a space file reads otherwise."""
    name = wanted.replace(".", "_") or "layer"
    name = f"layer_{name}" if name == "all" or name[0].isdigit() else name
    number, unique = 1, name
    while hasattr(network, unique):
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
    if not 1 / 4096 <= neuron.leak <= 1:
        raise Refused(f"a leak of {neuron.leak:.3g} has no form in this package's layers: 1/4096 to 1 has one")
    if neuron.start:
        raise Refused("neurons that do not start at rest have no form in this package's layers")
    if neuron.threshold != 1.0:
        raise Refused("neurons that never spike are read, and no readout is behind them")
    if neuron.reset == "zero":
        return NeuronForm(leak=neuron.leak, reset="zero", spike_at_threshold=not neuron.strict)
    if neuron.reset == "subtract":
        return NeuronForm(leak=neuron.leak, reset="subtract", spike_at_threshold=not neuron.strict)
    if neuron.reset == "delayed":
        return NeuronForm(leak=neuron.leak, reset="delayed-subtract", spike_at_threshold=not neuron.strict)
    remedy = "leave reset_delay as it is, or reset to zero" if neuron.reset == "guarded" else "let them reset"
    what = {"guarded": "snnTorch's subtraction with reset_delay=False", "none": "neurons without a reset"}
    raise Refused(f"{what[neuron.reset]} has no form in this package's layers", remedy)


def _layer(weighted: Weighted, form: NeuronForm, behind: ReadPool | None, *, can_gate: bool) -> SpikingConv2d:
    operation = weighted.operation
    if isinstance(operation, Linear):
        if weighted.pool is not None or behind is not None:
            raise Refused("a linear layer that is pooled has no form")
        rows, columns = operation.weight.shape
        return SpikingConv2d(columns, rows, kernel_size=1, can_gate=False, norm=False, neuron=form)
    pool = None
    if weighted.pool is not None:
        pool = _own_pool("max-before" if weighted.pool.kind == "max" else "before", weighted.pool)
        if weighted.pool.kind == "average" and weighted.pool.padding != (0, 0) and operation.bias is not None:
            raise Refused("currents with a bias are averaged over padding", "pool behind the neurons, or without")
    elif behind is not None:
        pool = _own_pool("max" if behind.kind == "max" else "after", behind)
    out, per_group, rows, columns = operation.weight.shape
    return SpikingConv2d(
        per_group * operation.groups,
        out,
        kernel_size=(rows, columns),
        stride=operation.stride,
        padding=operation.sides,
        groups=operation.groups,
        pool=pool,
        can_gate=can_gate,
        norm=False,
        neuron=form,
    )


def _own_pool(kind: str, pool: ReadPool) -> Pool:
    return Pool(kind, pool.kernel, pool.stride, pool.padding)  # type: ignore[arg-type]


def _shortcut(weighted: Weighted) -> Shortcut:
    operation = weighted.operation
    assert isinstance(operation, Convolution)
    out, per_group, rows, columns = operation.weight.shape
    return Shortcut(
        per_group * operation.groups,
        out,
        kernel_size=(rows, columns),
        stride=operation.stride,
        padding=operation.sides,
        groups=operation.groups,
        norm=False,
    )
