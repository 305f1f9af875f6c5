"""One configuration -> one result: build, warm-start, train epoch by epoch, keep the weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from spquant_search.batches import Samples, first, place
from spquant_search.data import DataSet, Split
from spquant_search.results import EpochMetrics, Outcome, TrialResult
from spquant_search.runfolder import write_bytes
from spquant_search.shared import SharedEpoch, norms, read_out, train_shared
from spquant_search.snn.layers import searchable_layers
from spquant_search.snn.networks import InputShape, build, configure
from spquant_search.space import NetworkConfig, SearchSpace, SpaceFile
from spquant_search.teacher import FloatTeacher
from spquant_search.timing import PROCESS
from spquant_search.train import (
    Diverged,
    Evaluation,
    Lesson,
    Schedule,
    epoch_metrics,
    evaluate,
    train,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A configuration to train, with everything that is known before it is."""

    result: TrialResult  # as far as known beforehand
    schedule: Schedule
    initial_weights: tuple[Path, ...]  # a later file replaces parts of an earlier one; none: from the seed
    weights_file: Path
    teacher_weights: Path | None = None  # of the float network to imitate
    threads: int = 1  # on a processor


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedTask:
    """The one network to train for every configuration of the space, from the float baseline's weights."""

    schedule: Schedule
    seed: int
    initial_weights: Path
    weights_file: Path
    threads: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadOutTask:
    """A configuration to read out of the shared network; ``weights_file`` gets its own statistics alone."""

    result: TrialResult
    shared_weights: Path
    weights_file: Path | None  # None: the figures are all that is wanted


def input_shape(data: DataSet) -> InputShape:
    """What a network for this data set is fed with."""
    return InputShape(
        channels=data.channels,
        height=data.height,
        width=data.width,
        classes=len(data.classes),
        largest=data.largest,
    )


def on_device(
    data: DataSet, name: Literal["train", "validation", "test"], device: torch.device, *, sharers: int = 1
) -> Samples:
    """A split, still as bytes, as batches of which the device trains; ``sharers`` processes train on that device."""
    split: Split = getattr(data, name)
    return place(
        split.frames,
        split.labels,
        time_steps=data.time_steps,
        largest=data.largest,
        device=device,
        sharers=sharers,
    )


def new_network(space: SpaceFile, shape: InputShape, *, seed: int, device: torch.device) -> nn.Module:
    """The network of a space with weights drawn from ``seed``, in the memory order that convolutions are fastest in."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(space.model, shape, source="space")
    # Thresholds that are learned are among the weights: they must be there before any are loaded or trained.
    for layer in searchable_layers(network).values():
        layer.set_precision(layer.precision, space.neuron)
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def load_weights(network: nn.Module, *files: Path) -> None:
    """Copy weights into a network of the same architecture; what several files hold is that of the last of them."""
    merged = {name: tensor for file in files for name, tensor in load_file(file).items()}
    network.load_state_dict(merged)


def run_trial(
    task: Task,
    space: SpaceFile,
    *,
    training: Samples,
    validation: Samples,
    shape: InputShape,
    stop_reason: Callable[[EpochMetrics], str | None],
    lesson: Lesson | None = None,
) -> TrialResult:
    """Train one configuration until its last epoch, or until ``stop_reason`` gives a reason to stop.

    ``stop_reason`` is asked after every epoch, ``lesson`` before every step. The weights are written when, and only
    when, the trial completes.
    """
    started = time.perf_counter()
    torch.set_num_threads(task.threads)
    device = training.device
    network = new_network(space, shape, seed=task.result.seed, device=device)
    configure(network, task.result.config, space.neuron)
    if task.initial_weights:
        load_weights(network, *task.initial_weights)
    result = task.result
    epochs = train(
        network,
        training=training,
        validation=validation,
        recipe=space.train,
        schedule=task.schedule,
        seed=task.result.seed,
        lesson=lesson,
    )
    outcome, reason = Outcome.COMPLETE, Outcome.COMPLETE.value
    try:
        for metrics, evaluation in epochs:
            result = replace(result, epochs=(*result.epochs, metrics), layers=evaluation.layers)
            stopped_because = stop_reason(metrics)
            if stopped_because is not None:
                outcome, reason = Outcome.STOPPED, stopped_because
                break
    except Diverged as error:
        outcome, reason = Outcome.DIVERGED, str(error)
    if outcome is Outcome.COMPLETE:
        write_weights(network, task.weights_file)
    return replace(result, outcome=outcome, reason=reason, seconds=time.perf_counter() - started)


def float_teacher(weights: Path, space: SearchSpace, *, training: Samples, shape: InputShape) -> FloatTeacher:
    """The float baseline with these weights."""
    network = new_network(space.file, shape, seed=0, device=training.device)
    configure(network, space.baseline(), space.file.neuron)
    load_weights(network, weights)
    with PROCESS.on("teacher"):
        return FloatTeacher(network, training, varied=space.file.train.augment.is_on)


def run_shared(task: SharedTask, space: SearchSpace, *, training: Samples, shape: InputShape) -> Iterator[SharedEpoch]:
    """Train the shared network, one epoch for each value asked for; its weights are written at the end.

    Raises:
        Diverged: its loss or a weight is not finite.
    """
    torch.set_num_threads(task.threads)
    network = new_network(space.file, shape, seed=task.seed, device=training.device)
    load_weights(network, task.initial_weights)
    yield from train_shared(network, space, training=training, schedule=task.schedule, seed=task.seed)
    write_weights(network, task.weights_file)


def run_read_out(
    task: ReadOutTask, space: SpaceFile, *, training: Samples, validation: Samples, shape: InputShape
) -> TrialResult:
    """Read one configuration out of the shared network, and keep what it does not share."""
    started = time.perf_counter()
    torch.set_num_threads(1)
    network = new_network(space, shape, seed=0, device=training.device)
    load_weights(network, task.shared_weights)
    evaluation = read_out(
        network,
        task.result.config,
        space.neuron,
        training=training,
        validation=first(validation, space.shared.validation_samples),
        statistics_samples=space.shared.statistics_samples,
    )
    if task.weights_file is not None:
        own = {f"{name}.{key}": value for name, norm in norms(network).items() for key, value in norm.named_buffers()}
        _write(own, task.weights_file)
    seconds = time.perf_counter() - started
    return replace(
        task.result,
        outcome=Outcome.READ_OUT,
        reason=Outcome.READ_OUT.value,
        epochs=(epoch_metrics(0, None, evaluation, seconds),),
        layers=evaluation.layers,
        seconds=seconds,
    )


def write_weights(network: nn.Module, file: Path) -> None:
    """All weights and statistics, whole or not at all."""
    _write(network.state_dict(), file)


def _write(tensors: Mapping[str, Tensor], file: Path) -> None:
    write_bytes(file, save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def test(
    config: NetworkConfig, weights: tuple[Path, ...], space: SpaceFile, *, shape: InputShape, recordings: Samples
) -> Evaluation:
    """Evaluate a trained configuration on recordings that the search has not seen."""
    device = recordings.device
    network = new_network(space, shape, seed=0, device=device)
    configure(network, config, space.neuron)
    load_weights(network, *weights)
    with PROCESS.on("evaluation"):
        return evaluate(network, recordings)
