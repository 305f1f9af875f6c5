"""Training and evaluation of one network. Knows neither Optuna nor pruning: to stop, do not ask for the next epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional as F

from spquant_search.augment import augmented
from spquant_search.batches import Recordings, Samples
from spquant_search.errors import UserError
from spquant_search.profile import PROCESS
from spquant_search.runs.results import EpochMetrics, LayerActivity
from spquant_search.snn.gate import ChannelGate
from spquant_search.snn.layers import measured, searchable_layers
from spquant_search.space.schema import Final, Training

EVALUATION_BATCH = 250
GATE = ".gate."  # in the names of a gate's parameters
# Gates begin open, and a candidate has few epochs: at the network's own rate Adam, which moves a parameter by about the
# rate at each step, could not close a channel within them.
GATE_RATE = 3.0
# torch.optim.lr_scheduler.OneCycleLR's div_factor and final_div_factor
ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1 / 25e4
SMALLEST_LOSS_SCALE = 1.0  # below, gradients overflow fp16 though they were not enlarged


class Diverged(Exception):
    """The loss or a weight became infinite or not a number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How long, how fast, and what: the part of the recipe in which baseline, candidates and finalists differ."""

    epochs: int
    learning_rate: float
    trains_gates: bool = True

    @classmethod
    def of_finalists(cls, final: Final, *, epochs: int | None = None) -> Schedule:
        """That of fine-tuning what is on the front, for ``final.epochs`` or others.

        Unless ``final.train_gates``, the gates stay as they are, since a member is on the front for its operations as
        much as for its accuracy. Those of the shared network, which serve every threshold, move most: they open more
        channels than a low threshold asks for and fewer than a high one.
        """
        return cls(epochs=epochs or final.epochs, learning_rate=final.learning_rate, trains_gates=final.train_gates)


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
    logits: Float[Tensor, "time batch classes"],
    labels: Int[Tensor, " batch"],
    *,
    tet_lambda: float,
    tet_mean: float,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Temporal efficient training (Deng et al., ICLR 2022, eq. 10 to 12).

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
    logits: Float[Tensor, "batch classes"], imitated: Float[Tensor, "batch classes"]
) -> Float[Tensor, ""]:
    """Kullback-Leibler divergence of the classes' probabilities from those of ``imitated``, a mean over the batch.

    Distillation (Hinton et al., 2015) at temperature 1.
    """
    given = F.log_softmax(imitated, dim=1)
    return F.kl_div(F.log_softmax(logits, dim=1), given, log_target=True, reduction="batchmean")


def rate_at(
    step: int, *, steps: int, warm_up: float, schedule: Literal["cosine", "one-cycle", "constant"] = "cosine"
) -> float:
    """The share of the full learning rate at ``step`` of 0 .. ``steps`` - 1.

    ``cosine`` and ``constant``: linear from 0 (exclusive) over the warm-up, of one step at least, then a half cosine
    that reaches 0 at ``steps``, or 1 to the end. ``one-cycle`` (Smith and Topin, 2018; the values of torch's
    OneCycleLR): a half cosine from 1/25 up to 1 over the warm-up, and one down to 1/250000 at the last step.
    """
    if schedule == "one-cycle":
        return _one_cycle(step, steps=steps, warm_up=warm_up)
    rising = max(1, round(steps * warm_up))
    if step < rising:
        return (step + 1) / (rising + 1)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _one_cycle(step: int, *, steps: int, warm_up: float) -> float:
    top, last = steps * warm_up - 1.0, steps - 1.0
    if step <= top:
        return _half_cosine(ONE_CYCLE_START, 1.0, step / top if top > 0.0 else 1.0)
    return _half_cosine(1.0, ONE_CYCLE_END, (step - top) / (last - top))


def _half_cosine(begin: float, end: float, share: float) -> float:
    return end + 0.5 * (begin - end) * (1.0 + math.cos(math.pi * share))


@dataclass(slots=True)
class Progress:
    """How far a training has come, and what it holds besides the network's weights: enough to go on from there."""

    epochs: int = 0
    optimizer: dict[str, Any] | None = None
    scaler: dict[str, Any] | None = None


def train(  # noqa: PLR0913 - a network, two splits, and how to train
    network: nn.Module,
    *,
    training: Samples,
    validation: Samples,
    recipe: Training,
    schedule: Schedule,
    seed: int,
    lesson: Lesson | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[EpochMetrics, Evaluation]]:
    """Train ``network`` in place, one epoch each time the next value is asked for.

    Equal seeds give equal results on one machine with an equal number of threads, also where a training goes on from
    the ``progress``, and the weights, of an earlier one. That is brought up to date after every epoch.
    Raises:
        Diverged: after an epoch its loss or a weight is not finite, or its gradients are too large for fp16.
        UserError: the recipe asks for a precision that the device does not have.
    """
    started = time.perf_counter()
    progress = Progress() if progress is None else progress
    losses = epoch_losses(
        network, training=training, recipe=recipe, schedule=schedule, seed=seed, lesson=lesson, progress=progress
    )
    for epoch, loss in enumerate(losses, start=progress.epochs + 1):
        with PROCESS.on("evaluation"):
            evaluation = evaluate(network, validation)
        yield epoch_metrics(epoch, loss, evaluation, time.perf_counter() - started), evaluation
        started = time.perf_counter()


class Lesson(Protocol):
    """What is done to a network before a step of its training."""

    def __call__(self, batch: Recordings, chosen: Int[Tensor, " batch"]) -> Float[Tensor, "batch classes"] | None:
        """Set the network's precision, if it changes; logits to imitate on ``batch``, the samples ``chosen``."""
        ...


def epoch_losses(
    network: nn.Module,
    *,
    training: Samples,
    recipe: Training,
    schedule: Schedule,
    seed: int,
    lesson: Lesson | None = None,
    progress: Progress | None = None,
) -> Iterator[float]:
    """As :func:`train`, without any evaluation: the mean loss of each epoch."""
    progress = Progress() if progress is None else progress
    for module in network.modules():
        if isinstance(module, ChannelGate):
            module.requires_grad_(schedule.trains_gates)
    optimizer = _optimizer(network, recipe, schedule)
    scaler = loss_scaler(recipe, training.device)
    if progress.optimizer is not None:
        optimizer.load_state_dict(progress.optimizer)
    if progress.scaler is not None and scaler is not None:
        scaler.load_state_dict(progress.scaler)
    # Whole batches; a split smaller than one is a batch of its own.
    batches = max(1, len(training) // recipe.batch_size)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(progress.epochs):
        torch.randperm(len(training), generator=generator)  # the orders of the epochs that are done
    for epoch in range(progress.epochs, schedule.epochs):
        network.train()
        total = torch.zeros((), device=training.device)
        order = torch.randperm(len(training), generator=generator)[: batches * recipe.batch_size]
        with PROCESS.on("training"), _seeded((seed, epoch), training.device):
            for index, batch in enumerate(training.batches(recipe.batch_size, order=order)):
                step, steps = epoch * batches + index, schedule.epochs * batches
                share = rate_at(step, steps=steps, warm_up=recipe.warm_up, schedule=recipe.schedule)
                _set_rate(optimizer, schedule.learning_rate * share)
                varied = replace(batch, frames=augmented(batch.frames, recipe.augment, seed=(seed, epoch, index)))
                chosen = order[index * recipe.batch_size : index * recipe.batch_size + len(batch)]
                imitated = None if lesson is None else lesson(varied, chosen)
                total += _train_step(network, varied, recipe, optimizer, scaler, imitated=imitated)
        loss = float(total) / batches
        _raise_if_diverged(network, epoch + 1, loss, scaler)
        progress.epochs, progress.optimizer = epoch + 1, optimizer.state_dict()
        progress.scaler = None if scaler is None else scaler.state_dict()
        yield loss


@contextmanager
def _seeded(seeds: tuple[int, ...], device: torch.device) -> Iterator[None]:
    """Modules of a user's own may draw at random in training, as dropout does: in this context from these seeds."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))
        yield


def _raise_if_diverged(network: nn.Module, epoch: int, loss: float, scaler: GradScaler | None) -> None:
    if not math.isfinite(loss):
        raise Diverged(f"the mean loss of epoch {epoch} is {loss}")
    # A neuron whose potential is not a number never spikes, so that a broken layer leaves the loss finite.
    for name, values in network.state_dict().items():
        if not bool(values.isfinite().all()):
            raise Diverged(f"after epoch {epoch}, {name} is not finite")
    # A step whose gradients are not finite is left out and the scale halved, so that the weights stay finite.
    if scaler is not None and scaler.get_scale() < SMALLEST_LOSS_SCALE:
        raise Diverged(f"in epoch {epoch}, gradients were not finite in fp16 at any scale of the loss")


def epoch_metrics(epoch: int, loss: float | None, evaluation: Evaluation, seconds: float) -> EpochMetrics:
    """A rung of a trial; ``loss`` None: nothing was trained for it."""
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
    """The recipe's; only matrices and kernels decay, as scales, offsets and gates have no size to be kept small."""
    decayed = [parameter for name, parameter in network.named_parameters() if _decays(name, parameter)]
    kept = [
        parameter for name, parameter in network.named_parameters() if not _decays(name, parameter) and GATE not in name
    ]
    gates = [parameter for name, parameter in network.named_parameters() if GATE in name]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay, "rate": 1.0},
        {"params": kept, "weight_decay": 0.0, "rate": 1.0},
        {"params": gates, "weight_decay": 0.0, "rate": GATE_RATE},
    ]
    # Of those on a GPU only the fused ones take GradScaler's steps without asking the device, and waiting for it.
    fused = True if all(parameter.is_cuda for parameter in network.parameters()) else None
    if recipe.optimizer == "sgd":
        rate, momentum, nesterov = schedule.learning_rate, recipe.momentum, recipe.nesterov
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=nesterov, fused=fused)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=schedule.learning_rate, fused=fused)


def _decays(name: str, parameter: Tensor) -> bool:
    return parameter.dim() > 1 and GATE not in name


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]


def _train_step(
    network: nn.Module,
    batch: Recordings,
    recipe: Training,
    optimizer: torch.optim.Optimizer,
    scaler: GradScaler | None = None,
    *,
    imitated: Float[Tensor, "batch classes"] | None = None,
) -> Tensor:
    device = batch.device
    dtype = training_dtype(recipe, device)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32):
        logits = network(batch.spikes(dtype))
    loss = tet_loss(
        logits,
        batch.labels,
        tet_lambda=recipe.tet_lambda,
        tet_mean=recipe.tet_mean,
        label_smoothing=recipe.label_smoothing,
    )
    if imitated is not None:
        imitation = imitation_loss(logits.mean(dim=0), imitated)
        loss = (1.0 - recipe.distillation) * loss + recipe.distillation * imitation
    layers = searchable_layers(network).values()
    gates = [layer.gate_loss for layer in layers if layer.gate_loss is not None]
    if gates:
        loss = loss + recipe.gate_loss_weight * torch.stack(gates).mean()
    optimizer.zero_grad(set_to_none=True)
    _descend(network, loss, optimizer, scaler, max_grad_norm=recipe.max_grad_norm)
    return loss.detach()


def _descend(
    network: nn.Module,
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    scaler: GradScaler | None,
    *,
    max_grad_norm: float | None,
) -> None:
    """One step of the optimizer, on gradients of at most the norm that the recipe allows."""
    scaled = loss if scaler is None else scaler.scale(loss)
    scaled.backward()  # type: ignore[no-untyped-call]
    if max_grad_norm is not None:
        if scaler is not None:
            scaler.unscale_(optimizer)  # the norm is that of the loss itself
        # A norm that is not finite makes weights that are not, which ends the trial after this epoch.
        nn.utils.clip_grad_norm_(network.parameters(), max_grad_norm)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()


def training_dtype(recipe: Training, device: torch.device) -> torch.dtype:
    """bf16 where the processor multiplies it natively, unless the recipe says otherwise.

    Raises:
        UserError: fp16 without a GPU.
    """
    if recipe.precision == "auto":
        gains = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_multiplies_bf16()
        return torch.bfloat16 if gains else torch.float32
    if recipe.precision == "fp16" and device.type != "cuda":
        raise UserError(
            f"train.precision: fp16 needs a GPU, and this training is on device {device}; take auto, bf16 or fp32"
        )
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[recipe.precision]


def loss_scaler(recipe: Training, device: torch.device) -> GradScaler | None:
    """What keeps small gradients from being 0 in fp16; other precisions need none."""
    return GradScaler(device.type) if training_dtype(recipe, device) is torch.float16 else None


def _cpu_multiplies_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def exact_fp32() -> AbstractContextManager[None]:
    """fp32 as it is: TensorFloat-32 would round the sums of integers."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


@torch.inference_mode()
def evaluate(network: nn.Module, recordings: Samples) -> Evaluation:
    """Accuracy and activity on a split. The lowest class index wins a tie, as on the device."""
    with measured(network) as activities:
        share = accuracy(network, recordings)
    layers = tuple((name, activity.per_sample()) for name, activity in activities.items())
    neurons = tuple(round(activity.total("neuron_steps")) for activity in activities.values())
    return Evaluation(accuracy=share, layers=layers, neurons=neurons)


@torch.inference_mode()
def accuracy(network: nn.Module, recordings: Samples) -> float:
    """The accuracy of :func:`evaluate` alone, in three quarters to half of its time, as no operation is counted."""
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=recordings.device)
    with exact_fp32():
        for batch in recordings.batches(EVALUATION_BATCH):
            correct += correctly_classified(network, batch)
    return int(correct) / max(len(recordings), 1)


def correctly_classified(network: nn.Module, batch: Recordings) -> Int[Tensor, ""]:
    """How many samples of a batch a network that evaluates classifies correctly."""
    logits: Tensor = network(batch.spikes(torch.float32).repeated())
    return (logits.sum(dim=0).argmax(dim=1) == batch.labels).sum()
