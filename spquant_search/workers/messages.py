"""The messages between trainers and the coordinator. No torch here, so that the coordinator does without it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from spquant_search.runs.results import EpochMetrics, TrialResult
from spquant_search.space.search_space import SearchSpace
from spquant_search.training.device_memory import USUAL_BATCHES, BatchSizes
from spquant_search.workers.placement import Gpu


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerConfig:
    """The values that a trainer is given when it starts."""

    space: SearchSpace
    device: str  # cpu or cuda
    cache: Path  # the folder of prepared data and compiled code
    gpus: tuple[Gpu, ...] = ()  # that trainers take, going around; in the config of one trainer its own alone
    sharers: int = 1  # trainers of this command on its device, itself among them
    compilers: int | None = None  # processes that it compiles with at once, at most; None: as torch chooses
    together: BatchSizes = USUAL_BATCHES

    def of_trainer(self, number: int, *, trainers: int, cores: int) -> TrainerConfig:
        """Return the config of one of so many trainers, counted from 0, on a machine of so many cores."""
        seats = [self.gpus[i % len(self.gpus)] if self.gpus else None for i in range(trainers)]
        own = seats[number]
        return replace(
            self,
            gpus=() if own is None else (own,),
            sharers=seats.count(own),
            compilers=max(1, cores // trainers),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """A trainer finished an epoch of a trial, and waits for the answer: None to go on, otherwise why to stop."""

    metrics: EpochMetrics


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A trial ended, trained or evaluated as a subnet."""

    result: TrialResult
    seconds: dict[str, float]  # where all of the trainer's went until now, by activity


@dataclass(frozen=True, kw_only=True, slots=True)
class Tested:
    """A trained configuration was measured on the test split; ``seconds`` as in :class:`Trained`."""

    number: int  # of the trial
    accuracy: float  # a fraction
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracies:
    """Subnets of the supernet were evaluated that are no trials; ``seconds`` as in :class:`Trained`."""

    accuracies: tuple[float, ...]  # fractions, in the order of the task's configurations
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class SupernetProgress:
    """The supernet finished an epoch. After the last one its weights are yet to be written."""

    epoch: int  # counted from 1
    seconds: float  # of this epoch


@dataclass(frozen=True, kw_only=True, slots=True)
class SupernetTrained:
    """The supernet's weights are written; ``seconds`` as in :class:`Trained`."""

    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """A task raised an error, or its trainer died."""

    reason: str
    detail: str = ""  # the traceback of an error that is a bug
    died: bool = False
    late: bool = False  # the task took longer than its limit


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerWarning:
    """A sentence for people, such as that neurons could not be compiled; the task goes on."""

    text: str


Message = Epoch | Trained | Tested | Accuracies | SupernetProgress | SupernetTrained | Failed | TrainerWarning
