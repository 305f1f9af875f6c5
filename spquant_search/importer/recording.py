"""Run a network once on an example, and keep its graph and what its neurons did; the network is left as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spquant_search.importer.axes import Axis, Dimensions, Kind, feature_dimensions
from spquant_search.importer.calls import Clock
from spquant_search.importer.graph import Followed, Graph, Time
from spquant_search.importer.operations import OverTime, Softmax, Spiking
from spquant_search.importer.recorder import Recorder
from spquant_search.importer.refusals import NotImportable, Reason
from spquant_search.importer.untouched import untouched
from spquant_search.space.user_functions import failure

# The output keeps its time steps, is that of the last one, or has no time.
Reads = Literal["steps", "last", "once"]
Run = Callable[[nn.Module, Tensor], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A network's graph on an example, with the values that its input, its neurons and its output had."""

    graph: Graph
    output: int
    steps: int
    reads: Reads
    logits: Tensor  # [time where it has it, batch, classes]
    time: Time  # of the output
    read_out: tuple[Reason, ...]

    def values(self, node: int) -> Tensor:
        """Return what the input or neurons gave, [time, batch, *features]; a still input has one time step."""
        return _of_all_steps(self.graph.recorded[node].values, self.steps)

    def membranes(self, node: int) -> Tensor | None:
        """Return the membranes that neurons showed, [time, batch, *features]; None where the library showed none."""
        kept = self.graph.recorded[node].membranes
        return _of_all_steps(kept, self.steps) if kept else None


def _of_all_steps(values: dict[Time, Tensor], steps: int) -> Tensor:
    if "all" in values:
        return values["all"]
    return values["still"][None] if "still" in values else torch.stack([values[step] for step in range(steps)])


def record(network: nn.Module, example: Tensor, axes: str, run: Run | None = None, output: int = 0) -> Recording:
    """Run ``network``, or ``run(network, example)``, on an example whose ``axes`` are named, as in "TBCHW" or "BCHW".

    Raises:
        NotImportable: a part of it has no form; all reasons are in it.
    """
    example = example.detach().clone()  # which the network may change
    clock, features = Clock(), list(_ordered_features(example, axes).values())
    if "T" in axes:
        clock.set(example.shape[axes.index("T")])
    with untouched(network):
        recorder = Recorder(network, clock)
        start = Followed(0, "all" if "T" in axes else "still", _input_dimensions(example, axes))
        try:
            recorder.start(example, start, features)
            made = _run(network, example, run, recorder)
        finally:
            recorder.remove_hooks()
        made = _chosen(made, output)
        return _finished(recorder, made)


def _run(network: nn.Module, example: Tensor, run: Run | None, recorder: Recorder) -> Any:
    try:
        with torch.no_grad(), recorder:
            return network(example) if run is None else run(network, example)
    except Exception as error:
        why = f"it does not run on the example {list(example.shape)}: {failure(error)}"
        remedy = "give an example as it is called with, or run=, a function that calls it"
        where = recorder.where
        what = type(network.get_submodule(where) if where in dict(network.named_modules()) else network).__name__
        raise NotImportable([Reason(module=where, what=what, why=why, remedy=remedy)]) from error


def _chosen(made: Any, output: int) -> Any:
    if not isinstance(made, (tuple, list)):
        return made
    if not -len(made) <= output < len(made):
        why = f"output={output} is none of the {len(made)} that the network returns"
        raise NotImportable([Reason(module="", what="output", why=why, remedy="give one from 0 on")])
    return made[output]


def _ordered_features(example: Tensor, axes: str) -> dict[str, int]:
    """Return the sizes of the features' axes by their letters: channels first, wherever they stand in the example."""
    sizes = {axis: size for axis, size in zip(axes, example.shape, strict=True) if axis not in "TB"}
    return {axis: sizes[axis] for axis in sorted(sizes, key=lambda axis: axis != "C")}


def _input_dimensions(example: Tensor, axes: str) -> Dimensions:
    features = _ordered_features(example, axes)
    followed = dict(zip(features, feature_dimensions(list(features.values())), strict=True))
    kinds = {"T": Kind.TIME, "B": Kind.BATCH}
    return tuple(
        (Axis(kinds[axis], size),) if axis in kinds else followed[axis]
        for axis, size in zip(axes, example.shape, strict=True)
    )


def _finished(recorder: Recorder, made: Any) -> Recording:
    graph, reasons = recorder.graph, list(recorder.reasons)
    followed = recorder.followed(made)
    if followed is None:
        kind = type(made).__name__
        why = "is not followed from the input" if isinstance(made, Tensor) else f"is no tensor but a {kind}"
        raise NotImportable([*reasons, *recorder.read_out, Reason(module="", what="output", why=why)])
    reached = graph.reached_from(followed.node)
    if any(graph.is_opaque(number) for number in reached):
        raise NotImportable(reasons)
    steps = recorder.clock.steps or max(recorder.calls.values(), default=0)
    reasons = [*_time_reasons(graph, reached, steps), *_output_reasons(graph, reached, followed, steps)]
    if reasons:
        raise NotImportable(reasons)
    reads: Reads = "steps" if followed.time == "all" else "once" if followed.time == "still" else "last"
    return Recording(
        graph=graph,
        output=followed.node,
        steps=steps,
        reads=reads,
        logits=graph.in_order(followed, made),
        time=followed.time,
        read_out=tuple(recorder.read_out),
    )


def _time_reasons(graph: Graph, reached: Sequence[int], steps: int) -> list[Reason]:
    """Return where not all time steps are the same."""
    reasons, every = [], set(range(steps))
    for number in reached:
        node, times = graph.nodes[number], graph.recorded[number].times
        single = {time for time in times if isinstance(time, int)}
        if isinstance(node.operation, Spiking) and "all" not in times and single != every:
            why = f"it runs on this input in {len(single)} of {steps} time steps: not all time steps do the same"
            reasons.append(Reason(module=node.name, what="neuron", why=why))
        if isinstance(node.operation, OverTime) and node.operation.kind == "sum" and node.operation.steps != every:
            why = f"it is over {len(node.operation.steps)} of {steps} time steps"
            reasons.append(Reason(module=node.name, what="a sum over time", why=why))
    return reasons


def _output_reasons(graph: Graph, reached: Sequence[int], output: Followed, steps: int) -> list[Reason]:
    reasons = [
        Reason(module=graph.nodes[number].name, what="softmax", why="it is within the network: attention")
        for number in reached
        if isinstance(graph.nodes[number].operation, Softmax) and number != output.node
    ]
    if isinstance(output.time, int) and output.time != steps - 1:
        why = f"is that of time step {output.time + 1} of {steps}"
        reasons.append(Reason(module="", what="output", why=why, remedy="read the last step, all, or their sum"))
    if steps < 2:
        why = "no neuron of SpikingJelly or snnTorch ran for two time steps or more"
        reasons.append(Reason(module="", what="time", why=why, remedy="give an example of several time steps"))
    return reasons
