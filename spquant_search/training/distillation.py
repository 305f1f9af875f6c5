"""The float network as a teacher: quantized networks learn to say what it says, beside learning the labels.

Distillation (Hinton et al., 2015): the classes' probabilities are imitated, from logits averaged over time.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from spquant_search.runs.files import write_bytes
from spquant_search.training.evaluation import EVALUATION_BATCH
from spquant_search.training.loader import DeviceSplit, LoadedSplit


class FloatTeacher:
    """``network``, which must be left alone from now on, as a :class:`spquant_search.training.loop.StepHook`."""

    def __init__(self, network: nn.Module, training: LoadedSplit, *, varied: bool, weights: Path | None = None) -> None:
        """``varied``: samples are augmented, so that the answers are not the same in every epoch.

        Otherwise they are kept beside ``weights``, the file that the network is from, for whoever asks next.
        """
        self._network = network.eval()
        self._answers = None if varied else self._all_answers(training, weights)

    def __call__(self, batch: DeviceSplit, chosen: Int[Tensor, " batch"]) -> Float[Tensor, "batch classes"]:
        """The logits, means over time, of ``batch``, which are the samples ``chosen`` of training."""
        return self._ask(batch) if self._answers is None else self._answers[chosen.to(batch.device)]

    def _all_answers(self, training: LoadedSplit, weights: Path | None) -> Float[Tensor, "sample classes"]:
        known = None if weights is None else _kept_logits(weights, training)
        if known is not None:
            return known
        answers = torch.cat([self._ask(batch) for batch in training.batches(EVALUATION_BATCH)])
        if weights is not None:
            content = save({"logits": answers.cpu()}, metadata={"weights": _digest(weights)})
            write_bytes(logits_of(weights), content)
        return answers

    @torch.no_grad()
    def _ask(self, batch: DeviceSplit) -> Float[Tensor, "batch classes"]:
        logits: Tensor = self._network(batch.spikes(torch.float32).repeated())
        return logits.mean(dim=0)


def logits_of(weights: Path) -> Path:
    """Where the answers of the network with these weights lie, once it has been asked."""
    return weights.with_suffix(".logits")


def _kept_logits(weights: Path, training: LoadedSplit) -> Float[Tensor, "sample classes"] | None:
    """None where there are none, or of other weights or samples."""
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
