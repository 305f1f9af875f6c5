"""Do one task: build its network, start from its weights, train or evaluate, and write what is to be kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from spquant_search.profile import PROCESS
from spquant_search.runs.energy import energy_of
from spquant_search.runs.results import EpochMetrics, Outcome, TrialResult
from spquant_search.space.schema import SpaceFile
from spquant_search.space.search_space import SearchSpace
from spquant_search.space.shapes import InputShape
from spquant_search.training.checkpoint import Checkpoint
from spquant_search.training.distillation import FloatTeacher
from spquant_search.training.evaluation import Evaluation, accuracy, evaluate
from spquant_search.training.loader import LoadedSplit, at_time_steps, take
from spquant_search.training.loop import Diverged, Progress, StepHook, TrainingRun, epoch_metrics, train
from spquant_search.training.network import configured_network, load_weights, new_network, write_tensors, write_weights
from spquant_search.training.prefix_reuse import subnet_accuracies
from spquant_search.training.supernet import SupernetEpoch, activate_subnet, norm_layers, train_supernet
from spquant_search.training.tasks import AccuraciesTask, JudgeTask, SubnetTask, SupernetTask, Task, TestTask


def run_trial(
    task: Task,
    space: SpaceFile,
    *,
    training: LoadedSplit,
    validation: LoadedSplit,
    shape: InputShape,
    stop_reason: Callable[[EpochMetrics], str | None],
    step_hook: StepHook | None = None,
) -> TrialResult:
    """Train one configuration until its last epoch, or until ``stop_reason`` gives a reason to stop.

    ``stop_reason`` is asked after every epoch, ``step_hook`` before every step. The weights are written when, and only
    when, the trial completes. After each epoch but the last a checkpoint is written, from which the same task goes on
    if it is begun again; ``stop_reason`` then is asked about the earlier epochs first.
    """
    started = time.perf_counter()
    torch.set_num_threads(task.threads)
    config, seed, device = task.result.config, task.result.seed, training.device
    training, validation = (at_time_steps(split, config.time_steps) for split in (training, validation))
    network = configured_network(space, shape, config, weights=task.initial_weights, seed=seed, device=device)
    checkpoint = Checkpoint(task)
    progress, result = checkpoint.read(network, device) or (Progress(), task.result)
    run = TrainingRun(
        network=network,
        training=training,
        recipe=space.train,
        schedule=task.schedule,
        seed=seed,
        step_hook=step_hook,
        progress=progress,
    )
    outcome, reason = Outcome.COMPLETE, Outcome.COMPLETE.value
    stopped_because = next(filter(None, map(stop_reason, result.epochs[len(task.result.epochs) :])), None)
    try:
        for metrics, evaluation in _rungs(run, validation) if stopped_because is None else ():
            result = _with_rung(result, metrics, evaluation)
            stopped_because = stop_reason(result.epochs[-1])
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


def _rungs(run: TrainingRun, validation: LoadedSplit) -> Iterator[tuple[EpochMetrics, Evaluation]]:
    """Train, or evaluate a network as its weights are where there are no epochs."""
    if run.schedule.epochs:
        yield from train(run, validation)
        return
    started = time.perf_counter()
    with PROCESS.on("evaluation"):
        evaluation = evaluate(run.network, validation)
    yield epoch_metrics(0, None, evaluation, time.perf_counter() - started), evaluation


def _with_rung(result: TrialResult, metrics: EpochMetrics, evaluation: Evaluation) -> TrialResult:
    """Return a result with another rung, and the energy of a sample there, which the configuration tells."""
    energy = energy_of(result.config, dict(evaluation.layers), membrane_bytes=result.membrane_bytes)
    if energy is not None:
        metrics = replace(metrics, energy_uj=energy.microjoules)
    return replace(result, epochs=(*result.epochs, metrics), layers=evaluation.layers)


def run_test(task: TestTask, space: SpaceFile, *, shape: InputShape, split: LoadedSplit) -> float:
    """Return the accuracy of a trained configuration on a split that the search has not seen."""
    network = configured_network(space, shape, task.config, weights=task.weights, device=split.device)
    with PROCESS.on("evaluation"):
        return accuracy(network, at_time_steps(split, task.config.time_steps))


def float_teacher(weights: Path, space: SearchSpace, *, training: LoadedSplit, shape: InputShape) -> FloatTeacher:
    """Build the float baseline with these weights as a teacher."""
    network = configured_network(space.file, shape, space.baseline(), weights=(weights,), device=training.device)
    with PROCESS.on("teacher"):
        return FloatTeacher(network, training, varied=space.file.train.augment.is_on, weights=weights)


# ---------------------------------------------------------------- the supernet


def run_supernet(
    task: SupernetTask, space: SearchSpace, *, training: LoadedSplit, shape: InputShape
) -> Iterator[SupernetEpoch]:
    """Train the supernet, one epoch for each value asked for, and write its weights at the end.

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
    # Should another coordinator have trained it too, its subnets may be evaluated already: the first file stays.
    write_tensors(network.state_dict(), task.weights_file, replaces=False)


def run_subnet(
    task: SubnetTask, space: SpaceFile, *, training: LoadedSplit, validation: LoadedSplit, shape: InputShape
) -> TrialResult:
    """Evaluate one configuration as a subnet, and write the statistics of batch norm, which it does not share."""
    started = time.perf_counter()
    network = _load_supernet(task.supernet_weights, space, shape=shape, device=training.device)
    config, samples = task.result.config, space.supernet.statistics_samples
    training, validation = (at_time_steps(split, config.time_steps) for split in (training, validation))
    with PROCESS.on("statistics"):
        activate_subnet(network, config, space.neuron, training=training, samples=samples)
    judged = take(validation, space.supernet.validation_samples)
    with PROCESS.on("evaluation"):
        evaluation = evaluate(network, judged)
    statistics = {
        f"{name}.{key}": value for name, norm in norm_layers(network).items() for key, value in norm.named_buffers()
    }
    write_tensors(statistics, task.weights_file)
    seconds = time.perf_counter() - started
    result = replace(task.result, outcome=Outcome.SUBNET, reason=Outcome.SUBNET.value, epochs=(), seconds=seconds)
    rung = epoch_metrics(0, None, evaluation, seconds, samples=_fewer(judged, validation))
    return _with_rung(result, rung, evaluation)


def _fewer(judged: LoadedSplit, validation: LoadedSplit) -> int | None:
    return len(judged) if len(judged) < len(validation) else None


def run_judgement(task: JudgeTask, space: SpaceFile, *, validation: LoadedSplit, shape: InputShape) -> TrialResult:
    """Return a trial's result with its last rung as the whole validation split measures it."""
    started, config = time.perf_counter(), task.result.config
    network = configured_network(space, shape, config, weights=task.weights, device=validation.device)
    with PROCESS.on("evaluation"):
        evaluation = evaluate(network, at_time_steps(validation, config.time_steps))
    *before, last = task.result.epochs
    seconds = time.perf_counter() - started
    judged = epoch_metrics(last.epoch, last.loss, evaluation, last.seconds + seconds)
    result = replace(task.result, epochs=tuple(before), seconds=task.result.seconds + seconds)
    return _with_rung(result, judged, evaluation)


def run_accuracies(
    task: AccuraciesTask, space: SpaceFile, *, training: LoadedSplit, validation: LoadedSplit, shape: InputShape
) -> tuple[float, ...]:
    """Return the accuracies of configurations as subnets, on the samples that subnets are judged by."""
    return subnet_accuracies(
        _load_supernet(task.supernet_weights, space, shape=shape, device=training.device),
        task.configs,
        space.neuron,
        training=training,
        samples=space.supernet.statistics_samples,
        validation=take(validation, space.supernet.validation_samples),
    )


def _load_supernet(weights: Path, space: SpaceFile, *, shape: InputShape, device: torch.device) -> nn.Module:
    torch.set_num_threads(1)
    network = new_network(space, shape, seed=0, device=device)
    load_weights(network, weights)
    return network
