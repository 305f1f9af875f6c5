"""The losses of a training step."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def tet_loss(
    logits: Float[Tensor, "time batch classes"],
    labels: Int[Tensor, " batch"],
    *,
    tet_lambda: float,
    tet_mean: float,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Return the loss of temporal efficient training (Deng et al., ICLR 2022, eq. 10 to 12).

    (1 - lambda) * mean over time of the cross-entropy + lambda * mean squared distance of every logit to ``tet_mean``.
    The cross-entropy is that with a target of 1 - ``label_smoothing`` for the label and the rest for all classes alike.
    """
    repeated = labels.repeat(logits.shape[0])
    entropy = F.cross_entropy(logits.flatten(0, 1), repeated, label_smoothing=label_smoothing)
    if tet_lambda == 0.0:
        return entropy
    spread = (logits - tet_mean).square().mean()
    return (1.0 - tet_lambda) * entropy + tet_lambda * spread


def imitation_loss(
    logits: Float[Tensor, "batch classes"], teacher_logits: Float[Tensor, "batch classes"]
) -> Float[Tensor, ""]:
    """Return the Kullback-Leibler divergence from the teacher's class probabilities, a mean over the batch.

    This is distillation (Hinton et al., 2015) at temperature 1.
    """
    given = F.log_softmax(teacher_logits, dim=1)
    return F.kl_div(F.log_softmax(logits, dim=1), given, log_target=True, reduction="batchmean")
