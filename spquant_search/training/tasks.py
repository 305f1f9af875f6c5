"""What a trainer can be given to do. No torch here, so that a coordinator does without it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spquant_search.runs.results import TrialResult
from spquant_search.space.configuration import NetworkConfig
from spquant_search.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A configuration to train, with everything that is known before it is."""

    result: TrialResult  # as far as known beforehand
    schedule: Schedule
    initial_weights: tuple[Path, ...]  # a later file replaces parts of an earlier one; none: from the seed
    weights_file: Path
    checkpoint_file: Path | None = None  # where it stands after its latest epoch; by default beside the weights
    teacher_weights: Path | None = None  # of the float network to imitate
    threads: int = 1  # on a processor


@dataclass(frozen=True, kw_only=True, slots=True)
class SupernetTask:
    """The one network to train for every configuration of the space, from the float baseline's weights."""

    schedule: Schedule
    seed: int
    initial_weights: Path
    weights_file: Path
    threads: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class SubnetTask:
    """A configuration to evaluated as subnets of the supernet; ``weights_file`` gets its own statistics alone."""

    result: TrialResult
    supernet_weights: Path
    weights_file: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuraciesTask:
    """Configurations whose accuracy is all that is wanted of the supernet; they are no trials."""

    configs: tuple[NetworkConfig, ...]
    supernet_weights: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class TestTask:
    """A trained configuration to be measured on the test split."""

    __test__ = False  # not a test case, whatever pytest makes of the name
    number: int
    config: NetworkConfig
    weights: tuple[Path, ...]
