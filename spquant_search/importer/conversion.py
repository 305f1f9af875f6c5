"""Make a network of this package's layers of one of SpikingJelly, snnTorch or NIR, and prove that it does the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from spquant_search.importer.network_plan import image_shape
from spquant_search.importer.nir_nodes import NirReset
from spquant_search.importer.nir_reading import Reads, read_nir
from spquant_search.importer.operations import Softmax
from spquant_search.importer.origin import origin_of, origin_of_graph, printable
from spquant_search.importer.own_network import ImportedNetwork
from spquant_search.importer.proof import OUTPUT_WITHIN, TIES_WITHIN
from spquant_search.importer.reading import ReadNetwork, read_network
from spquant_search.importer.readout_plan import Counted
from spquant_search.importer.recording import Recording, Run
from spquant_search.importer.refusals import NotImportable, Reason
from spquant_search.snn import Spikes, SpikingConv2d
from spquant_search.snn.kernels.compile import uncompiled
from spquant_search.snn.networks.plan import Origin

BYTE = 255


def from_torch(
    network: nn.Module,
    example: Tensor,
    *,
    axes: str | None = None,
    run: Run | None = None,
    output: int = 0,
    second: Tensor | None = None,
    unit: float | None = None,
) -> ImportedNetwork:
    """Return a network of this package's layers that does what ``network`` does, with its weights.

    The arguments are those of :func:`read_network`. What goes into the network that is made are whole numbers, as bytes
    of an image or counts of events, which ``network`` got times ``unit``: 1 where it is not given and the example has
    whole numbers, 1/255 where it has those of an image. Its spikes are held against the original's on both examples.

    Raises:
        NotImportable: a part of it has no form, here or in this package's layers; all reasons are in it.
    """
    read = read_network(network, example, axes=axes, run=run, output=output, second=second)
    return _converted(read, example, unit, origin_of(network))


def from_nir(
    graph: Any,
    example: Tensor,
    *,
    dt: float = 1e-4,
    reset: NirReset = "zero",
    strict: bool = True,
    reads: Reads = "steps",
    unit: float | None = None,
) -> ImportedNetwork:
    """Return a network of this package's layers that does what a NIR graph says, with its weights.

    ``graph`` is a ``nir.NIRGraph``, or the path of a file with one. The other arguments are those of :func:`read_nir`
    and, ``unit``, of :func:`from_torch`. Its spikes are held against the graph's, worked out in double precision by the
    equations of its nodes, on the example and on a second one.

    Raises:
        NotImportable: a node has no form, here or in this package's layers; all reasons are in it.
        UserError: a file, an argument or the package nir is not as it should be.
    """
    read = read_nir(graph, example, dt=dt, reset=reset, strict=strict, reads=reads)
    return _converted(read, example, unit, origin_of_graph(read.description))


def _converted(read: ReadNetwork, example: Tensor, unit: float | None, origin: Origin) -> ImportedNetwork:
    unit = _unit(example) if unit is None else unit
    made = ImportedNetwork(read.description, unit)
    made.eval()
    reasons = [
        reason
        for name, recording in read.recordings.items()
        for reason in _differences(made, recording, read, name, unit)
    ]
    if reasons:
        raise NotImportable(reasons)
    made.proofs, made.notes = read.proofs, (*read.notes, *made.notes)
    shown = next(iter(read.recordings.values()))
    made.plan = replace(
        made.plan,
        shape=replace(made.plan.shape, still=len(shown.values(0)) < shown.steps),
        origin=replace(origin, unit=unit, notes=printable(made.notes)),
    )
    return made


def _unit(example: Tensor) -> float:
    for unit in (1.0, 1 / BYTE):
        whole = example.double() / unit
        if bool((whole >= 0).all()) and bool(((whole - whole.round()).abs() < 1e-4).all()):
            return unit
    why = "its values are neither whole numbers from 0 on nor such by 255, and a device computes with whole numbers"
    remedy = (
        "give an example as the data is, bytes or counts, and normalize it in the network; or unit=, what 1 of it is"
    )
    raise NotImportable([Reason(module="", what="example", why=why, remedy=remedy)])


def _differences(
    made: ImportedNetwork, recording: Recording, read: ReadNetwork, example: str, unit: float
) -> list[Reason]:
    """Return where the made network differs, each layer being given the spikes of the original."""
    description, x = read.description, recording.values(0)
    truth = {number: recording.values(number) for number in description.neurons}
    margins = description.run(x.double(), truth).fired
    spikes: dict[str, Tensor] = {}
    parts = {name: _computed(made, name, truth[number]) for name, number in made.neurons.items()}
    hooks = [_forced(made, name, part, spikes) for name, part in parts.items()]
    try:
        with torch.no_grad(), uncompiled():
            logits = made(_whole(x, unit, recording.steps))
    finally:
        for hook in hooks:
            hook.remove()
    reasons = []
    for name, number in made.neurons.items():
        apart = spikes[name] != parts[name].float()
        first = apart & (apart.cumsum(0) == 1)
        if bool((_computed(made, name, margins[number].margins).abs()[first] > TIES_WITHIN).any()):
            step = int(first.flatten(1).any(1).float().argmax()) + 1
            why = f"the layer made of it spikes otherwise on {example}, from time step {step} on"
            reasons.append(Reason(module=description.layers[number].name, what=name, why=why))
    gap = _output_gap(made, recording, logits)
    if not reasons and gap > OUTPUT_WITHIN:
        why = f"differs by {gap:.2g} of its largest value on {example}, and no layer does"
        reasons.append(Reason(module="", what="output", why=why))
    return reasons


def _whole(x: Tensor, unit: float, steps: int) -> Spikes:
    """Return an input [time or 1, batch, *features] as whole numbers of its unit."""
    values = (x.double() / unit).round().float().reshape(-1, *image_shape(x.shape[2:]))
    largest = max(1, int(values.max()))
    spikes = Spikes(values=values, time_steps=steps, largest=largest, constant=len(x) < steps)
    return spikes.repeated() if spikes.constant else spikes


def _computed(made: ImportedNetwork, name: str, values: Tensor) -> Tensor:
    """Leave out the rows and columns that no pool behind the neurons takes in: there, a layer has no neurons."""
    layer = made.get_submodule(name)
    assert isinstance(layer, SpikingConv2d)
    if layer.pool is None or layer.pool.is_before:
        return values
    window = layer.pool.window
    height, width = values.shape[-2:]
    rows, columns = window.size_on(height, width)
    return values[..., : window.rows.reach(rows, height), : window.columns.reach(columns, width)]


def _forced(made: ImportedNetwork, name: str, truth: Tensor, seen: dict[str, Tensor]) -> RemovableHandle:
    """Keep a layer's spikes, and hand on the original's in their place."""
    layer = made.get_submodule(name)

    def replace(module: nn.Module, given: object, spikes: Tensor) -> Tensor:
        del module, given  # spikes: [time, batch, positions, groups, channels]
        steps, batch = spikes.shape[:2]
        seen[name] = spikes.permute(0, 1, 3, 4, 2).reshape(steps, batch, *truth.shape[2:]).float()
        by_channel = truth.reshape(steps, batch, spikes.shape[3], spikes.shape[4], spikes.shape[2])
        return by_channel.permute(0, 1, 4, 2, 3).to(spikes)

    handle: RemovableHandle = layer.neuron.spikes.register_forward_hook(replace)  # type: ignore[union-attr]
    return handle


def _output_gap(made: ImportedNetwork, recording: Recording, logits: Tensor) -> float:
    """Return how far the output is from the original's, relative to the largest."""
    factor = made.end.factor if isinstance(made.end, Counted) else 1.0
    own = factor * logits.double() + made.end.offset
    own = own.mean(0) if recording.reads == "once" else own[-1] if recording.reads == "last" else own
    operation = recording.graph.nodes[recording.output].operation
    own = operation.run(own) if isinstance(operation, Softmax) else own
    theirs = recording.logits.double().reshape(own.shape)
    return float((own - theirs).abs().max() / theirs.abs().max().clamp(min=1e-9))
