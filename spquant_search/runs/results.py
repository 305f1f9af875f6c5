"""A trial's result: its learning curve, its outcome, its figures. Plain values, without torch or Optuna."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from spquant_search.costs.device import Footprint
from spquant_search.costs.memory import FLOPS_PER_MAC, CostReport
from spquant_search.space.configuration import BY_NAME, NetworkConfig

BASELINE = 0  # the number of the float baseline's trial


class Origin(StrEnum):
    """Who asked for a trial: the plan of a search, or the sampler that proposed it."""

    BASELINE = "baseline"
    REFERENCE = "reference"
    BUDGET_LADDER = "budget ladder"
    FINE_TUNED = "fine-tuned"
    GREY_BOX = "grey-box"
    TPE = "tpe"
    NSGA2 = "nsga2"
    RANDOM = "random"


class Outcome(Enum):
    """The ways in which a trial ends, as sentences for people; files and the study hold the member's name."""

    COMPLETE = "trained to its last epoch"
    SUBNET = "evaluated as a subnet of the supernet"
    STOPPED = "stopped early"
    DUPLICATE = "same configuration as an earlier trial"
    DIVERGED = "the loss became infinite or not a number"
    FAILED = "its trainer died, raised an error or took too long"
    OVER_BUDGET = "over budget, known before any training"

    @property
    def has_weights(self) -> bool:
        """True where the trial left a network that can be deployed: only such trials are points of a front."""
        return self in (Outcome.COMPLETE, Outcome.SUBNET)

    @property
    def is_tried(self) -> bool:
        """True where something was trained or evaluated: a search's limit on trials counts such trials alone."""
        return self not in (Outcome.DUPLICATE, Outcome.OVER_BUDGET)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Stand in documents by the member's name."""
        return core_schema.no_info_after_validator_function(
            lambda name: cls[name],
            core_schema.literal_schema(list(cls.__members__)),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda outcome: outcome.name),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerActivity:
    """One layer's activity on the evaluation split, per sample and over all time steps."""

    effective_macs: float
    synaptic_ops: float
    density: float  # spikes per neuron and time step; of a subnet: 0
    open_share: float  # channels left open by the gate; 1 without one


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochMetrics:
    """One rung of a trial, measured on the validation split in the one defined form of evaluation.

    A rung is a finished epoch of training; rung 0 is what was evaluated as a subnet before any.
    """

    epoch: int
    loss: float | None  # mean training loss of the epoch; None at rung 0
    accuracy: float
    effective_macs: float  # per sample, all time steps, gate predictors included
    synaptic_ops: float
    density: float  # spikes per neuron and time step over the whole network
    seconds: float
    samples: int | None = None  # of the validation split, the first so many measured it; None: all of them
    energy_uj: float | None = None  # of a sample, at the integer prices of spquant_search.runs.energy; None: unknown

    @property
    def effective_flops(self) -> float:
        return self.effective_macs * FLOPS_PER_MAC

    def measured(self, cost: str) -> float:
        """Return a cost that is measured at every rung; not a number where it is unknown."""
        value = getattr(self, cost)
        return float("nan") if value is None else float(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class FineTuning:
    """The fine-tuning of a front's member at the end, with several seeds from the same weights.

    Accuracies are fractions; mean and standard deviation (n - 1) are over the seeds, None where too few have finished.
    """

    epochs: int
    seeds: int  # that finished
    validation_mean: float | None
    validation_std: float | None
    test_mean: float | None
    test_std: float | None
    improved: bool  # whether a seed's weights were kept; otherwise none was better, and the member keeps its own
    weights: str | None = None  # the file in the run's folder that holds them; None: the trial's own
    test_accuracy: float | None = None  # of those weights; None: among the run's others, if at all

    def figures(self) -> dict[str, float | None]:
        """Return the figures that front.json has."""
        names = ("epochs", "seeds", "validation_mean", "validation_std", "test_mean", "test_std")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialResult:
    """One configuration, trained. ``reason`` says why it ended so, naming the trial that beat it if one did."""

    number: int
    origin: Origin
    config: NetworkConfig
    seed: int
    outcome: Outcome
    reason: str
    epochs: tuple[EpochMetrics, ...]
    weight_bytes: int
    membrane_bytes: int
    overhead_bytes: int
    paper_total_bytes: int
    dense_macs: int  # per sample, all time steps
    engine_flash_bytes: int | None = None  # of the C engine that runs it on a device; None where floats are kept
    engine_ram_bytes: int | None = None
    layers: Annotated[tuple[tuple[str, LayerActivity], ...], BY_NAME] = ()
    seconds: float = 0.0
    parent: int | None = None  # the trial that evaluated this configuration as a subnet, where this trial fine-tunes it
    final: FineTuning | None = None  # once it was fine-tuned with several seeds

    @property
    def is_candidate(self) -> bool:
        """True where it tries a new configuration: it is no baseline, and fine-tunes no earlier trial."""
        return self.origin is not Origin.BASELINE and self.parent is None

    @property
    def is_trained(self) -> bool:
        """True where its network was trained at its own configuration; a subnet is used as the supernet left it."""
        return self.outcome is Outcome.COMPLETE

    @property
    def has_integer_form(self) -> bool:
        """True where a device can run it: it keeps no floating point, and its network has a form in integers."""
        return self.engine_flash_bytes is not None

    @property
    def trained_epochs(self) -> int:
        """Epochs of training of its own; what was evaluated as a subnet before them does not count."""
        return self.epochs[-1].epoch if self.epochs else 0

    @property
    def memory_bytes(self) -> int:
        return self.weight_bytes + self.membrane_bytes + self.overhead_bytes

    @property
    def is_measured(self) -> bool:
        """True where accuracy and effective MACs are numbers."""
        return math.isfinite(self.accuracy) and math.isfinite(self.effective_macs)

    @property
    def accuracy(self) -> float:
        """Validation accuracy of the last epoch, a fraction; not a number where no epoch was finished."""
        return self.epochs[-1].accuracy if self.epochs else float("nan")

    @property
    def effective_macs(self) -> float:
        return self.epochs[-1].effective_macs if self.epochs else float("nan")

    @property
    def flash_bytes(self) -> int | None:
        """Bytes that a device keeps read-only: everything but the membranes, and the engine's code."""
        if self.engine_flash_bytes is None:
            return None
        return self.weight_bytes + self.overhead_bytes + self.engine_flash_bytes

    @property
    def ram_bytes(self) -> int | None:
        """Bytes of a device's memory: input frame, membranes, spikes between layers, and what layers work in."""
        return None if self.engine_ram_bytes is None else self.membrane_bytes + self.engine_ram_bytes

    @property
    def effective_flops(self) -> float:
        return self.effective_macs * FLOPS_PER_MAC

    @property
    def synaptic_ops(self) -> float:
        return self.epochs[-1].synaptic_ops if self.epochs else float("nan")

    @property
    def energy_uj(self) -> float:
        """The microjoules of a sample, estimated at integer prices."""
        return self.epochs[-1].measured("energy_uj") if self.epochs else float("nan")

    @property
    def density(self) -> float:
        return self.epochs[-1].density if self.epochs else float("nan")


def unmeasured(  # noqa: PLR0913 - one parameter a field
    *,
    number: int,
    origin: Origin,
    config: NetworkConfig,
    seed: int,
    cost: CostReport,
    device: Footprint | None,
    outcome: Outcome,
    reason: str,
) -> TrialResult:
    """Return the result of a trial before (or without) any epoch: only what is known beforehand."""
    return TrialResult(
        number=number,
        origin=origin,
        config=config,
        seed=seed,
        outcome=outcome,
        reason=reason,
        epochs=(),
        weight_bytes=cost.weight_bytes,
        membrane_bytes=cost.membrane_bytes,
        overhead_bytes=cost.overhead_bytes,
        paper_total_bytes=cost.paper_total_bytes,
        dense_macs=cost.dense_macs_all_steps,
        engine_flash_bytes=None if device is None else device.engine_flash,
        engine_ram_bytes=None if device is None else device.engine_ram,
    )
