"""Training and evaluation of one network. Knows neither Optuna nor pruning: to stop, do not ask for the next epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from spquant_search.profile import PROCESS
from spquant_search.runs.results import EpochMetrics
from spquant_search.snn.gate import ChannelGate
from spquant_search.snn.layers import searchable_layers
from spquant_search.space.schema import Training
from spquant_search.training.augmentation import augmented
from spquant_search.training.evaluation import Evaluation, evaluate
from spquant_search.training.loader import DeviceSplit, LoadedSplit
from spquant_search.training.losses import imitation_loss, tet_loss
from spquant_search.training.optimizer import new_optimizer, set_rate
from spquant_search.training.precision import SMALLEST_LOSS_SCALE, loss_scaler, training_dtype
from spquant_search.training.schedule import Schedule, rate_at


class Diverged(Exception):
    """The loss or a weight became infinite or not a number."""


@dataclass(slots=True)
class Progress:
    """How far a training has come, and what it holds besides the network's weights: enough to go on from there."""

    epochs: int = 0
    optimizer: dict[str, Any] | None = None
    scaler: dict[str, Any] | None = None


def train(  # noqa: PLR0913 - a network, two splits, and how to train
    network: nn.Module,
    *,
    training: LoadedSplit,
    validation: LoadedSplit,
    recipe: Training,
    schedule: Schedule,
    seed: int,
    lesson: StepHook | None = None,
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


class StepHook(Protocol):
    """What is done to a network before a step of its training."""

    def __call__(self, batch: DeviceSplit, chosen: Int[Tensor, " batch"]) -> Float[Tensor, "batch classes"] | None:
        """Set the network's precision, if it changes; logits to imitate on ``batch``, the samples ``chosen``."""
        ...


def epoch_losses(
    network: nn.Module,
    *,
    training: LoadedSplit,
    recipe: Training,
    schedule: Schedule,
    seed: int,
    lesson: StepHook | None = None,
    progress: Progress | None = None,
) -> Iterator[float]:
    """As :func:`train`, without any evaluation: the mean loss of each epoch."""
    progress = Progress() if progress is None else progress
    for module in network.modules():
        if isinstance(module, ChannelGate):
            module.requires_grad_(schedule.trains_gates)
    optimizer = new_optimizer(network, recipe, schedule)
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
                set_rate(optimizer, schedule.learning_rate * share)
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


def _train_step(
    network: nn.Module,
    batch: DeviceSplit,
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
