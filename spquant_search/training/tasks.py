"""The tasks that a trainer can be given. No torch here, so that a coordinator does without it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spquant_search.runs.results import TrialResult
from spquant_search.space.configuration import NetworkConfig
from spquant_search.training.schedule import Schedule


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """Train a configuration."""

    result: TrialResult  # as far as known beforehand
    schedule: Schedule
    initial_weights: tuple[Path, ...]  # a later file replaces parts of an earlier one; none: from the seed
    weights_file: Path
    checkpoint_file: Path | None = None  # its state after the latest epoch; by default beside the weights
    teacher_weights: Path | None = None  # of the float network to imitate
    threads: int = 1  # on a processor


@dataclass(frozen=True, kw_only=True, slots=True)
class SupernetTask:
    """Train the supernet, from the float baseline's weights."""

    schedule: Schedule
    seed: int
    initial_weights: Path
    weights_file: Path
    threads: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class SubnetTask:
    """Evaluate a configuration as a subnet of the supernet; only its statistics are written to ``weights_file``."""

    result: TrialResult
    supernet_weights: Path
    weights_file: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuraciesTask:
    """Measure the accuracies of configurations as subnets, without making trials of them."""

    configs: tuple[NetworkConfig, ...]
    supernet_weights: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeTask:
    """Measure a subnet, which a part of the validation split has judged, on all of it."""

    result: TrialResult
    weights: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TestTask:
    """Measure the accuracy of a trained configuration on the test split."""

    __test__ = False  # not a test case, whatever pytest makes of the name
    number: int
    config: NetworkConfig
    weights: tuple[Path, ...]
