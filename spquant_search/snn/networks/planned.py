"""A network whose structure is data: layers of this package, called as a plan says."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from spquant_search.errors import Problem, SpaceError, UserError
from spquant_search.snn.between import Flatten
from spquant_search.snn.networks.plan import INPUT, NetworkPlan, PlannedShape, Step, make_layer, read_plan
from spquant_search.snn.spikes import Spikes, added
from spquant_search.space.shapes import InputShape

KEY = "model.layers"


class PlannedNetwork(nn.Module):
    """Layers of this package by their names, called in the order of a plan: whole numbers in, logits out."""

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__()
        self.plan = plan
        for name, layer in plan.layers.items():
            self.add_module(name, make_layer(layer))
        self._flatten = Flatten()
        last = {source: step.name for step in plan.steps for source in step.sources}
        self._done = {step.name: [name for name, reader in last.items() if reader == step.name] for step in plan.steps}

    def forward(self, spikes: Spikes) -> Tensor:
        values: dict[str, Spikes | Tensor] = {INPUT: spikes.repeated()}
        result: Spikes | Tensor = spikes
        for step in self.plan.steps:
            result = values[step.name] = self._run(step, values)
            for name in self._done[step.name]:  # what nothing reads any more need not lie in memory
                del values[name]
        assert isinstance(result, Tensor)
        return result

    def _run(self, step: Step, values: dict[str, Spikes | Tensor]) -> Spikes | Tensor:
        read = [value for name in step.reads if isinstance(value := values[name], Spikes)]
        if step.operation == "add":
            return added(*read)
        if step.operation == "flatten":
            flat: Spikes = self._flatten(read[0])
            return flat
        layer = self.get_submodule(step.name)
        if step.residual is None:
            result: Spikes | Tensor = layer(read[0])
            return result
        residual = values[step.residual]
        summed: Spikes = layer(read[0], residual=residual.current() if isinstance(residual, Spikes) else residual)
        return summed


def build_planned(path: str, shape: InputShape, *, source: str) -> nn.Module:
    """Make the network whose structure is in the file at ``path``, for inputs of this shape.

    Raises:
        SpaceError: the file cannot be read or is damaged, or the network is one for other inputs.
    """
    plan = plan_of(path, source=source)
    if (unfit := unfit_input(plan, shape)) is not None:
        raise SpaceError(source, [Problem(KEY, f"{path}: {unfit}")])
    return PlannedNetwork(plan)


def plan_of(path: str, *, source: str) -> NetworkPlan:
    """Read a plan that a space names.

    Raises:
        SpaceError: the file cannot be read or is damaged.
    """
    try:
        return read_plan(Path(path))
    except UserError as error:
        raise SpaceError(source, [Problem(KEY, line) for line in str(error).splitlines()]) from None


def unfit_input(
    plan: NetworkPlan, given: InputShape, *, time_steps: int | None = None, still: bool = False
) -> str | None:
    """Say what a network takes and what the data have, where they differ; without ``time_steps`` not of these.

    ``still``: the data are images. A network of frames takes them, the same in every time step.
    """
    own, theirs, remedies = _words(plan.shape), _words(given), []
    if own != theirs:
        remedies.append("give an example like the data, or data of its size (data.size, data.channels)")
    if time_steps is not None:
        if time_steps != plan.shape.time_steps:
            remedies.append(f"set time_steps to {plan.shape.time_steps}, or give an example of {time_steps}")
        if plan.shape.still and not still:
            remedies.append("give an example with a time axis")
        own += f", in {plan.shape.time_steps} time steps{' of one image' if plan.shape.still else ''}"
        theirs += f", in {time_steps} time steps{' of one image' if still else ''}"
    return f"the network takes {own}; the data have {theirs}; {' and '.join(remedies)}" if remedies else None


def _words(shape: InputShape | PlannedShape) -> str:
    return f"{shape.channels} channels of {shape.height}x{shape.width} and {shape.classes} classes"
