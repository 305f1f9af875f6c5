"""Find how a network's layers are connected, by running it once.

A network's forward may be any Python code. To write it down for a device, it must be known which layer's output goes
into which layer. While a :func:`traced` network runs, every layer and every operation between layers that this package
offers (the global average, the sum of two signals, the identity shortcut) reports the tensors that go in and come out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

Operation = Literal["input", "layer", "average", "sum", "identity"]


class Untraceable(Exception):
    """A tensor went into a layer that no layer and no operation of this package made."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a layer or an operation; ``inputs`` are the numbers of the steps whose outputs went in."""

    operation: Operation
    name: str  # of the layer; or of the operation between layers, "input", "average1", "sum2"
    inputs: tuple[int, ...]
    shape: tuple[int, ...]  # of the output, [time * batch, channels, height, width]; logits [time, batch, classes]


@dataclass(slots=True)
class Trace:
    """All calls in the order in which they happened; the first is the network's input."""

    steps: list[Step] = field(default_factory=list)
    _made_by: dict[int, int] = field(default_factory=dict)
    _alive: list[Tensor] = field(default_factory=list)  # a freed tensor's identity could be given to another

    def add(self, operation: Operation, inputs: Sequence[Tensor], output: Tensor, name: str | None = None) -> None:
        """Add a call as the next step."""
        if id(output) in self._made_by:  # the input itself, unchanged
            return
        if name is None:
            name = f"{operation}{sum(step.operation == operation for step in self.steps) + 1}"
        self.steps.append(
            Step(operation, name, tuple(self.maker(tensor, name) for tensor in inputs), tuple(output.shape))
        )
        self._made_by[id(output)] = len(self.steps) - 1
        self._alive.append(output)

    def maker(self, tensor: Tensor, reader: str) -> int:
        """Return the number of the step that made a tensor, which ``reader`` reads.

        Raises:
            Untraceable: no step made it.
        """
        made_by = self._made_by.get(id(tensor))
        if made_by is None:
            raise Untraceable(
                f"what {reader} reads was made by something other than layers, global_average, added and "
                "Spikes.current, which alone have a form in integers"
            )
        return made_by


_active: ContextVar[Trace | None] = ContextVar("trace", default=None)


@contextmanager
def traced() -> Iterator[Trace]:
    """Have operations report to a trace in this context."""
    token = _active.set(trace := Trace())
    try:
        yield trace
    finally:
        _active.reset(token)


def record(operation: Operation, inputs: Sequence[Tensor], output: Tensor, name: str | None = None) -> None:
    """Report a call to the trace, if there is one."""
    trace = _active.get()
    if trace is not None:
        trace.add(operation, inputs, output, name)
