"""The state of a trial that is being trained, in a file, so that it goes on after an interruption."""

from __future__ import annotations

import io
import pickle
from dataclasses import asdict, replace

import torch
from torch import nn

from spquant_search.runs.files import write_bytes
from spquant_search.runs.folder import checkpoint_of
from spquant_search.runs.results import EpochMetrics, LayerActivity, TrialResult
from spquant_search.training.loop import Progress
from spquant_search.training.tasks import Task


class Checkpoint:
    """A task's checkpoint file: weights, optimizer and metrics after an epoch that is not the last.

    The file says of which task it is, and is ignored by any other task.
    """

    def __init__(self, task: Task) -> None:
        self._file = task.checkpoint_file or checkpoint_of(task.weights_file)
        self._known = task.result
        begins_from = [file.name for file in task.initial_weights]
        self._of = repr((task.result.config, task.result.seed, task.schedule, begins_from))

    def write(self, network: nn.Module, progress: Progress, result: TrialResult) -> None:
        """Write the state after an epoch, in place of that of an earlier epoch."""
        content = io.BytesIO()
        document = {
            "of": self._of,
            "epochs": [asdict(epoch) for epoch in result.epochs],
            "layers": [[name, asdict(activity)] for name, activity in result.layers],
            "network": network.state_dict(),
            "progress": {name: getattr(progress, name) for name in ("epochs", "optimizer", "scaler")},
        }
        torch.save(document, content)
        write_bytes(self._file, content.getvalue())

    def read(self, network: nn.Module, device: torch.device) -> tuple[Progress, TrialResult] | None:
        """Put the weights into the network, and return the rest; None if there is no checkpoint of this task."""
        if not self._file.is_file():
            return None
        try:
            found = torch.load(self._file, map_location=device, weights_only=True)
        except (RuntimeError, ValueError, KeyError, EOFError, OSError, pickle.UnpicklingError):
            return None  # of another version, or damaged: the task begins from its start
        if found["of"] != self._of:
            return None
        network.load_state_dict(found["network"])
        epochs = tuple(EpochMetrics(**epoch) for epoch in found["epochs"])
        layers = tuple((name, LayerActivity(**activity)) for name, activity in found["layers"])
        return Progress(**found["progress"]), replace(self._known, epochs=epochs, layers=layers)

    def remove(self) -> None:
        """Delete the file, if there is one."""
        self._file.unlink(missing_ok=True)
