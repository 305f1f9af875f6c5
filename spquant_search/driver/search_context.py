"""The parts of one search that its stages and its trials share."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from spquant_search.driver.limits import Limits
from spquant_search.driver.storage.protocol import Storage
from spquant_search.driver.study import Study
from spquant_search.processes import available_cores
from spquant_search.runs.events import Watcher
from spquant_search.runs.folder import RunFolder, weights_draft
from spquant_search.space.schema import SpaceFile
from spquant_search.training.prepared import Prepared
from spquant_search.workers.pool import TrainerPool


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchContext:
    """The space, the run's folder and study, the trainers, the limits, and whoever watches."""

    prepared: Prepared
    folder: RunFolder
    storage: Storage
    study: Study
    pool: TrainerPool
    limits: Limits
    watcher: Watcher
    name: str = field(default_factory=lambda: secrets.token_hex(8))  # of this coordinator, unlike any other's

    @property
    def file(self) -> SpaceFile:
        return self.prepared.space.file

    @property
    def uses_supernet(self) -> bool:
        """Whether candidates are evaluated as subnets of a supernet instead of being trained."""
        return self.file.search.strategy == "supernet" and self.limits.trials > 0

    @property
    def all_threads(self) -> int:
        """The threads of a network from which all others start: while it is trained, the other trainers are idle."""
        return min(len(self.pool), available_cores())

    def weights_draft(self, number: int) -> Path:
        """Return the file to which a trainer writes the weights of a trial.

        Where another coordinator may have taken the trial over, it is one of this coordinator's own.
        """
        folder = self.folder
        return weights_draft(folder, number, self.name) if self.storage.is_shared else folder.weights_file(number)
