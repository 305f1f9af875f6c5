"""Train a network, epoch by epoch. Knows neither Optuna nor early stopping: to stop, ask for no further epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from spquant_search.profile import PROCESS
from spquant_search.runs.random_streams import Purpose, derived_seed, random_generator
from spquant_search.runs.results import EpochMetrics
from spquant_search.runs.work import samples_of_epoch
from spquant_search.snn.gate import channel_gates
from spquant_search.snn.layers import searchable_layers
from spquant_search.space.schema import Training
from spquant_search.training.augmentation import augmented
from spquant_search.training.evaluation import Evaluation, evaluate
from spquant_search.training.loader import DeviceSplit, LoadedSplit
from spquant_search.training.losses import imitation_loss, tet_loss
from spquant_search.training.optimizer import new_optimizer, set_rate
from spquant_search.training.precision import SMALLEST_LOSS_SCALE, exact_fp32, loss_scaler, training_dtype
from spquant_search.training.schedule import Schedule, rate_at


class Diverged(Exception):
    """The loss or a weight became infinite or not a number."""


class Lesson(NamedTuple):
    """What a step of training learns from."""

    batch: DeviceSplit
    teacher_logits: Float[Tensor, "batch classes"] | None = None


@runtime_checkable
class StepHook(Protocol):
    """A function that a training calls before each of its steps."""

    def __call__(self, batch: DeviceSplit, chosen: Int[Tensor, " batch"]) -> Lesson:
        """Set the network's precision, if it changes, and return the batch, perhaps at other time steps, with the
        teacher's logits of it, if there are any.

        ``chosen`` are the numbers of the batch's samples in the training split, on the batch's device.
        """
        ...


@dataclass(slots=True)
class Progress:
    """The state of a training besides the network's weights: enough to go on from there."""

    epochs: int = 0
    optimizer: dict[str, Any] | None = None
    scaler: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRun:
    """A network, the samples it is trained on, and how.

    The network is trained in place, from where ``progress`` is, which is brought up to date after every epoch.
    """

    network: nn.Module
    training: LoadedSplit
    recipe: Training
    schedule: Schedule
    seed: int
    step_hook: StepHook | None = None
    progress: Progress = field(default_factory=Progress)


def train(run: TrainingRun, validation: LoadedSplit) -> Iterator[tuple[EpochMetrics, Evaluation]]:
    """Train the run's network, one epoch each time the next value is asked for, and evaluate it on ``validation``.

    Equal seeds give equal results on one processor with an equal number of threads, also where a training goes on from
    the progress, and the weights, of an earlier one. On a GPU they do not: cumulative sums, by which gates learn, and
    cuDNN's gradients of weights add up in another order each time.

    Raises:
        Diverged: after an epoch its loss or a weight is not finite, or its gradients are too large for fp16.
        UserError: the recipe asks for a precision that the device does not have.
    """
    started = time.perf_counter()
    for epoch, loss in enumerate(epoch_losses(run), start=run.progress.epochs + 1):
        with PROCESS.on("evaluation"):
            evaluation = evaluate(run.network, validation)
        yield epoch_metrics(epoch, loss, evaluation, time.perf_counter() - started), evaluation
        started = time.perf_counter()


def epoch_losses(run: TrainingRun) -> Iterator[float]:
    """Train as :func:`train` does, without any evaluation, and yield the mean loss of each epoch."""
    for gate in channel_gates(run.network):
        gate.requires_grad_(run.schedule.trains_gates)
    optimizer, scaler = _resumed_optimizer(run)
    for epoch in range(run.progress.epochs, run.schedule.epochs):
        order = random_generator(run.seed, Purpose.BATCH_ORDER, epoch).permutation(len(run.training))
        seed = derived_seed(run.seed, Purpose.LAYERS, epoch)
        with PROCESS.on("training"), _seeded(seed, run.training.device), exact_fp32():
            loss = _train_epoch(run, epoch, torch.from_numpy(order), optimizer, scaler)
        _raise_if_diverged(run.network, epoch + 1, loss, scaler)
        run.progress.epochs, run.progress.optimizer = epoch + 1, optimizer.state_dict()
        run.progress.scaler = None if scaler is None else scaler.state_dict()
        yield loss


def _resumed_optimizer(run: TrainingRun) -> tuple[torch.optim.Optimizer, GradScaler | None]:
    optimizer = new_optimizer(run.network, run.recipe, run.schedule)
    scaler = loss_scaler(run.recipe, run.training.device)
    if run.progress.optimizer is not None:
        optimizer.load_state_dict(run.progress.optimizer)
    if run.progress.scaler is not None and scaler is not None:
        scaler.load_state_dict(run.progress.scaler)
    return optimizer, scaler


def _train_epoch(
    run: TrainingRun,
    epoch: int,
    order: Int[Tensor, " sample"],
    optimizer: torch.optim.Optimizer,
    scaler: GradScaler | None,
) -> float:
    """Train on all samples in this order, and return the mean loss of the steps."""
    recipe = run.recipe
    order = order[: samples_of_epoch(len(order), recipe.batch_size)]
    batches, numbers = -(-len(order) // recipe.batch_size), order.to(run.training.device)
    run.network.train()
    total = torch.zeros((), device=run.training.device)
    for index, batch in enumerate(run.training.batches(recipe.batch_size, order=order)):
        step, steps = epoch * batches + index, run.schedule.epochs * batches
        share = rate_at(step, steps=steps, warm_up=recipe.warm_up, schedule=recipe.schedule)
        set_rate(optimizer, run.schedule.learning_rate * share)
        seed = derived_seed(run.seed, Purpose.AUGMENTATION, epoch, index)
        varied = replace(batch, frames=augmented(batch.frames, recipe.augment, seed=seed))
        chosen = numbers[index * recipe.batch_size : index * recipe.batch_size + len(batch)]
        shown, teacher_logits = Lesson(varied) if run.step_hook is None else run.step_hook(varied, chosen)
        total += train_step(run.network, shown, recipe, optimizer, scaler, teacher_logits=teacher_logits)
    return float(total) / batches


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let modules of a user's network that draw at random, as dropout does, draw from this seed in this context."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _raise_if_diverged(network: nn.Module, epoch: int, loss: float, scaler: GradScaler | None) -> None:
    """Raise Diverged where the loss, a weight or, in fp16, the gradients are not finite."""
    if not math.isfinite(loss):
        raise Diverged(f"the mean loss of epoch {epoch} is {loss}")
    # A neuron whose potential is not a number never spikes, so that a broken layer leaves the loss finite.
    for name, is_finite in _finite(network.state_dict()).items():
        if not is_finite:
            raise Diverged(f"after epoch {epoch}, {name} is not finite")
    # A step whose gradients are not finite is omitted and the scale halved, so that the weights stay finite.
    if scaler is not None and scaler.get_scale() < SMALLEST_LOSS_SCALE:
        raise Diverged(f"in epoch {epoch}, gradients were not finite in fp16 at any scale of the loss")


def _finite(tensors: Mapping[str, Tensor]) -> dict[str, bool]:
    """Tell by name which tensors are finite, all by one read of their device, which each read waits for."""
    numbers = {name: values for name, values in tensors.items() if values.is_floating_point() and values.numel()}
    if not numbers:
        return {}
    # The largest magnitude of each: not a number where one of them is not.
    largest = torch.stack(torch._foreach_norm(list(numbers.values()), torch.inf))
    return dict(zip(numbers, largest.isfinite().cpu().tolist(), strict=True))


def epoch_metrics(
    epoch: int, loss: float | None, evaluation: Evaluation, seconds: float, *, samples: int | None = None
) -> EpochMetrics:
    """Put together the metrics of a rung; ``loss`` is None where nothing was trained for it.

    ``samples``: of the validation split, where not all of them were evaluated.
    """
    return EpochMetrics(
        epoch=epoch,
        loss=loss,
        accuracy=evaluation.accuracy,
        effective_macs=evaluation.effective_macs,
        synaptic_ops=evaluation.synaptic_ops,
        density=evaluation.density,
        seconds=seconds,
        samples=samples,
    )


def train_step(
    network: nn.Module,
    batch: DeviceSplit,
    recipe: Training,
    optimizer: torch.optim.Optimizer,
    scaler: GradScaler | None = None,
    *,
    teacher_logits: Float[Tensor, "batch classes"] | None = None,
) -> Tensor:
    """Take one step of the optimizer, and return the loss before it."""
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
    if teacher_logits is not None:
        imitation = imitation_loss(logits.mean(dim=0), teacher_logits)
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
    """Update the weights by gradients of at most the norm that the recipe allows."""
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
