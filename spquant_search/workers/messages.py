"""What trainers and the coordinator say to each other. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spquant_search.runs.results import EpochMetrics, TrialResult
from spquant_search.space.search_space import SearchSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerConfig:
    """What every trainer of a search needs to know once."""

    space: SearchSpace
    device: str
    cache: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """A trainer finished an epoch and waits for the answer."""

    metrics: EpochMetrics


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A trial ended; ``seconds`` is where the trainer's went until now."""

    result: TrialResult
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tested:
    """A configuration's accuracy on the test split; ``seconds`` as in :class:`Trained`."""

    number: int
    accuracy: float
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracies:
    """What a :class:`spquant_search.training.tasks.AccuraciesTask` asked for; ``seconds`` as in :class:`Trained`."""

    accuracies: tuple[float, ...]
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class SupernetProgress:
    """The supernet finished an epoch; at the last one its weights are about to be written."""

    epoch: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SupernetTrained:
    """The supernet's weights are written."""

    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """A task raised an error (with its traceback), or its trainer died."""

    reason: str
    detail: str = ""
    died: bool = False
    late: bool = False  # it was over its limit of time


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerWarning:
    """Something that people should know, such as neurons that could not be compiled; the task goes on."""

    text: str


Message = Epoch | Trained | Tested | Accuracies | SupernetProgress | SupernetTrained | Failed | TrainerWarning
