"""A call of a torch function while a network is recorded, as the functions see it that know what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from spquant_search.importer.axes import Axis, Dimensions, Kind, feature_dimensions, lead_of
from spquant_search.importer.graph import Followed, Graph, Node, Time
from spquant_search.importer.operations import Operation
from spquant_search.importer.refusals import Refused


@dataclass(slots=True)
class Clock:
    """How many time steps a network runs, once it is known."""

    steps: int | None = None

    def set(self, steps: int) -> None:
        """Note the number of steps.

        Raises:
            Refused: it was another before.
        """
        if self.steps not in (None, steps):
            raise Refused(f"joins {steps} of {self.steps} time steps")
        self.steps = steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Where a function was called, and what came out."""

    graph: Graph
    clock: Clock
    module: str  # the qualified name of the module whose code called it
    output: Tensor  # the first one

    def emit(
        self,
        operation: Operation,
        *sources: Followed,
        seen: Sequence[tuple[int, ...]] | None = None,
        shape: Sequence[int] | None = None,
        dimensions: Dimensions | None = None,
    ) -> Followed:
        """Add an operation and follow what it makes.

        ``seen`` are the shapes of its inputs' features, ``shape`` that of its output's; where they are not given they
        are those of the tensors. ``dimensions`` are the output's.
        """
        widest = max(sources, key=lambda source: (source.time == "all", len(source.dimensions)))
        if shape is None:
            shape = self.output.shape[lead_of(widest.dimensions) :]
        seen = tuple(source.features for source in sources) if seen is None else tuple(seen)
        inputs = tuple(source.node for source in sources)
        node = Node(operation=operation, inputs=inputs, seen=seen, shape=tuple(shape), name=self.module)
        if dimensions is None:
            dimensions = widest.dimensions[: lead_of(widest.dimensions)] + feature_dimensions(shape)
        return Followed(self.graph.add(node), joined_time(sources), dimensions)

    def over_all_steps(self, followed: Followed, dimension: int, steps: int) -> Followed:
        """Follow a tensor of one step as one of all steps, whose time is a dimension of its own."""
        self.clock.set(steps)
        dimensions = list(followed.dimensions)
        dimensions.insert(dimension, (Axis(Kind.TIME, steps),))
        return replace(followed, time="all", dimensions=tuple(dimensions))


def joined_time(sources: Sequence[Followed]) -> Time:
    """Return the time of what is made of several signals.

    Raises:
        Refused: they belong to different steps.
    """
    times = {source.time for source in sources} - {"still"}
    if len(times) > 1:
        steps = ", ".join(sorted(str(time) for time in times))
        raise Refused(
            f"joins signals of different time steps ({steps})",
            "only neurons of SpikingJelly and snnTorch may keep something from one step to the next",
        )
    return times.pop() if times else "still"
