"""The vocabulary of a search: what a space file may say, and the configurations drawn from it.

A space file becomes frozen values here, once. Every rule that can be checked without building the network is
checked here; :func:`bind` checks the rest against the network's layers. All problems are reported together, each with
its path in the file, the value found and what to write instead.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from spquant_search.errors import SpaceError, UserError
from spquant_search.presets import Preset, preset_values
from spquant_search.quantities import quantity

FLOAT_BITS = 32
QUANTIZED_BITS = (1, 2, 3, 4, 8)
WEIGHT_BITS = (*QUANTIZED_BITS, FLOAT_BITS)
FLOAT_MEMBRANE = 0
PARAMETERS = ("weight_bits", "membrane_levels", "channel_mass", "skip_below")
DEFAULT_MOMENTUM = 0.9
LADDER_RUNGS = 8
OFF: dict[str, float | None] = {"channel_mass": 1.0, "skip_below": None}  # values that switch a mechanism off
# How weights become integers (spquant_search.snn.quantize), and the bits that each way is defined for.
Quantizer = Literal["statistics", "sawb", "mean", "ternary-mean"]
QUANTIZER_BITS: dict[Quantizer, tuple[int, ...]] = {
    "statistics": QUANTIZED_BITS,
    "sawb": (4, 8),
    "mean": (3, 4, 8),
    "ternary-mean": (2,),
}


# ---------------------------------------------------------------- membrane grid


@dataclass(frozen=True, kw_only=True, slots=True)
class MembraneGrid:
    """The values that a stored membrane potential may take: ``lowest + i * step`` for i = 0 .. levels - 1."""

    levels: int
    lowest: float
    step: float

    @property
    def highest(self) -> float:
        return self.lowest + (self.levels - 1) * self.step

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(self.lowest + i * self.step for i in range(self.levels))


def membrane_grid(levels: int, lowest: float | None = None) -> MembraneGrid:
    """The dyadic grid of ``levels`` values: from ``lowest`` in the largest power-of-two step that stays at or below 1.

    Without ``lowest``: 3 levels {-1, 0, 1}, 4 {-2 .. 1}, 5 {-3 .. 1} (the released SpQuant-SNN code's grid), 2 {0, 1};
    all others start at -1, so 16 levels are -1 .. 7/8 by 1/8 and 256 are -1 .. 127/128 by 1/128.
    Raises ValueError where the grid would not contain 0, the resting potential.
    """
    if levels < 2:
        raise ValueError(f"a membrane needs at least 2 levels, or 0 for a float one; got {levels}")
    if lowest is None:
        lowest = {2: 0.0, 4: -2.0, 5: -3.0}.get(levels, -1.0)
    if not (math.isfinite(lowest) and lowest <= 0.0):
        raise ValueError("the lowest level must be a number of at most 0, where a membrane rests")
    step = 2.0 ** math.floor(math.log2((1.0 - lowest) / (levels - 1)))
    grid = MembraneGrid(levels=levels, lowest=float(lowest), step=step)
    if not (grid.lowest <= 0.0 <= grid.highest and (grid.lowest / step).is_integer()):
        raise ValueError(
            f"the grid of {levels} levels from {lowest:g} by {step:g} does not contain 0, where a membrane rests"
        )
    return grid


# ---------------------------------------------------------------- checked field types


def _refuse_bool(value: object) -> object:
    # YAML 1.1 reads yes, no, on and off as booleans, and pydantic would take them for 1 and 0.
    if isinstance(value, bool):
        raise ValueError("must be a number, not yes/no (YAML reads yes, no, on and off as true and false)")
    return value


def _none_word(value: object) -> object:
    return None if value == "none" else _refuse_bool(value)


def _quantity(value: object) -> object:
    """The number that ``64KiB`` or ``60M`` means; a plain number as it is."""
    return quantity(value) if isinstance(value, str) and value != "none" else _none_word(value)


def _whole(value: float | None) -> int | None:
    return None if value is None else math.floor(value)


def _one_of(allowed: Sequence[float]) -> AfterValidator:
    words = ", ".join(f"{value:g}" for value in allowed)

    def check(value: float) -> float:
        if value not in allowed:
            raise ValueError(f"must be one of {words}")
        return value

    return AfterValidator(check)


def _levels(value: int) -> int:
    if value != FLOAT_MEMBRANE and not 2 <= value <= 256:
        raise ValueError("must be 0 (float) or from 2 to 256 levels")
    return value


def _range(value: object) -> object:
    """Expand ``{from: 0.5, to: 1, step: 0.05}`` to the list of its values."""
    if not isinstance(value, Mapping):
        return value
    if set(value) != {"from", "to", "step"} or not all(isinstance(number, int | float) for number in value.values()):
        raise ValueError("a range is written {from: 0.5, to: 1, step: 0.05}")
    low, high, step = float(value["from"]), float(value["to"]), float(value["step"])
    if step <= 0 or high < low:
        raise ValueError("a range needs from <= to and a step above 0")
    count = math.floor((high - low) / step + 1e-9)
    return [round(low + i * step, 10) for i in range(count + 1)]


def _distinct(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise ValueError("must name at least one choice")
    if len(set(value)) != len(value):
        raise ValueError("names a choice twice")
    return value


def _listed(value: object) -> object:
    # A single value is a choice of one: `weight_bits: 8` fixes the layer.
    return value if isinstance(value, list | tuple | Mapping) or value is None else [value]


Integer = Annotated[int, BeforeValidator(_refuse_bool)]
Positive = Annotated[int, BeforeValidator(_refuse_bool), Field(ge=1)]
Number = Annotated[float, BeforeValidator(_refuse_bool)]
Rate = Annotated[float, BeforeValidator(_refuse_bool), Field(gt=0)]
Share = Annotated[float, BeforeValidator(_refuse_bool), Field(ge=0, le=1)]
WeightBits = Annotated[int, BeforeValidator(_refuse_bool), _one_of(WEIGHT_BITS)]
MembraneLevels = Annotated[int, BeforeValidator(_refuse_bool), AfterValidator(_levels)]
ChannelMass = Annotated[float, BeforeValidator(_refuse_bool), Field(gt=0, le=1)]
SkipBelow = Annotated[Annotated[float, Field(le=0)] | None, BeforeValidator(_none_word)]
# Bytes are whole, so that a bound between two numbers of them is the lower one.
MaxBytes = Annotated[Annotated[float, Field(ge=1)] | None, BeforeValidator(_quantity), AfterValidator(_whole)]
MaxFlops = Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_quantity)]
MinAccuracy = Annotated[Annotated[float, Field(ge=0, le=1)] | None, BeforeValidator(_none_word)]
MaxNorm = Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_none_word)]
_CHOICES = (BeforeValidator(_listed), AfterValidator(_distinct))

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


# ---------------------------------------------------------------- the space file


def _square(value: object) -> object:
    return [value, value] if isinstance(value, int) and not isinstance(value, bool) else value


def _for_all_bits(value: object) -> object:
    """``sawb`` is short for ``{1: sawb, 2: sawb, ...}``; bits that are not searched do not matter."""
    return dict.fromkeys(QUANTIZED_BITS, value) if isinstance(value, str) else value


QuantizerByBits = Annotated[
    dict[Annotated[int, BeforeValidator(_refuse_bool), _one_of(QUANTIZED_BITS)], Quantizer],
    BeforeValidator(_for_all_bits),
]


def _columns(value: str) -> str:
    if sorted(value) != sorted("xytp"):
        raise ValueError("must name the four columns x, y, t (time) and p (polarity) in their order, such as xytp")
    return value


Size = Annotated[tuple[Positive, Positive] | None, BeforeValidator(_square)]
ProperShare = Annotated[float, BeforeValidator(_refuse_bool), Field(gt=0, lt=1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSpace:
    """Which recordings or images, how they become frames, and how many of each split (None: all of them).

    docs/data.md says which data set has which option.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: str
    root: str | None = None  # the folder with the files, of sets that do not come with the package
    train_samples: Positive | None = None
    validation_samples: Positive | None = None
    test_samples: Positive | None = None
    size: Size = None  # of a frame, [height, width] in pixels; None: as recorded
    sensor: Size = None  # event-folder: of the camera, [height, width] in pixels
    time_unit: Literal["s", "ms", "us", "ns"] = "us"  # event-folder: of the times in .npy and .h5 files
    # event-folder: which column of a table without names is which
    columns: Annotated[str, AfterValidator(_columns)] | None = None
    crop: Size = None  # the middle of the sensor, [height, width] in pixels; None: all of it
    polarity: Literal["both", "sum", "both-and-sum"] = "both"
    denoise_us: Positive | None = None  # drop events that no neighbour backs within this time
    sort_events: bool = False  # instead of refusing recordings in which time runs backwards
    as_events: bool = False  # images: recorded by a simulated event camera
    classes: Positive | None = None  # of an image or event folder that is not there yet
    validation_share: ProperShare = 0.1  # of train
    test_share: ProperShare = 0.1  # of each class, where the publisher has made no test split
    split_seed: Annotated[int, BeforeValidator(_refuse_bool), Field(ge=0)] = 0
    partial: bool = False  # take a set of which only some samples are there


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpace:
    """Which network, and what of its shape is the user's choice."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    network: str = "own"
    # "package.module:function" that makes a network from an InputShape; then `network` is only what it is called.
    build: str | None = None
    width: Rate = 1.0
    pool: Literal["before", "after"] = "before"
    # How weights are quantized, by their bits; bits that are not named take "statistics".
    quantizer: QuantizerByBits = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class NeuronSpace:
    """The leaky integrate-and-fire neuron: u = leak * v + I, spike above 1, hard reset, v = Q(u)."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    # A shift on the device: other leaks have no integer form.
    leak: Annotated[float, BeforeValidator(_refuse_bool), _one_of((0.5, 0.25, 0.125))] = 0.5
    # Where a grid starts, by its number of levels, for those that shall not start where membrane_grid puts them.
    lowest_level: dict[int, Number] = field(default_factory=dict)
    # Every layer with neurons learns its threshold, the unit of its grid then; otherwise the threshold is 1.
    learn_threshold: bool = False

    def grid(self, levels: int) -> MembraneGrid:
        return membrane_grid(levels, self.lowest_level.get(levels))


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerChoices:
    """The choices of one entry under ``layers``; None takes those of ``layers.all``."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    weight_bits: Annotated[tuple[WeightBits, ...], *_CHOICES] | None = None
    membrane_levels: Annotated[tuple[MembraneLevels, ...], *_CHOICES] | None = None
    channel_mass: Annotated[tuple[ChannelMass, ...], BeforeValidator(_range), *_CHOICES] | None = None
    skip_below: Annotated[tuple[SkipBelow, ...], *_CHOICES] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """How training samples are varied at random, each in its own way; see :mod:`spquant_search.augment`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    flip: bool = False  # left and right, every other sample
    # Shifted by up to so many pixels in both directions: what leaves on one side enters on the other, as is usual for
    # recordings (NDA, Li et al., ECCV 2022, up to 5 pixels).
    roll: Annotated[int, BeforeValidator(_refuse_bool), Field(ge=0)] = 0
    # Padded with so many zeros on all sides, and a window of the frame's size cut (He et al., CVPR 2016).
    crop: Annotated[int, BeforeValidator(_refuse_bool), Field(ge=0)] = 0
    event_drop: Share = 0.0  # the share of recordings that lose events (EventDrop, whose authors take 0.75)

    @property
    def is_on(self) -> bool:
        return bool(self.flip or self.roll or self.crop or self.event_drop)


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How networks are trained: the float baseline first, then every candidate from the baseline's weights."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    epochs: Positive = 3
    learning_rate: Rate = 2e-3
    baseline_epochs: Positive = 8
    baseline_learning_rate: Rate = 4e-3
    batch_size: Positive = 64
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    momentum: Annotated[float, BeforeValidator(_refuse_bool), Field(ge=0, lt=1)] = DEFAULT_MOMENTUM  # of sgd alone
    nesterov: bool = False  # of sgd alone
    weight_decay: Annotated[float, BeforeValidator(_refuse_bool), Field(ge=0)] = 0.01
    schedule: Literal["cosine", "one-cycle", "constant"] = "cosine"
    warm_up: Share = 0.1
    max_grad_norm: MaxNorm = None  # a step's gradients are scaled down to it where their norm is larger
    label_smoothing: Annotated[float, BeforeValidator(_refuse_bool), Field(ge=0, lt=1)] = 0.0
    # TET: (1 - tet_lambda) * mean over time of the cross-entropy + tet_lambda * mean squared distance to tet_mean.
    tet_lambda: Share = 0.0
    tet_mean: Number = 1.0
    # Of a quantized network's loss, the share of its distance to what the float baseline says of the same samples.
    distillation: Share = 0.5
    gate_loss_weight: Annotated[float, BeforeValidator(_refuse_bool), Field(ge=0)] = 0.5
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    augment: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """How the one network is trained that all configurations are read out of: see :mod:`spquant_search.shared`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    epochs: Positive = 6  # from the float baseline's weights
    learning_rate: Rate = 2e-3
    statistics_samples: Positive = 384  # of train, for the batch norm of a configuration
    validation_samples: Positive | None = None  # the first so many judge a read-out; None: all of validation


@dataclass(frozen=True, kw_only=True, slots=True)
class Final:
    """How the front's members are fine-tuned at the end, from what was read out."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    members: Positive = 16  # at most, and besides those of the front such as may yet reach it
    epochs: Positive = 1
    learning_rate: Rate = 1e-3
    seeds: Positive = 1  # each is fine-tuned so often, and the most accurate of its networks kept
    train_gates: bool = False  # too: for fewer operations than those of what was read out


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraints:
    """Budgets that a configuration must keep to be on the front; None where it does not matter."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    memory_bytes: MaxBytes = None  # at most; also written as 64KiB
    effective_flops: MaxFlops = None  # at most, a sample over all time steps, 2 per MAC; also written as 60M
    accuracy: MinAccuracy = None  # at least, on the validation split, a fraction


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopping:
    """When a candidate is given up: see :mod:`spquant_search.pruning`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    enabled: bool = True
    margin: Share = 0.01
    min_peers: Positive = 5
    optimism: Annotated[float, BeforeValidator(_refuse_bool), Field(ge=0)] = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """How much is searched, by whom, and from which reference configurations on."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    # warm-start: every candidate is trained, from the float baseline's weights; scratch: from random ones. shared:
    # candidates are read out of one network trained for all, and the front's members fine-tuned.
    strategy: Literal["shared", "warm-start", "scratch"] = "warm-start"
    trials: Positive = 24
    workers: Positive = 2
    # After which a trial is given up as failed (its trainer hangs, or shares its core with too much); None: never. The
    # baseline and the shared network, without which there is no search, have no limit.
    minutes_per_trial: Annotated[float, BeforeValidator(_refuse_bool), Field(gt=0)] | None = None
    seed: Annotated[int, BeforeValidator(_refuse_bool), Field(ge=0)] = 0
    sampler: Literal["grey-box", "tpe", "nsga2", "random"] = "grey-box"
    startup_trials: Positive = 10
    stopping: Stopping = field(default_factory=Stopping)
    # Tried first, one value a parameter for all layers (a layer without such a parameter ignores it); or a preset, such
    # as {preset: quant-snn}, beside which {preset: quant-snn, weight_bits: 4} replaces one of its values.
    references: tuple[dict[str, Any], ...] = ()
    # Only where candidates are read out: configurations that should lose least at so many memory budgets, tried after
    # the references (spquant_search.ladder); 0: none. None: LADDER_RUNGS where the strategy is shared, otherwise 0.
    ladder: Annotated[int, BeforeValidator(_refuse_bool), Field(ge=0)] | None = None

    @property
    def rungs(self) -> int:
        """The configurations of the ladder."""
        if self.ladder is None:
            return LADDER_RUNGS if self.strategy == "shared" else 0
        return self.ladder


@dataclass(frozen=True, kw_only=True, slots=True)
class SpaceFile:
    """Everything that a space file says, checked as far as that goes without its network."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    data: DataSpace
    time_steps: Positive
    model: ModelSpace
    layers: dict[str, LayerChoices]
    neuron: NeuronSpace = field(default_factory=NeuronSpace)
    train: Training = field(default_factory=Training)
    shared: Shared = field(default_factory=Shared)
    final: Final = field(default_factory=Final)
    constraints: Constraints = field(default_factory=Constraints)
    search: Search = field(default_factory=Search)


# ---------------------------------------------------------------- configurations


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A place in a network whose precision can be chosen, as the network itself reports it."""

    name: str
    has_membrane: bool
    can_gate: bool
    has_weights: bool = True
    can_skip: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerPrecision:
    """One layer's choice. ``membrane_levels`` None: the layer has no membrane (a read-out)."""

    weight_bits: int = FLOAT_BITS
    membrane_levels: int | None = FLOAT_MEMBRANE
    channel_mass: float = 1.0
    skip_below: float | None = None

    @property
    def is_float(self) -> bool:
        return self.weight_bits == FLOAT_BITS and self.membrane_levels in (None, FLOAT_MEMBRANE)


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """The precision of every layer, in the network's order."""

    layers: tuple[tuple[str, LayerPrecision], ...]

    def __getitem__(self, name: str) -> LayerPrecision:
        for layer, precision in self.layers:
            if layer == name:
                return precision
        raise KeyError(name)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """``{layer: {weight_bits, membrane_levels, channel_mass, skip_below}}``, ready for JSON."""
        return {name: asdict(precision) for name, precision in self.layers}

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, Any]]) -> NetworkConfig:
        return cls(layers=tuple((name, LayerPrecision(**precision)) for name, precision in values.items()))

    def flat(self) -> dict[str, Any]:
        """``{"conv3.weight_bits": 4, ...}``: the addresses used by Optuna, the tables and the error messages."""
        return {
            f"{name}.{parameter}": getattr(precision, parameter)
            for name, precision in self.layers
            for parameter in PARAMETERS
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerSpace:
    """The choices of one site. A parameter that the site lacks has the single choice that means "none"."""

    name: str
    weight_bits: tuple[int, ...]
    membrane_levels: tuple[int | None, ...]
    channel_mass: tuple[float, ...]
    skip_below: tuple[float | None, ...]

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """``{"conv3.weight_bits": (1, 2, ...), ...}``"""
        return {f"{self.name}.{parameter}": getattr(self, parameter) for parameter in PARAMETERS}


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSpace:
    """A space file bound to its network's layers: the set of configurations that a search may visit."""

    source: str
    file: SpaceFile
    layers: tuple[LayerSpace, ...]
    references: tuple[NetworkConfig, ...]

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Every address with its choices, in the network's order; those with a single choice included."""
        return {address: values for layer in self.layers for address, values in layer.choices().items()}

    def baseline(self) -> NetworkConfig:
        """The float network without gates and masks."""
        return NetworkConfig(
            layers=tuple(
                (layer.name, LayerPrecision(membrane_levels=None if layer.membrane_levels == (None,) else 0))
                for layer in self.layers
            )
        )

    def config(self, values: Mapping[str, Any]) -> NetworkConfig:
        """The configuration with these values at these addresses; an address with a single choice may be absent."""
        return NetworkConfig(
            layers=tuple(
                (
                    layer.name,
                    LayerPrecision(
                        **{
                            address.rpartition(".")[2]: values.get(address, options[0])
                            for address, options in layer.choices().items()
                        }
                    ),
                )
                for layer in self.layers
            )
        )

    def __contains__(self, config: NetworkConfig) -> bool:
        """Whether a configuration of this space's network is one that a search may visit."""
        values = config.flat()
        return all(values[address] in options for address, options in self.choices().items())

    def size(self) -> float:
        """How many configurations there are."""
        return math.prod(float(len(options)) for options in self.choices().values())


# ---------------------------------------------------------------- reading


def read_space(path: Path, overrides: Sequence[str] = ()) -> SpaceFile:
    """The space file at ``path``, with ``overrides`` such as ``train.epochs=3`` put over it.

    Raises:
        SpaceError: the file breaks a rule; all problems at once.
        UserError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: cannot read this space file: {reason}. Give the path of a YAML file.") from error
    return parse_space(text, source=str(path), overrides=overrides)


def parse_space(text: str, *, source: str, overrides: Sequence[str] = ()) -> SpaceFile:
    """As :func:`read_space`, from the text of a file; ``source`` names it in messages."""
    document = _load_yaml(text, source)
    lines, repeated = _places(text)
    if repeated:
        raise SpaceError(source, _sorted_by_line(repeated, lines))
    for override in overrides:
        place = _apply_override(document, override)
        lines = {path: line for path, line in lines.items() if not f"{path}.".startswith(f"{place}.")}
    try:
        parsed = TypeAdapter(SpaceFile).validate_python(document)
    except ValidationError as error:
        raise SpaceError(source, _sorted_by_line(_problems(error, document), lines)) from None
    problems = [
        *_rules_between_fields(parsed),
        *_rules_of_the_optimizer(parsed.train),
        *_rules_of_the_ladder(parsed.search),
    ]
    if problems:
        raise SpaceError(source, _sorted_by_line(problems, lines))
    return parsed


def bind(file: SpaceFile, sites: Sequence[Site], *, source: str) -> SearchSpace:
    """Bind a space file to the layers of its network.

    Raises:
        SpaceError: a layer that the network does not have, or a parameter that the layer does not have.
    """
    problems = _unknown_layers(file, sites)
    every = file.layers.get("all", LayerChoices())
    layers = []
    for site in sites:
        own = file.layers.get(site.name, LayerChoices())
        problems += _unfit_parameters(own, site)
        layers.append(_layer_space(site, own, every))
    space = SearchSpace(source=source, file=file, layers=tuple(layers), references=())
    references, more = _references(space, sites)
    if problems + more:
        raise SpaceError(source, [f"{path}: {message}" for path, message in problems + more])
    return SearchSpace(source=source, file=file, layers=tuple(layers), references=references)


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: ``"; did you mean 'conv8'?"`` where a known one is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


def _load_yaml(text: str, source: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpaceError(source, [f"is not valid YAML: {' '.join(str(error).split())}"]) from None
    if not isinstance(document, dict):
        raise SpaceError(source, ["must hold a mapping with the keys data, time_steps, model and layers"])
    return document


def _apply_override(document: dict[str, Any], override: str) -> str:
    """Put the value of ``PATH=VALUE`` into the document; its path."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UserError(f"--set {override}: must be PATH=VALUE, for example --set train.epochs=3")
    *parents, last = path.split(".")
    node = document
    for key in parents:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            raise UserError(f"--set {override}: {key!r} holds {child!r}, which has nothing below it")
        node = child
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override}: the value {text!r} is not valid YAML") from None
    return path


def _problems(error: ValidationError, document: object) -> list[tuple[str, str]]:
    """Pydantic's findings as (path, sentence with the value and the remedy)."""
    problems: dict[tuple[str, str], None] = {}
    for found in error.errors():
        location = _file_path(found["loc"], document)
        path = ".".join(str(part) for part in location)
        kind, value = found["type"], found["input"]
        if kind == "unexpected_keyword_argument":
            known = _known_keys(location[:-1])
            word = str(location[-1])
            sentence = f"unknown key{suggestion(word, known)} Known here: {', '.join(known)}"
        elif kind in ("missing", "missing_argument"):
            sentence = "is missing; add it (spaces/vgg9.yaml shows every key)"
        elif kind in ("dataclass_type", "dataclass_exact_type"):
            sentence = f"must be a mapping of keys and values; got {value!r}"
        else:
            message = found["msg"].removeprefix("Value error, ").replace("Input should", "must")
            message = message.replace("a valid tuple", "a list").replace("a valid dictionary", "a mapping")
            sentence = f"{message}; got {value!r}"
        problems[path, sentence] = None
    return list(problems)


def _file_path(location: tuple[int | str, ...], document: object) -> tuple[int | str, ...]:
    """Pydantic's location without the parts that name types rather than places in the file."""
    path: list[int | str] = []
    node: Any = document
    for position, part in enumerate(location):
        last = position == len(location) - 1
        if isinstance(node, dict) and (part in node or last):
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            continue
        path.append(part)
    return tuple(path)


_SECTIONS: dict[tuple[str, ...], type] = {
    (): SpaceFile,
    ("data",): DataSpace,
    ("model",): ModelSpace,
    ("neuron",): NeuronSpace,
    ("train",): Training,
    ("shared",): Shared,
    ("final",): Final,
    ("constraints",): Constraints,
    ("train", "augment"): Augmentation,
    ("search",): Search,
    ("search", "stopping"): Stopping,
}


def _known_keys(parents: tuple[int | str, ...]) -> tuple[str, ...]:
    section = LayerChoices if parents[:1] == ("layers",) else _SECTIONS[tuple(str(part) for part in parents)]
    return tuple(entry.name for entry in fields(section))


def _places(text: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The line of every path in the file, for messages, and the keys of which YAML would drop all but the last."""
    lines: dict[str, int] = {}
    repeated: list[tuple[str, str]] = []

    def visit(node: yaml.Node, path: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                below = f"{path}.{key.value}" if path else str(key.value)
                if below in lines:
                    repeated.append((below, f"is in line {lines[below]} already; keep one of the two"))
                lines[below] = key.start_mark.line + 1
                visit(value, below)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                lines[f"{path}.{index}"] = value.start_mark.line + 1
                visit(value, f"{path}.{index}")

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None:
        visit(root, "")
    return lines, repeated


def _sorted_by_line(problems: Sequence[tuple[str, str]], lines: Mapping[str, int]) -> list[str]:
    def line(path: str) -> int:
        return lines.get(path, 0)

    ordered = sorted(problems, key=lambda problem: line(problem[0]))
    return [
        f"{path}{f' (line {line(path)})' if line(path) else ''}: {sentence}" if path else sentence
        for path, sentence in ordered
    ]


def _rules_between_fields(file: SpaceFile) -> list[tuple[str, str]]:
    problems = []
    for levels, lowest in file.neuron.lowest_level.items():
        try:
            file.neuron.grid(levels)
        except ValueError as error:
            problems.append((f"neuron.lowest_level.{levels}", f"{error}; got {lowest:g}"))
    if problems:
        return problems
    every = file.layers.get("all", LayerChoices())
    for name, layer in file.layers.items():
        problems += _bits_without_quantizer(name, layer.weight_bits or (), file.model)
        if layer.skip_below is None and layer.membrane_levels is None:
            continue
        parameter = "membrane_levels" if layer.skip_below is None else "skip_below"
        cuts = [cut for cut in layer.skip_below or every.skip_below or () if cut is not None]
        for levels in layer.membrane_levels or every.membrane_levels or ():
            problems += [(f"layers.{name}.{parameter}", words) for words in _cuts_off_the_grid(cuts, levels, file)]
    return problems


def _rules_of_the_optimizer(recipe: Training) -> list[tuple[str, str]]:
    remedy = f"of the optimizers only sgd has it, not {recipe.optimizer}; remove the key or set train.optimizer: sgd"
    own = {"momentum": recipe.momentum != DEFAULT_MOMENTUM, "nesterov": recipe.nesterov}
    if recipe.optimizer != "sgd":
        return [(f"train.{key}", f"{remedy}; got {getattr(recipe, key)}") for key, is_set in own.items() if is_set]
    if recipe.nesterov and recipe.momentum == 0:
        return [("train.nesterov", "needs a momentum above 0; set train.momentum or remove the key; got True")]
    return []


def _rules_of_the_ladder(search: Search) -> list[tuple[str, str]]:
    if not search.ladder or search.strategy == "shared":
        return []
    sentence = (
        f"is made of read-outs of the shared network, which the strategy {search.strategy} does without; set it to 0, "
        f"or search.strategy: shared; got {search.ladder}"
    )
    return [("search.ladder", sentence)]


def _bits_without_quantizer(name: str, choices: Sequence[int], model: ModelSpace) -> list[tuple[str, str]]:
    problems = []
    for bits in choices:
        quantizer = model.quantizer.get(bits, "statistics")
        known = QUANTIZER_BITS[quantizer]
        if bits != FLOAT_BITS and bits not in known:
            fit = [other for other, its_bits in QUANTIZER_BITS.items() if bits in its_bits]
            sentence = (
                f"the quantizer {quantizer} has {', '.join(map(str, known))} bits; got {bits}; take it out, or give "
                f"it a quantizer of its own in model.quantizer, as {{{bits}: {fit[0]}}}; it has {', '.join(fit)}"
            )
            problems.append((f"layers.{name}.weight_bits", sentence))
    return problems


def _cuts_off_the_grid(cuts: Sequence[float], levels: int, file: SpaceFile) -> list[str]:
    if levels == FLOAT_MEMBRANE:
        return []
    grid = file.neuron.grid(levels)
    return [
        f"skip_below {cut:g} is no level of the {levels}-level membrane, which has {grid.lowest:g} to {grid.highest:g} "
        f"in steps of {grid.step:g}"
        for cut in cuts
        if cut not in grid.values
    ]


def _unknown_layers(file: SpaceFile, sites: Sequence[Site]) -> list[tuple[str, str]]:
    names = [site.name for site in sites]
    problems = []
    for name in file.layers:
        if name != "all" and name not in names:
            words = f"{names[0]} .. {names[-1]}: {', '.join(names)}"
            near = suggestion(name, names)
            problems.append((f"layers.{name}", f"unknown layer{near} {file.model.network} has {words}, and `all`"))
    return problems


def _unfit_parameters(own: LayerChoices, site: Site) -> list[tuple[str, str]]:
    problems = []
    if own.channel_mass not in (None, (1.0,)) and not site.can_gate:
        problems.append(
            (f"layers.{site.name}.channel_mass", "this layer has no channel gate (the first and the read-out never do)")
        )
    if own.weight_bits is not None and not site.has_weights:
        problems.append((f"layers.{site.name}.weight_bits", "this layer has no weights; remove the key"))
    if not site.has_membrane:
        for parameter in ("membrane_levels", "skip_below"):
            if getattr(own, parameter) is not None:
                problems.append((f"layers.{site.name}.{parameter}", "this layer has no membrane; remove the key"))
    elif own.skip_below not in (None, (None,)) and not site.can_skip:
        sentence = "this layer's potentials are never negative, so that no neuron could be skipped; remove the key"
        problems.append((f"layers.{site.name}.skip_below", sentence))
    return problems


def _layer_space(site: Site, own: LayerChoices, every: LayerChoices) -> LayerSpace:
    return LayerSpace(
        name=site.name,
        weight_bits=(own.weight_bits or every.weight_bits or (FLOAT_BITS,)) if site.has_weights else (FLOAT_BITS,),
        membrane_levels=(own.membrane_levels or every.membrane_levels or (0,)) if site.has_membrane else (None,),
        channel_mass=(own.channel_mass or every.channel_mass or (1.0,)) if site.can_gate else (1.0,),
        skip_below=(own.skip_below or every.skip_below or (None,)) if site.has_membrane and site.can_skip else (None,),
    )


def preset_config(
    preset: Preset, *, network: str, sites: Sequence[Site], weight_bits: int | None = None
) -> NetworkConfig:
    """The configuration of a preset on a network with these sites, whatever a space file's choices are.

    ``weight_bits`` replaces those that the preset has for ``network``; a network that SpQuant-SNN does not have, such
    as a user's own, otherwise takes the bits of vgg9.
    """
    return _uniform(preset_values(preset, network, weight_bits=weight_bits), sites)


def _uniform(values: Mapping[str, Any], sites: Sequence[Site]) -> NetworkConfig:
    """One value a parameter for all layers; a site without such a parameter has what means "none"."""
    return NetworkConfig(
        layers=tuple(
            (
                site.name,
                LayerPrecision(
                    weight_bits=values["weight_bits"] if site.has_weights else FLOAT_BITS,
                    membrane_levels=values["membrane_levels"] if site.has_membrane else None,
                    channel_mass=values.get("channel_mass", 1.0) if site.can_gate else 1.0,
                    skip_below=values.get("skip_below") if site.has_membrane and site.can_skip else None,
                ),
            )
            for site in sites
        )
    )


def _references(space: SearchSpace, sites: Sequence[Site]) -> tuple[tuple[NetworkConfig, ...], list[tuple[str, str]]]:
    """The reference configurations, each of which the space must contain, and what is wrong with them."""
    configs, problems = [], []
    for index, reference in enumerate(space.file.search.references):
        path = f"search.references.{index}"
        for key in reference:
            if key not in (*PARAMETERS, "preset"):
                near = suggestion(key, (*PARAMETERS, "preset"))
                problems.append((f"{path}.{key}", f"unknown key{near} Known here: {', '.join(PARAMETERS)}"))
        if "preset" in reference:
            values, misfits = _preset_reference(space, sites, reference)
        else:
            values, misfits = _reference_values(space, reference)
        problems += [(f"{path}.{parameter}", sentence) for parameter, sentence in misfits.items()]
        configs.append(space.config(values))
    return tuple(configs), problems


def _preset_reference(
    space: SearchSpace, sites: Sequence[Site], reference: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """As :func:`_reference_values`, of a preset; a layer that is fixed to another value is a misfit too."""
    name = reference["preset"]
    known = [str(preset) for preset in Preset]
    if name not in known:
        return {}, {"preset": f"unknown preset {name!r}{suggestion(str(name), known)} Known: {', '.join(known)}"}
    # Keys beside the preset replace its values: a network of one's own may need other bits than vgg9's.
    replaced = {key: None if value == "none" else value for key, value in reference.items() if key in PARAMETERS}
    wanted = _uniform(preset_values(Preset(name), space.file.model.network) | replaced, sites).flat()
    values: dict[str, Any] = {}
    misfits: dict[str, str] = {}
    for address, options in space.choices().items():
        value, parameter = wanted[address], address.rpartition(".")[2]
        key = parameter if parameter in replaced else "preset"
        if value in options and not isinstance(value, bool):
            values[address] = options[options.index(value)]
        elif key not in misfits:
            shown = "none" if value is None else value
            misfits[key] = (
                f"{name} has {parameter} {shown}, which is no choice of {address}: {_listed_choices(options)}; "
                f"add it to layers.{address} or layers.all.{parameter}, or remove this reference"
            )
    return values, misfits


def _listed_choices(options: Iterable[float | None]) -> str:
    return ", ".join("none" if option is None else f"{option:g}" for option in options)


def _reference_values(space: SearchSpace, reference: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A reference's value at every address, and by parameter what does not fit; gates and masks not named are off."""
    values: dict[str, Any] = {}
    misfits: dict[str, str] = {}
    for address, options in space.choices().items():
        if len(options) == 1:
            continue
        parameter = address.rpartition(".")[2]
        value = reference.get(parameter, OFF.get(parameter))
        value = None if value == "none" else value
        if value in options and not isinstance(value, bool):
            values[address] = options[options.index(value)]
        elif parameter not in misfits:
            misfits[parameter] = (
                f"must be a choice of {address}: {_listed_choices(options)}; "
                f"got {'nothing' if value is None else value}"
            )
    return values, misfits


def frozen_space(file: SpaceFile) -> str:
    """The whole space, defaults written out, as YAML: what a run folder keeps and a resumed run is compared with."""
    return yaml.safe_dump(TypeAdapter(SpaceFile).dump_python(file, mode="json"), sort_keys=False)
