"""Training and evaluation of one network. Knows neither Optuna nor pruning: to stop, do not ask for the next epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from spquant_search.augment import augmented
from spquant_search.batches import Recordings, Samples
from spquant_search.results import EpochMetrics, LayerActivity
from spquant_search.snn.layers import measured, searchable_layers
from spquant_search.space import Training
from spquant_search.timing import PROCESS

EVALUATION_BATCH = 250


class Diverged(Exception):
    """The loss or a weight became infinite or not a number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How long and how fast: the part of the recipe in which baseline and candidates differ."""

    epochs: int
    learning_rate: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What a network does on a split, in the one defined form of evaluation."""

    accuracy: float
    layers: tuple[tuple[str, LayerActivity], ...]
    neurons: tuple[int, ...]  # of each layer, the weights of the mean density

    @property
    def effective_macs(self) -> float:
        return sum(activity.effective_macs for _, activity in self.layers)

    @property
    def synaptic_ops(self) -> float:
        return sum(activity.synaptic_ops for _, activity in self.layers)

    @property
    def density(self) -> float:
        spikes = sum(activity.density * count for (_, activity), count in zip(self.layers, self.neurons, strict=True))
        return spikes / max(sum(self.neurons), 1)


def tet_loss(
    logits: Float[Tensor, "time batch classes"], labels: Int[Tensor, " batch"], *, tet_lambda: float, tet_mean: float
) -> Float[Tensor, ""]:
    """Temporal efficient training (Deng et al., ICLR 2022, eq. 10 to 12).

    (1 - lambda) * mean over time of the cross-entropy + lambda * mean squared distance of every logit to ``tet_mean``.
    """
    repeated = labels.repeat(logits.shape[0])
    entropy = F.cross_entropy(logits.flatten(0, 1), repeated)
    if tet_lambda == 0.0:
        return entropy
    spread = (logits - tet_mean).square().mean()
    return (1.0 - tet_lambda) * entropy + tet_lambda * spread


def rate_at(step: int, *, steps: int, warm_up: float) -> float:
    """The share of the full learning rate at ``step`` of 0 .. ``steps`` - 1.

    Linear from 0 (exclusive) over the warm-up, of one step at least, then a half cosine that reaches 0 at ``steps``.
    """
    rising = max(1, round(steps * warm_up))
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def train(
    network: nn.Module,
    *,
    training: Samples,
    validation: Samples,
    recipe: Training,
    schedule: Schedule,
    seed: int,
) -> Iterator[tuple[EpochMetrics, Evaluation]]:
    """Train ``network`` in place, one epoch each time the next value is asked for.

    Equal seeds give equal results on one machine with an equal number of threads.
    Raises:
        Diverged: after an epoch its loss or a weight is not finite.
    """
    optimizer = _optimizer(network, recipe, schedule)
    # Whole batches; a split smaller than one is a batch of its own.
    batches = max(1, len(training) // recipe.batch_size)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(schedule.epochs):
        started = time.perf_counter()
        network.train()
        total = torch.zeros((), device=training.device)
        order = torch.randperm(len(training), generator=generator)[: batches * recipe.batch_size]
        with PROCESS.on("training"):
            for index, batch in enumerate(training.batches(recipe.batch_size, order=order)):
                share = rate_at(epoch * batches + index, steps=schedule.epochs * batches, warm_up=recipe.warm_up)
                _set_rate(optimizer, schedule.learning_rate * share)
                varied = replace(batch, frames=augmented(batch.frames, recipe.augment, seed=(seed, epoch, index)))
                total += _train_step(network, varied, recipe, optimizer)
        loss = float(total) / batches
        _raise_if_diverged(network, epoch + 1, loss)
        with PROCESS.on("evaluation"):
            evaluation = evaluate(network, validation)
        yield _metrics(epoch + 1, loss, evaluation, time.perf_counter() - started), evaluation


def _raise_if_diverged(network: nn.Module, epoch: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise Diverged(f"the mean loss of epoch {epoch} is {loss}")
    # A neuron whose potential is not a number never spikes, so that a broken layer leaves the loss finite.
    for name, values in network.state_dict().items():
        if not bool(values.isfinite().all()):
            raise Diverged(f"after epoch {epoch}, {name} is not finite")


def _metrics(epoch: int, loss: float, evaluation: Evaluation, seconds: float) -> EpochMetrics:
    return EpochMetrics(
        epoch=epoch,
        loss=loss,
        accuracy=evaluation.accuracy,
        effective_macs=evaluation.effective_macs,
        synaptic_ops=evaluation.synaptic_ops,
        density=evaluation.density,
        seconds=seconds,
    )


def _optimizer(network: nn.Module, recipe: Training, schedule: Schedule) -> torch.optim.Optimizer:
    """AdamW; only matrices and kernels decay, as scales, offsets and gates have no size to be kept small."""
    decayed = [parameter for name, parameter in network.named_parameters() if _decays(name, parameter)]
    kept = [parameter for name, parameter in network.named_parameters() if not _decays(name, parameter)]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate)


def _decays(name: str, parameter: Tensor) -> bool:
    return parameter.dim() > 1 and ".gate." not in name


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _train_step(network: nn.Module, batch: Recordings, recipe: Training, optimizer: torch.optim.Optimizer) -> Tensor:
    device = batch.device
    dtype = training_dtype(recipe, device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        logits = network(batch.spikes(dtype))
    loss = tet_loss(logits, batch.labels, tet_lambda=recipe.tet_lambda, tet_mean=recipe.tet_mean)
    layers = searchable_layers(network).values()
    gates = [layer.gate_loss for layer in layers if layer.gate_loss is not None]
    if gates:
        loss = loss + recipe.gate_loss_weight * torch.stack(gates).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def training_dtype(recipe: Training, device: torch.device) -> torch.dtype:
    """bf16 where the processor multiplies it natively, unless the recipe says otherwise."""
    if recipe.precision == "auto":
        gains = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_multiplies_bf16()
        return torch.bfloat16 if gains else torch.float32
    return torch.bfloat16 if recipe.precision == "bf16" else torch.float32


def _cpu_multiplies_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def exact_fp32() -> AbstractContextManager[None]:
    """fp32 as it is: TensorFloat-32 would round the sums of integers."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


@torch.inference_mode()
def evaluate(network: nn.Module, recordings: Samples) -> Evaluation:
    """Accuracy and activity on a split. The lowest class index wins a tie, as on the device."""
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=recordings.device)
    with measured(network) as activities, exact_fp32():
        for batch in recordings.batches(EVALUATION_BATCH):
            logits = network(batch.spikes(torch.float32).repeated())
            predictions = logits.sum(dim=0).argmax(dim=1)
            correct += (predictions == batch.labels).sum()
    layers = tuple((name, activity.per_sample()) for name, activity in activities.items())
    neurons = tuple(round(activity.total("neuron_steps")) for activity in activities.values())
    return Evaluation(accuracy=int(correct) / max(len(recordings), 1), layers=layers, neurons=neurons)
