"""The sections and keys of a space file, with their defaults."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from spquant_search.space.fields import (
    CHOICES,
    BaselineEpochs,
    ChannelMass,
    Classes,
    GridLevels,
    LadderPoints,
    Leak,
    LowestLevel,
    Margin,
    MaxBytes,
    MaxFlops,
    MaxMicrojoules,
    MaxNorm,
    MaxOperations,
    MembraneLevels,
    Microseconds,
    MinAccuracy,
    Minutes,
    NotNegative,
    Number,
    Objectives,
    Positive,
    ProperShare,
    QuantizerByBits,
    Rate,
    Samples,
    Seed,
    Share,
    ShareBelowOne,
    Size,
    SkipBelow,
    TimeSteps,
    WeightBits,
    Width,
    Workers,
    check_columns,
    check_pattern,
    expand_range,
    refuse_bool,
    refuse_many,
)
from spquant_search.space.grid import MembraneGrid, membrane_grid
from spquant_search.space.neuron_form import NeuronForm, Reset
from spquant_search.space.objectives import ACCURACY, DEFAULT_COSTS

DEFAULT_MOMENTUM = 0.9
LADDER_POINTS = 8

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, serialize_by_alias=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSpace:
    """The recordings or images, their way to frames, and the number of samples of each split (None: all of them).

    docs/data.md says which data set has which option.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: str
    build: str | None = None  # python: "package.module:function" that returns (train, validation, test)
    # python: the key of samples that were given in Python, which the cache keeps
    samples: Annotated[str, Field(pattern="^[0-9a-f]{16}$")] | None = None
    root: str | None = None  # the folder with the files, of sets that do not come with the package
    train_samples: Samples | None = None
    validation_samples: Samples | None = None
    test_samples: Samples | None = None
    size: Size = None  # of a frame, [height, width] in pixels; None: as recorded
    sensor: Size = None  # event-folder: of the camera, [height, width] in pixels
    time_unit: Literal["s", "ms", "us", "ns"] = "us"  # event-folder: of the times in files that do not say it
    # event-folder: which column of a table without names is which
    columns: Annotated[str, AfterValidator(check_columns)] | None = None
    reader: str | None = None  # event-folder: "package.module:function" that reads the events of a file
    stream: str | None = None  # event-folder: the group or table with events of HDF5 files that have several
    crop: Size = None  # the middle of the sensor, [height, width] in pixels; None: all of it
    polarity: Literal["both", "sum", "both-and-sum"] = "both"
    window_us: Microseconds | None = None  # a step counts the events of windows of this length; None: equal parts
    # How many windows from its start a recording is seen in, a multiple of time_steps; None: as many as time_steps.
    first_windows: Positive | None = None
    denoise_us: Microseconds | None = None  # drop events that no neighbour backs within this time
    sort_events: bool = False  # instead of refusing recordings in which time runs backwards
    # image-folder: the value of 16-bit pixels that is shown as white; None: 65535
    white: Annotated[int, BeforeValidator(refuse_bool), Field(ge=1, le=65535)] | None = None
    background: Literal["black", "white"] | None = None  # image-folder: behind transparent pixels; None: refuse them
    # images: 1 shows them grey, 3 in red, green and blue; None: as they are
    channels: Annotated[Literal[1, 3], BeforeValidator(refuse_bool)] | None = None
    as_events: bool = False  # images: recorded by a simulated event camera
    classes: Classes | None = None  # of an image or event folder that is not there yet; python: how many
    # image-folder, event-folder: finds in a file's name the person or session that must stay in one split
    group: Annotated[str, AfterValidator(check_pattern)] | None = None
    validation_share: ProperShare = 0.1  # of train
    test_share: ProperShare = 0.1  # of each class, where the publisher has made no test split
    split_seed: Seed = 0
    partial: bool = False  # take a set of which only some samples are there


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpace:
    """The network and the user's choices of its shape."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    network: str = "own"
    # "package.module:function" that makes a network from an InputShape; then `network` is only what it is called.
    build: str | None = None
    # "package.module:function" that returns a network of another library and an example of its input. A search calls it
    # once, and has `layers` and `weights` in its place then.
    import_: Annotated[str | None, Field(alias="import")] = None
    # The file of a network whose structure is data (spquant_search.snn.networks.plan). It and `weights` are looked for
    # from the space file on.
    layers: str | None = None
    # The file of weights that the float baseline begins from, or is; a run keeps a copy.
    weights: str | None = None
    width: Width = 1.0
    pool: Literal["before", "after"] = "before"
    # How weights are quantized, by their bits; bits that are not named take "statistics".
    quantizer: QuantizerByBits = field(default_factory=dict)

    @property
    def own(self) -> tuple[str, str] | None:
        """Return the key that says which network it is, and its value; None of one that comes with the package."""
        if self.layers is not None:
            return "model.layers", self.layers
        return None if self.build is None else ("model.build", self.build)


@dataclass(frozen=True, kw_only=True, slots=True)
class NeuronSpace:
    """The leaky integrate-and-fire neuron: u = leak * v + I, a spike above 1, a reset, v = Q(what the reset leaves).

    A layer may have a form of its own (:class:`spquant_search.space.neuron_form.NeuronForm`), which these do not touch.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    leak: Leak = 0.5  # what is quantized leaks by the nearest k / 4096
    learn_leak: bool = False  # every layer with neurons learns its leak, from `leak` on
    reset: Reset = "zero"
    spike_at_threshold: bool = False  # u >= 1 spikes, not only u > 1
    # Where a grid starts, by its number of levels, for those that shall not start where membrane_grid puts them.
    lowest_level: dict[GridLevels, LowestLevel] = field(default_factory=dict)
    # Every layer with neurons learns its threshold, the unit of its grid then; otherwise the threshold is 1.
    learn_threshold: bool = False

    @property
    def form(self) -> NeuronForm:
        """The form of neurons whose layer has none of its own."""
        return NeuronForm(
            leak=self.leak,
            learn_leak=self.learn_leak,
            reset=self.reset,
            spike_at_threshold=self.spike_at_threshold,
        )

    def grid(self, levels: int, form: NeuronForm | None = None) -> MembraneGrid:
        """Return the grid of so many levels for neurons of a form; None: of the space's."""
        subtracts = (self.form if form is None else form).subtracts
        return membrane_grid(levels, self.lowest_level.get(levels), subtracts=subtracts)


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerChoices:
    """The choices of one entry under ``layers``; None takes those of ``layers.all``."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    weight_bits: Annotated[tuple[WeightBits, ...], *CHOICES] | None = None
    membrane_levels: Annotated[tuple[MembraneLevels, ...], *CHOICES] | None = None
    channel_mass: Annotated[tuple[ChannelMass, ...], BeforeValidator(expand_range), *CHOICES] | None = None
    skip_below: Annotated[tuple[SkipBelow, ...], *CHOICES] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """Random changes of training samples; see
    :mod:`spquant_search.training.augmentation`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    flip: bool = False  # left and right, every other sample
    # Shifted by up to so many pixels in both directions: what leaves on one side enters on the other, as is usual for
    # recordings (NDA, Li et al., ECCV 2022, up to 5 pixels).
    roll: Margin = 0
    # Padded with so many zeros on all sides, and a window of the frame's size cut (He et al., CVPR 2016).
    crop: Margin = 0
    event_drop: Share = 0.0  # the share of recordings that lose events (EventDrop, whose authors take 0.75)

    @property
    def is_on(self) -> bool:
        return bool(self.flip or self.roll or self.crop or self.event_drop)


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """The training of networks: the float baseline first, then every candidate from the baseline's weights."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    epochs: Positive = 3
    learning_rate: Rate = 2e-3
    baseline_epochs: BaselineEpochs = 8  # 0: the given weights are the baseline as they are
    baseline_learning_rate: Rate = 4e-3
    batch_size: Positive = 64
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    momentum: ShareBelowOne = DEFAULT_MOMENTUM  # of sgd alone
    nesterov: bool = False  # of sgd alone
    weight_decay: NotNegative = 0.01
    schedule: Literal["cosine", "one-cycle", "constant"] = "cosine"
    warm_up: Share = 0.1
    max_grad_norm: MaxNorm = None  # a step's gradients are scaled down to it where their norm is larger
    label_smoothing: ShareBelowOne = 0.0
    # TET: (1 - tet_lambda) * mean over time of the cross-entropy + tet_lambda * mean squared distance to tet_mean.
    tet_lambda: Share = 0.0
    tet_mean: Number = 1.0
    # Of a quantized network's loss, the share of its distance to what the float baseline says of the same samples.
    distillation: Share = 0.5
    gate_loss_weight: NotNegative = 0.5
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    augment: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True, kw_only=True, slots=True)
class Supernet:
    """The training of the one network whose subnets are all configurations: see
    :mod:`spquant_search.training.supernet`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    # From the float baseline's weights, with its time steps; where fewer are drawn there are more, of as much work.
    epochs: Positive = 6
    learning_rate: Rate = 2e-3
    statistics_samples: Samples = 384  # of train, for the batch norm of a configuration
    validation_samples: Samples | None = None  # the first so many judge a subnet; None: all of validation


@dataclass(frozen=True, kw_only=True, slots=True)
class Final:
    """The fine-tuning of the front's members at the end, from their weights as subnets."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    members: Positive = 16  # at most, and besides those of the front such as may yet reach it
    epochs: Positive = 1
    learning_rate: Rate = 1e-3
    seeds: Positive = 1  # each is fine-tuned so often, and the most accurate of its networks kept
    train_gates: bool = False  # too: for fewer operations than those of what was evaluated as a subnet


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraints:
    """Budgets that a configuration must keep to be on the front; None where it does not matter."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    memory_bytes: MaxBytes = None  # at most; also written as 64KiB
    flash_bytes: MaxBytes = None  # at most: what a device keeps read-only, the engine's code included
    ram_bytes: MaxBytes = None  # at most: input frame, membranes, spikes between layers, and what layers work in
    effective_flops: MaxFlops = None  # at most, a sample over all time steps, 2 per MAC; also written as 60M
    synaptic_ops: MaxOperations = None  # at most, a sample over all time steps: non-zero inputs alone
    energy_uj: MaxMicrojoules = None  # at most, of a sample, as estimated at integer prices (runs/energy.py)
    accuracy: MinAccuracy = None  # at least, on the validation split, a fraction


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopping:
    """The rule by which a candidate is given up: see :mod:`spquant_search.driver.early_stopping`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    enabled: bool = True
    margin: Share = 0.01
    min_peers: Positive = 5
    optimism: NotNegative = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """The size of the search, its sampler and workers, and the configurations that it tries first."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    # warm-start: every candidate is trained, from the float baseline's weights; scratch: from random ones. supernet:
    # candidates are evaluated as subnets of one supernet, and the front's members fine-tuned.
    strategy: Literal["supernet", "warm-start", "scratch"] = "warm-start"
    # The accuracy, and one or two of the costs of spquant_search.space.objectives. What is none of them is a column and
    # may be bounded under constraints.
    objectives: Objectives = (ACCURACY, *DEFAULT_COSTS)
    trials: Positive = 24
    workers: Workers = 2
    # After which a trial is given up as failed (its trainer hangs, or shares its core with too much); None: never. The
    # baseline and the supernet, without which there is no search, have no limit.
    minutes_per_trial: Minutes | None = None
    seed: Seed = 0
    sampler: Literal["grey-box", "tpe", "nsga2", "random"] = "grey-box"
    startup_trials: Positive = 10
    stopping: Stopping = field(default_factory=Stopping)
    # Tried first, one value a parameter for all layers (a layer without such a parameter ignores it); or a preset, such
    # as {preset: quant-snn}, beside which {preset: quant-snn, weight_bits: 4} replaces one of its values.
    references: Annotated[tuple[dict[str, Any], ...], BeforeValidator(refuse_many)] = ()
    # Only where candidates are evaluated as subnets: configurations that should lose least at so many memory budgets,
    # tried after the references (spquant_search.runs.budget_ladder); 0: none. None: LADDER_POINTS where the strategy is
    # supernet, otherwise 0.
    budget_ladder: LadderPoints | None = None

    @property
    def costs(self) -> tuple[str, ...]:
        """The objectives beside the accuracy."""
        return self.objectives[1:]

    @property
    def ladder_points(self) -> int:
        """The configurations of the ladder."""
        if self.budget_ladder is None:
            return LADDER_POINTS if self.strategy == "supernet" else 0
        return self.budget_ladder


@dataclass(frozen=True, kw_only=True, slots=True)
class SpaceFile:
    """Everything that a space file says, checked as far as that goes without its network."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    data: DataSpace
    time_steps: TimeSteps
    model: ModelSpace
    layers: dict[str, LayerChoices]
    neuron: NeuronSpace = field(default_factory=NeuronSpace)
    train: Training = field(default_factory=Training)
    supernet: Supernet = field(default_factory=Supernet)
    final: Final = field(default_factory=Final)
    constraints: Constraints = field(default_factory=Constraints)
    search: Search = field(default_factory=Search)

    @property
    def most_time_steps(self) -> int:
        """The largest number of time steps: that of the frames, which fewer steps sum, and of the float baseline."""
        return self.time_steps[-1]

    @property
    def mean_drawn_steps(self) -> float:
        """The time steps of a supernet's batch on the mean: every number of steps is drawn for equal work."""
        return statistics.harmonic_mean(self.time_steps)

    @property
    def supernet_epochs(self) -> int:
        """The epochs of the supernet: more than ``supernet.epochs``, of as much work, where fewer steps are drawn."""
        return round(self.supernet.epochs * self.most_time_steps / self.mean_drawn_steps)
