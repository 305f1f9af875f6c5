"""The float network as a teacher: quantized networks learn to say what it says, beside learning the labels.

Distillation (Hinton et al., 2015): the classes' probabilities are imitated, from logits averaged over time.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from spquant_search.batches import Recordings, Samples
from spquant_search.train import EVALUATION_BATCH


class FloatTeacher:
    """``network``, which must be left alone from now on, as a :class:`spquant_search.train.Lesson`."""

    def __init__(self, network: nn.Module, training: Samples, *, varied: bool) -> None:
        """``varied``: samples are augmented, so that the answers are not the same in every epoch."""
        self._network = network.eval()
        known = None if varied else [self._ask(batch) for batch in training.batches(EVALUATION_BATCH)]
        self._answers = None if known is None else torch.cat(known)

    def __call__(self, batch: Recordings, chosen: Int[Tensor, " batch"]) -> Float[Tensor, "batch classes"]:
        """The logits, means over time, of ``batch``, which are the samples ``chosen`` of training."""
        return self._ask(batch) if self._answers is None else self._answers[chosen.to(batch.device)]

    @torch.no_grad()
    def _ask(self, batch: Recordings) -> Float[Tensor, "batch classes"]:
        logits: Tensor = self._network(batch.spikes(torch.float32).repeated())
        return logits.mean(dim=0)
