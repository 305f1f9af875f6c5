"""Find how a network's layers are connected, by running it once.

A network's forward may be any Python code. To write it down for a device, it must be known which layer's output goes
into which layer. While a :func:`traced` network runs, every layer and every operation between layers that this package
offers (pools, flattening, the global average, the sum of two signals, the identity shortcut) reports the tensors that
go in and come out. Every other function of torch between layers is noted with the tensors that it made: it has no form
in integers, but what depends on what is known all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

if TYPE_CHECKING:
    from spquant_search.snn.pools import Pool

Operation = Literal["input", "layer", "average", "sum", "identity", "pool", "flatten", "count"]
HAVE_FORMS = "only layers, pools, Flatten, global_average, added and Spikes.current have an integer form"


class Untraceable(Exception):
    """The network has no integer form; the message is a sentence that names what prevents it."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A tensor between layers, and what its maker or its reader takes it for; a current and logits are no counts."""

    values: Tensor
    largest: int | None = None
    divisor: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a layer or an operation; ``inputs`` are the numbers of the steps whose outputs went in."""

    operation: Operation
    name: str  # of the layer; or of the operation between layers, "input", "average1", "sum2"
    inputs: tuple[int, ...]
    shape: tuple[int, ...]  # of the output, [time * batch, channels, height, width]; logits [time, batch, classes]
    largest: int | None = None  # of the output's whole numbers; None for a current and for logits
    divisor: int | None = None
    pool: Pool | None = None  # how a pool does it


@dataclass(frozen=True, slots=True)
class _Made:
    """A tensor and where it comes from: a step, or a function that is none, with all steps that it depends on."""

    tensor: Tensor  # kept, as a freed tensor's identity could be given to another
    version: int  # a change in place makes it larger
    steps: tuple[int, ...]
    by: str | None = None  # the function, where it is no step


@dataclass(slots=True)
class Trace:
    """All calls in the order in which they happened; the first is the network's input."""

    steps: list[Step] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # why the network has no integer form, once it has ended
    watched: dict[int, str] = field(default_factory=dict)  # names of parameters to look out for, by identity
    used: set[str] = field(default_factory=set)  # those of them that went into a function
    constants: set[int] = field(default_factory=set)  # identities of tensors that depend on no step
    ran: set[str] = field(default_factory=set)  # names of the modules, layers aside, that were called
    running: list[str] = field(default_factory=list)  # what is called now, from the outermost on
    _problems: list[tuple[int, str]] = field(default_factory=list)  # of a step, why it has no integer form
    _made: dict[int, _Made] = field(default_factory=dict)
    _layers: int = 0  # of what is called now

    def add(
        self,
        operation: Operation,
        inputs: Sequence[Signal],
        output: Signal,
        name: str | None = None,
        pool: Pool | None = None,
    ) -> None:
        """Add a call as the next step."""
        known = self._made.get(id(output.values))
        if known is not None and known.by is None:  # the input itself, unchanged
            return
        if name is None:
            name = f"{operation}{sum(step.operation == operation for step in self.steps) + 1}"
        sources = tuple(number for signal in inputs for number in self._sources(signal, f"{name} reads"))
        step = Step(operation, name, sources, tuple(output.values.shape), output.largest, output.divisor, pool)
        self._made[id(output.values)] = _Made(output.values, output.values._version, (len(self.steps),))
        self.steps.append(step)

    def _add_problem(self, sentence: str) -> None:
        """Add a problem of the next step."""
        self._problems.append((len(self.steps), sentence))

    def _sources(self, signal: Signal, reads: str) -> tuple[int, ...]:
        """Return the numbers of the steps that a signal depends on: one, where it has an integer form.

        Where it has none, the reason becomes a problem of the next step; ``reads`` begins its sentence.
        """
        made = self._made.get(id(signal.values))
        sentence = self._problem_of(signal, made, reads)
        if sentence is not None:
            self._add_problem(sentence)
        return tuple(range(len(self.steps))) if made is None else made.steps

    def _problem_of(self, signal: Signal, made: _Made | None, reads: str) -> str | None:
        """Return why what is read has no integer form."""
        if made is None or made.by is not None:
            return f"{reads} what {self.maker(signal.values)} makes, and {HAVE_FORMS}"
        step = self.steps[made.steps[0]]
        if made.tensor._version != made.version:
            return f"{reads} the output of {step.name}, which is changed in place, and {HAVE_FORMS}"
        if signal.largest is None:
            source = self.steps[step.inputs[0]].divisor if step.operation == "identity" else None
            if source is not None and source.bit_count() != 1:
                return f"{reads} the current of an average over {source}, which is no power of two"
            return None
        if step.largest is None:
            return f"{reads} the current of {step.name} as if it were spikes"
        if (signal.largest, signal.divisor) != (step.largest, step.divisor):
            taken = f"largest {signal.largest} and divisor {signal.divisor}"
            return f"{reads} {step.name} with {taken}, where they are {step.largest} and {step.divisor}"
        return None

    def maker(self, values: Tensor) -> str:
        """Name what made a tensor."""
        made = self._made.get(id(values))
        if made is None:
            return "code that is no function of torch"
        return made.by or self.steps[made.steps[0]].name

    def note(self, function: Callable[..., Any], inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> None:
        """Note the tensors that a function made which is no step."""
        if self._layers:
            return
        depends: set[int] = set()
        given = set()
        for tensor in inputs:
            given.add(id(tensor))
            if id(tensor) in self.watched:
                self.used.add(self.watched[id(tensor)])
            elif id(tensor) in self._made:
                depends.update(self._made[id(tensor)].steps)
            elif id(tensor) not in self.constants:  # it may come from anywhere
                depends.update(range(len(self.steps)))
        where = f" in {self.running[-1]}" if self.running else ""
        for tensor in outputs:
            if id(tensor) not in given:
                steps = tuple(sorted(depends))
                self._made[id(tensor)] = _Made(tensor, tensor._version, steps, f"{_name(function)}{where}")

    def entered(self, name: str, label: str, *, is_layer: bool) -> None:
        """Note that a module begins to run; the functions of a layer are not those between layers."""
        self.running.append(label)
        if is_layer:
            self._layers += 1
        else:
            self.ran.add(name)

    def left(self, *, is_layer: bool) -> None:
        """Note that a module has run."""
        self.running.pop()
        self._layers -= is_layer

    def end_at(self, output: Tensor) -> None:
        """Keep only the steps that ``output``, the network's, depends on, the network's input, and their problems.

        A layer whose name is that of an operation, such as input, keeps it: the operation's then ends with a dot, as no
        layer's name does.
        """
        last = len(self.steps)
        reached = set(self._sources(Signal(output), "the network's output is"))
        needed = {0}
        while reached:
            number = reached.pop()
            needed.add(number)
            reached.update(set(self.steps[number].inputs) - needed)
        self.problems = [sentence for number, sentence in self._problems if number in needed or number == last]
        places = {number: place for place, number in enumerate(sorted(needed))}
        layers = {step.name for step in self.steps if step.operation == "layer"}
        kept = []
        for number in places:
            step = self.steps[number]
            name = f"{step.name}." if step.operation != "layer" and step.name in layers else step.name
            kept.append(replace(step, name=name, inputs=tuple(places[source] for source in step.inputs)))
        self.steps = kept


def _name(function: Callable[..., Any]) -> str:
    """Return how a user writes a function of torch, such as torch.cat or Tensor.mul."""
    name: str = resolve_name(function) or getattr(function, "__name__", str(function))
    return name.removesuffix(".__get__").replace("torch.Tensor.", "Tensor.").replace("torch.nn.functional.", "F.")


class _Functions(TorchFunctionMode):
    """Report every function of torch to a trace."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        given = dict(kwargs or {})
        output = func(*args, **given)
        self._trace.note(func, _tensors((args, given)), _tensors(output))
        return output


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)


_active: ContextVar[Trace | None] = ContextVar("trace", default=None)


@contextmanager
def traced(network: nn.Module, layers: Mapping[str, nn.Module]) -> Iterator[Trace]:
    """Have a network's modules and the functions between its layers report to a trace in this context."""
    trace, handles = Trace(), []
    trace.constants = {id(tensor) for tensor in (*network.parameters(), *network.buffers())}
    parts = {part for layer in layers.values() for part in layer.modules()}
    for name, module in network.named_modules():
        is_layer = name in layers
        if name and (is_layer or module not in parts):
            enter = partial(trace.entered, name, f"{name} ({type(module).__name__})", is_layer=is_layer)
            leave = partial(trace.left, is_layer=is_layer)
            handles.append(module.register_forward_pre_hook(_calling(enter)))
            handles.append(module.register_forward_hook(_calling(leave)))
    token = _active.set(trace)
    try:
        with _Functions(trace):
            yield trace
    finally:
        _active.reset(token)
        for handle in handles:
            handle.remove()


def _calling(report: Callable[[], None]) -> Callable[..., None]:
    def hook(*_given: Any) -> None:
        report()

    return hook


def record(
    operation: Operation,
    inputs: Sequence[Signal],
    output: Signal,
    name: str | None = None,
    pool: Pool | None = None,
) -> None:
    """Report a call to the trace, if there is one."""
    trace = _active.get()
    if trace is not None:
        trace.add(operation, inputs, output, name, pool)
