"""One configuration -> one result: build, warm-start, train epoch by epoch, keep the weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from spquant_search.profile import PROCESS
from spquant_search.runs.results import EpochMetrics, Outcome, TrialResult
from spquant_search.snn.layers import configure
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.schema import SpaceFile
from spquant_search.space.search_space import SearchSpace
from spquant_search.space.shapes import InputShape
from spquant_search.training.checkpoint import Checkpoint
from spquant_search.training.distillation import FloatTeacher
from spquant_search.training.evaluation import accuracy, evaluate
from spquant_search.training.loader import LoadedSplit, take
from spquant_search.training.loop import Diverged, Progress, StepHook, epoch_metrics, train
from spquant_search.training.network import load_weights, new_network, write_tensors, write_weights
from spquant_search.training.prefix_reuse import accuracies
from spquant_search.training.supernet import SupernetEpoch, norms, take_subnet, train_supernet
from spquant_search.training.tasks import AccuraciesTask, SubnetTask, SupernetTask, Task


def run_trial(
    task: Task,
    space: SpaceFile,
    *,
    training: LoadedSplit,
    validation: LoadedSplit,
    shape: InputShape,
    stop_reason: Callable[[EpochMetrics], str | None],
    lesson: StepHook | None = None,
) -> TrialResult:
    """Train one configuration until its last epoch, or until ``stop_reason`` gives a reason to stop.

    ``stop_reason`` is asked after every epoch, ``lesson`` before every step. The weights are written when, and only
    when, the trial completes. After each epoch but the last a checkpoint is written, from which the same task goes on
    if it is begun again; ``stop_reason`` then is asked about the earlier epochs take.
    """
    started = time.perf_counter()
    torch.set_num_threads(task.threads)
    device = training.device
    network = new_network(space, shape, seed=task.result.seed, device=device)
    configure(network, task.result.config, space.neuron)
    if task.initial_weights:
        load_weights(network, *task.initial_weights)
    result = task.result
    checkpoint = Checkpoint(task)
    progress = Progress()
    kept = checkpoint.read(network, device)
    if kept is not None:
        progress, result = kept
    epochs = train(
        network,
        training=training,
        validation=validation,
        recipe=space.train,
        schedule=task.schedule,
        seed=task.result.seed,
        lesson=lesson,
        progress=progress,
    )
    outcome, reason = Outcome.COMPLETE, Outcome.COMPLETE.value
    stopped_because = next(filter(None, map(stop_reason, result.epochs[len(task.result.epochs) :])), None)
    try:
        for metrics, evaluation in epochs if stopped_because is None else ():
            result = replace(result, epochs=(*result.epochs, metrics), layers=evaluation.layers)
            stopped_because = stop_reason(metrics)
            if stopped_because is not None:
                break
            if progress.epochs < task.schedule.epochs:
                checkpoint.write(network, progress, result)
    except Diverged as error:
        outcome, reason = Outcome.DIVERGED, str(error)
    if stopped_because is not None:
        outcome, reason = Outcome.STOPPED, stopped_because
    if outcome is Outcome.COMPLETE:
        write_weights(network, task.weights_file)
    checkpoint.remove()
    return replace(result, outcome=outcome, reason=reason, seconds=time.perf_counter() - started)


def float_teacher(weights: Path, space: SearchSpace, *, training: LoadedSplit, shape: InputShape) -> FloatTeacher:
    """The float baseline with these weights."""
    network = new_network(space.file, shape, seed=0, device=training.device)
    configure(network, space.baseline(), space.file.neuron)
    load_weights(network, weights)
    with PROCESS.on("teacher"):
        return FloatTeacher(network, training, varied=space.file.train.augment.is_on, weights=weights)


def run_supernet(
    task: SupernetTask, space: SearchSpace, *, training: LoadedSplit, shape: InputShape
) -> Iterator[SupernetEpoch]:
    """Train the supernet, one epoch for each value asked for; its weights are written at the end.

    Raises:
        Diverged: its loss or a weight is not finite.
    """
    torch.set_num_threads(task.threads)
    network = new_network(space.file, shape, seed=task.seed, device=training.device)
    load_weights(network, task.initial_weights)
    imitates = space.file.train.distillation > 0
    teacher = float_teacher(task.initial_weights, space, training=training, shape=shape) if imitates else None
    yield from train_supernet(
        network, space, training=training, schedule=task.schedule, seed=task.seed, teacher=teacher
    )
    # Should another coordinator have trained it too, everybody may be evaluating its subnetss own already.
    write_tensors(network.state_dict(), task.weights_file, replaces=False)


def _load_supernet(weights: Path, space: SpaceFile, *, shape: InputShape, device: torch.device) -> nn.Module:
    torch.set_num_threads(1)
    network = new_network(space, shape, seed=0, device=device)
    load_weights(network, weights)
    return network


def run_accuracies(
    task: AccuraciesTask, space: SpaceFile, *, training: LoadedSplit, validation: LoadedSplit, shape: InputShape
) -> tuple[float, ...]:
    """The accuracies of the configurations in the supernet, on the samples that judge a subnet."""
    return accuracies(
        _load_supernet(task.supernet_weights, space, shape=shape, device=training.device),
        task.configs,
        space.neuron,
        training=training,
        samples=space.supernet.statistics_samples,
        validation=take(validation, space.supernet.validation_samples),
    )


def run_subnet(
    task: SubnetTask, space: SpaceFile, *, training: LoadedSplit, validation: LoadedSplit, shape: InputShape
) -> TrialResult:
    """Evaluate one configuration as a subnet, and keep the statistics that it does not share."""
    started = time.perf_counter()
    network = _load_supernet(task.supernet_weights, space, shape=shape, device=training.device)
    config, samples = task.result.config, space.supernet.statistics_samples
    with PROCESS.on("statistics"):
        take_subnet(network, config, space.neuron, training=training, samples=samples)
    with PROCESS.on("evaluation"):
        evaluation = evaluate(network, take(validation, space.supernet.validation_samples))
    own = {f"{name}.{key}": value for name, norm in norms(network).items() for key, value in norm.named_buffers()}
    write_tensors(own, task.weights_file)
    seconds = time.perf_counter() - started
    return replace(
        task.result,
        outcome=Outcome.SUBNET,
        reason=Outcome.SUBNET.value,
        epochs=(epoch_metrics(0, None, evaluation, seconds),),
        layers=evaluation.layers,
        seconds=seconds,
    )


def test(
    config: NetworkConfig, weights: tuple[Path, ...], space: SpaceFile, *, shape: InputShape, recordings: LoadedSplit
) -> float:
    """The accuracy of a trained configuration on recordings that the search has not seen."""
    device = recordings.device
    network = new_network(space, shape, seed=0, device=device)
    configure(network, config, space.neuron)
    load_weights(network, *weights)
    with PROCESS.on("evaluation"):
        return accuracy(network, recordings)
