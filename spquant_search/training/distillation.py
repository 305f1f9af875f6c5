"""The float network as a teacher: quantized networks learn its class probabilities, beside learning the labels.

This is distillation (Hinton et al., 2015), from logits averaged over time.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from spquant_search.runs.files import write_bytes
from spquant_search.snn.constants import Constants, constants_kept
from spquant_search.training.loader import DeviceSplit, LoadedSplit, evaluation_batches
from spquant_search.training.loop import Lesson
from spquant_search.training.precision import exact_fp32


class FloatTeacher:
    """A :class:`spquant_search.training.loop.StepHook` that gives the logits of ``network``, which must not change."""

    def __init__(self, network: nn.Module, training: LoadedSplit, *, varied: bool, weights: Path | None = None) -> None:
        """Make a teacher; ``varied``: samples are augmented, so that the logits differ from epoch to epoch.

        Otherwise they are kept beside ``weights``, the file that the network is from, for the next process.
        """
        self._network, self._time_steps = network.eval(), training.time_steps
        self._constants = Constants()
        self._logits = None if varied else self._all_logits(training, weights)

    def __call__(self, batch: DeviceSplit, chosen: Int[Tensor, " batch"]) -> Lesson:
        """Return ``batch``, which holds the samples ``chosen`` of training, with the logits, means over time.

        They are those of the float network's own time steps, whatever the steps of the batch.
        """
        logits = self._evaluate(batch) if self._logits is None else self._logits[chosen]
        return Lesson(batch, logits)

    def _all_logits(self, training: LoadedSplit, weights: Path | None) -> Float[Tensor, "sample classes"]:
        known = None if weights is None else _kept_logits(weights, training)
        if known is not None:
            return known
        logits = torch.cat([self._evaluate(batch) for batch in evaluation_batches(training)])
        if weights is not None:
            content = save({"logits": logits.cpu()}, metadata={"weights": _digest(weights)})
            write_bytes(logits_of(weights), content)
        return logits

    @torch.no_grad()
    def _evaluate(self, batch: DeviceSplit) -> Float[Tensor, "batch classes"]:
        shown = replace(batch, time_steps=self._time_steps)
        with exact_fp32(), constants_kept(self._constants):
            logits: Tensor = self._network(shown.spikes(torch.float32).repeated())
        return logits.mean(dim=0)


def logits_of(weights: Path) -> Path:
    """Return the file beside these weights in which their network's logits are kept."""
    return weights.with_suffix(".logits")


def _kept_logits(weights: Path, training: LoadedSplit) -> Float[Tensor, "sample classes"] | None:
    """Read the logits kept beside ``weights``; None if there are none, or they are of other weights or samples."""
    try:
        with safe_open(logits_of(weights), framework="pt", device=str(training.device)) as file:
            logits: Tensor = file.get_tensor("logits")
            is_of_these = file.metadata() == {"weights": _digest(weights)}
    except (OSError, SafetensorError):
        return None
    return logits if is_of_these and len(logits) == len(training) else None


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
