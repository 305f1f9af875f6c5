"""The structure of a network of this package's layers as data, which a run keeps of a network that was imported.

It names layers with their arguments, and says what reads what. Reading it runs no code of anybody's: whatever is not
known is refused, with the file and the place in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import ConfigDict, Field
from torch import nn

from spquant_search.errors import MOST_SHOWN, Problem, UserError
from spquant_search.runs.documents import document_text, read_document
from spquant_search.snn.between import AvgPool2d, MaxPool2d
from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.pools import Pool, PoolKind
from spquant_search.snn.readout import CountReadout, Readout
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.neuron_form import NeuronForm

INPUT = "input"  # what a plan calls the network's own input
MOST_BYTES = 4 * 2**20  # of a file; a network of 100 layers has 60 KB
MOST_WEIGHTS = 2**28  # of a layer
LONGEST_SENTENCE = 1000
# A name that is neither that of all layers in a space file nor taken by a module of torch.
TAKEN = frozenset({"", "all", INPUT, "plan", *dir(nn.Module()), *nn.Module().__dict__})

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
Name = Annotated[str, Field(pattern=r"^\w{1,200}$")]
Count = Annotated[int, Field(ge=1, le=2**20)]
Side = Annotated[int, Field(ge=1, le=2**12)]
Margin = Annotated[int, Field(ge=0, le=2**12)]
Size = tuple[Side, Side]
Sentence = Annotated[
    str, Field(max_length=LONGEST_SENTENCE, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOfLayer:
    """The arguments of a :class:`Pool`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: PoolKind
    kernel_size: Size
    stride: Size
    padding: tuple[Margin, Margin] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kernel:
    """The arguments that a :class:`SpikingConv2d` and a :class:`Shortcut` share."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: str
    in_channels: Count
    out_channels: Count
    kernel_size: Size
    stride: Size = (1, 1)
    padding: tuple[Margin, Margin, Margin, Margin] = (0, 0, 0, 0)  # left, right, top, bottom
    groups: Count = 1
    norm: bool = False

    @property
    def weights(self) -> int:
        return self.out_channels * self.in_channels * self.kernel_size[0] * self.kernel_size[1] // self.groups


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvolutionLayer(_Kernel):
    """The arguments of a :class:`SpikingConv2d`."""

    kind: Literal["SpikingConv2d"] = "SpikingConv2d"
    pool: PoolOfLayer | None = None
    can_gate: bool = True
    neuron: NeuronForm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortcutLayer(_Kernel):
    """The arguments of a :class:`Shortcut`."""

    kind: Literal["Shortcut"] = "Shortcut"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLayer:
    """The arguments of a :class:`MaxPool2d` or an :class:`AvgPool2d` between two layers."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["MaxPool2d", "AvgPool2d"]
    kernel_size: Size
    stride: Size
    padding: tuple[Margin, Margin] = (0, 0)
    weights: ClassVar[int] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadoutLayer:
    """The arguments of a :class:`Readout`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["Readout"] = "Readout"
    in_channels: Count
    positions: Count
    classes: Count
    membrane: Literal["sum", "last"] | None = None
    leak: float | None = None

    @property
    def weights(self) -> int:
        return self.in_channels * self.positions * self.classes


@dataclass(frozen=True, slots=True, kw_only=True)
class CountLayer:
    """The arguments of a :class:`CountReadout`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: Literal["CountReadout"] = "CountReadout"
    classes: Count
    votes: Count = 1
    weights: ClassVar[int] = 0


Layer = ConvolutionLayer | ShortcutLayer | PoolLayer | ReadoutLayer | CountLayer
_CLASSES: dict[str, Any] = {
    cls.__name__: cls for cls in (SpikingConv2d, Shortcut, MaxPool2d, AvgPool2d, Readout, CountReadout)
}
_READOUTS = ("Readout", "CountReadout")
_KIND_WORDS = {None: "not computed before", "spikes": "spikes", "current": "a current", "logits": "logits"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is computed of which signals; it has the name of its layer, and the signal that comes out has its name."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: Name
    operation: Literal["layer", "flatten", "add"] = "layer"
    reads: Annotated[tuple[Name, ...], Field(min_length=1, max_length=2)]
    residual: Name | None = None  # a shortcut, or spikes as a current, that a SpikingConv2d adds

    @property
    def sources(self) -> tuple[str, ...]:
        return self.reads if self.residual is None else (*self.reads, self.residual)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedShape:
    """What a network takes and gives."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    channels: Count
    height: Side
    width: Side
    classes: Count
    time_steps: Side
    still: bool = False  # one image for all time steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a network was in floating point before it was imported: numbers of 32 bits, and what became of them."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    library: Annotated[str, Field(pattern=r"^[\w ]{1,100}$")]
    function: Annotated[str, Field(pattern=r"^[\w.]+:\w+$", max_length=500)] | None = None  # that returned it
    code: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None  # the SHA-256 of the function's
    unit: float = 1.0  # what a 1 of this package's input was in the network
    weights: Annotated[int, Field(ge=0)]  # biases too
    batch_norms: Annotated[int, Field(ge=0)] = 0
    batch_norm_values: Annotated[int, Field(ge=0)] = 0  # all of them together
    threshold_layers: Annotated[int, Field(ge=0)] = 0  # with a threshold for each channel
    threshold_values: Annotated[int, Field(ge=0)] = 0
    learned_leaks: Annotated[int, Field(ge=0)] = 0
    notes: Annotated[tuple[Sentence, ...], Field(max_length=MOST_SHOWN)] = ()  # on what was read


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """Layers by their names, and the steps that call each of them once; the last one gives the logits."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    version: Literal[1] = 1
    shape: PlannedShape
    layers: dict[Name, Annotated[Layer, Field(discriminator="kind")]]
    steps: tuple[Step, ...]
    origin: Origin | None = None


def make_layer(layer: Layer, *, device: str | None = None) -> nn.Module:
    """Make a layer, with weights of its own, on a device; None: on torch's default.

    Raises:
        ValueError: its arguments do not fit each other.
    """
    arguments = {field.name: getattr(layer, field.name) for field in fields(layer) if field.name != "kind"}
    if isinstance(layer, ConvolutionLayer) and layer.pool is not None:
        pool = layer.pool
        arguments["pool"] = Pool(pool.kind, pool.kernel_size, pool.stride, pool.padding)
    with torch.device(device or torch.get_default_device()):
        module: nn.Module = _CLASSES[layer.kind](**arguments)
    return module


def read_plan(path: Path) -> NetworkPlan:
    """Read the structure of a network from a file.

    Raises:
        UserError: it cannot be read, or is not what this package writes; says where in it.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path}: has more than {MOST_BYTES // 2**20} MiB, and is no structure of a network")
        plan = read_document(path, NetworkPlan)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; it is the structure of a network") from None
    if problems := [f"{path}: {problem}" for problem in plan_problems(plan)][:MOST_SHOWN]:
        raise UserError("\n".join((*problems, f"{path}: is damaged; restore it from a copy")))
    return plan


def plan_bytes(plan: NetworkPlan) -> bytes:
    """Return the content of a plan's file."""
    return document_text(plan).encode()


def plan_problems(plan: NetworkPlan) -> list[Problem]:
    """Return what contradicts itself in a plan, each with its place."""
    return [*_of_layers(plan.layers), *_of_steps(plan)]


def _of_layers(layers: Mapping[str, Layer]) -> Iterator[Problem]:
    for name, layer in layers.items():
        place = f"layers.{name}"
        if name in TAKEN:
            yield Problem(place, "no layer can have this name")
        if layer.weights > MOST_WEIGHTS:
            yield Problem(place, f"has {layer.weights:,} weights, where {MOST_WEIGHTS:,} are possible")
            continue
        try:
            make_layer(layer, device="meta")
        except ValueError as error:
            yield Problem(place, str(error))


def _of_steps(plan: NetworkPlan) -> Iterator[Problem]:
    """Find signals that are not there, of another kind, or never read, and layers that do not run once."""
    kinds = {INPUT: "spikes"}
    for number, step in enumerate(plan.steps):
        if step.name in kinds:
            yield Problem(f"steps.{number}.name", f"{step.name!r} was computed before")
        yield from (problem.below(f"steps.{number}") for problem in _of_step(step, plan.layers.get(step.name), kinds))
        kinds[step.name] = _kind_of(plan.layers.get(step.name))
    names = [step.name for step in plan.steps]
    if not names or kinds[names[-1]] != "logits":
        yield Problem("steps", "the last one must be a readout")
    yield from (Problem(f"layers.{name}", "no step runs this layer") for name in plan.layers if name not in names)
    read = {source for step in plan.steps for source in step.sources}
    for number, name in enumerate(names[:-1]):
        if name not in read:
            yield Problem(f"steps.{number}", f"nothing reads {name!r}")


def _of_step(step: Step, layer: Layer | None, kinds: Mapping[str, str]) -> Iterator[Problem]:
    """Find what a step cannot do to signals of these ``kinds``, by name; ``layer`` has its name."""
    if (layer is None) == (step.operation == "layer"):
        words = "is no layer" if layer is None else f"is a layer, and the step does {step.operation!r}"
        yield Problem("name", f"{step.name!r} {words}")
    if len(step.reads) != (2 if step.operation == "add" else 1):
        yield Problem("reads", f"are {len(step.reads)} signals, of a step that does {step.operation!r}")
    for name in step.reads:
        if kinds.get(name) != "spikes":
            yield Problem("reads", f"{name!r} is {_KIND_WORDS[kinds.get(name)]}, and no spikes")
    if step.residual is None:
        return
    if not isinstance(layer, ConvolutionLayer):
        yield Problem("residual", "only a SpikingConv2d adds one")
    if (kind := kinds.get(step.residual)) not in ("spikes", "current"):
        yield Problem("residual", f"{step.residual!r} is {_KIND_WORDS[kind]}")


def _kind_of(layer: Layer | None) -> str:
    if layer is None:
        return "spikes"
    return "logits" if layer.kind in _READOUTS else "current" if layer.kind == "Shortcut" else "spikes"
