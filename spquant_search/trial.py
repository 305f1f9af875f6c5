"""One configuration -> one result: build, warm-start, train epoch by epoch, keep the weights."""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from spquant_search.batches import Samples, first, place
from spquant_search.data.loading import DataSet, Split
from spquant_search.profile import PROCESS
from spquant_search.readings import accuracies
from spquant_search.runs.files import write_bytes
from spquant_search.runs.folder import checkpoint_of
from spquant_search.runs.results import EpochMetrics, LayerActivity, Outcome, TrialResult
from spquant_search.shared import SharedEpoch, norms, read_out, take_statistics, train_shared
from spquant_search.snn.kernels import batch_norm
from spquant_search.snn.kernels import compile as compiled
from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.snn.networks.catalog import build
from spquant_search.snn.neuron.training import compile_backward
from spquant_search.space.configuration import OFF, NetworkConfig
from spquant_search.space.schema import SpaceFile
from spquant_search.space.search_space import SearchSpace
from spquant_search.space.shapes import InputShape
from spquant_search.teacher import FloatTeacher
from spquant_search.train import (
    Diverged,
    Lesson,
    Progress,
    Schedule,
    accuracy,
    epoch_metrics,
    evaluate,
    train,
    training_dtype,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A configuration to train, with everything that is known before it is."""

    result: TrialResult  # as far as known beforehand
    schedule: Schedule
    initial_weights: tuple[Path, ...]  # a later file replaces parts of an earlier one; none: from the seed
    weights_file: Path
    checkpoint_file: Path | None = None  # where it stands after its latest epoch; by default beside the weights
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
    weights_file: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadingTask:
    """Configurations whose accuracy is all that is wanted of the shared network; they are no trials."""

    configs: tuple[NetworkConfig, ...]
    shared_weights: Path


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


def compile_ahead(space: SearchSpace, *, training: Samples, shape: InputShape) -> Iterator[None]:
    """Compile most of what a search runs, a piece for each value asked for; the first trial needs the first one first.

    For a trainer that has nothing else to do: what it compiled the others find in the cache folder. Where they would
    find the first piece there anyway it goes no further, as they train on all cores meanwhile.
    """
    network = new_network(space.file, shape, seed=0, device=training.device)
    few = first(training, 3)
    dtype = training_dtype(space.file.train, training.device)
    compile_backward(space.file.time_steps, dtype, training.device)
    if training.device.type == "cpu":
        batch_norm.compile_ahead(dtype)
    yield
    if compiled.all_was_cached():
        return
    for config in (space.baseline(), _with_everything(space)):
        configure(network, config, space.file.neuron)
        evaluate(network, few)
        yield
    take_statistics(network, few, samples=len(few))
    yield


def _with_everything(space: SearchSpace) -> NetworkConfig:
    """A configuration with all the gates and masks that the space has."""
    values = {}
    for address, options in space.choices().items():
        parameter = address.rpartition(".")[2]
        switched_on = [option for option in options if parameter not in OFF or option != OFF[parameter]]
        values[address] = (switched_on or options)[0]
    return space.config(values)


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
    when, the trial completes. After each epoch but the last a checkpoint is written, from which the same task goes on
    if it is begun again; ``stop_reason`` then is asked about the earlier epochs first.
    """
    started = time.perf_counter()
    torch.set_num_threads(task.threads)
    device = training.device
    network = new_network(space, shape, seed=task.result.seed, device=device)
    configure(network, task.result.config, space.neuron)
    if task.initial_weights:
        load_weights(network, *task.initial_weights)
    result = task.result
    checkpoint = _Checkpoint(task)
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


class _Checkpoint:
    """A task's checkpoint file: weights, optimizer and epochs as of the last epoch but the final one.

    It says of which task it is; one of another is not taken.
    """

    def __init__(self, task: Task) -> None:
        self._file = task.checkpoint_file or checkpoint_of(task.weights_file)
        self._known = task.result
        begins_from = [file.name for file in task.initial_weights]
        self._of = repr((task.result.config, task.result.seed, task.schedule, begins_from))

    def write(self, network: nn.Module, progress: Progress, result: TrialResult) -> None:
        content = io.BytesIO()
        document = {
            "of": self._of,
            "epochs": [asdict(epoch) for epoch in result.epochs],
            "layers": [[name, asdict(activity)] for name, activity in result.layers],
            "network": network.state_dict(),
            "progress": {name: getattr(progress, name) for name in ("epochs", "optimizer", "scaler")},
        }
        torch.save(document, content)
        write_bytes(self._file, content.getvalue())

    def read(self, network: nn.Module, device: torch.device) -> tuple[Progress, TrialResult] | None:
        """Put the weights into the network; None where there is no checkpoint of this task."""
        if not self._file.is_file():
            return None
        try:
            found = torch.load(self._file, map_location=device, weights_only=True)
        except (RuntimeError, ValueError, KeyError, EOFError, OSError, pickle.UnpicklingError):
            return None  # of another version, or damaged: the task begins from its start
        if found["of"] != self._of:
            return None
        network.load_state_dict(found["network"])
        epochs = tuple(EpochMetrics(**epoch) for epoch in found["epochs"])
        layers = tuple((name, LayerActivity(**activity)) for name, activity in found["layers"])
        return Progress(**found["progress"]), replace(self._known, epochs=epochs, layers=layers)

    def remove(self) -> None:
        self._file.unlink(missing_ok=True)


def float_teacher(weights: Path, space: SearchSpace, *, training: Samples, shape: InputShape) -> FloatTeacher:
    """The float baseline with these weights."""
    network = new_network(space.file, shape, seed=0, device=training.device)
    configure(network, space.baseline(), space.file.neuron)
    load_weights(network, weights)
    with PROCESS.on("teacher"):
        return FloatTeacher(network, training, varied=space.file.train.augment.is_on, weights=weights)


def run_shared(task: SharedTask, space: SearchSpace, *, training: Samples, shape: InputShape) -> Iterator[SharedEpoch]:
    """Train the shared network, one epoch for each value asked for; its weights are written at the end.

    Raises:
        Diverged: its loss or a weight is not finite.
    """
    torch.set_num_threads(task.threads)
    network = new_network(space.file, shape, seed=task.seed, device=training.device)
    load_weights(network, task.initial_weights)
    imitates = space.file.train.distillation > 0
    teacher = float_teacher(task.initial_weights, space, training=training, shape=shape) if imitates else None
    yield from train_shared(network, space, training=training, schedule=task.schedule, seed=task.seed, teacher=teacher)
    # Should another coordinator have trained it too, everybody may be reading configurations out of its own already.
    _write(network.state_dict(), task.weights_file, replaces=False)


def _shared_network(weights: Path, space: SpaceFile, *, shape: InputShape, device: torch.device) -> nn.Module:
    torch.set_num_threads(1)
    network = new_network(space, shape, seed=0, device=device)
    load_weights(network, weights)
    return network


def run_reading(
    task: ReadingTask, space: SpaceFile, *, training: Samples, validation: Samples, shape: InputShape
) -> tuple[float, ...]:
    """The accuracies of the configurations in the shared network, on the samples that judge a read-out."""
    return accuracies(
        _shared_network(task.shared_weights, space, shape=shape, device=training.device),
        task.configs,
        space.neuron,
        training=training,
        samples=space.shared.statistics_samples,
        validation=first(validation, space.shared.validation_samples),
    )


def run_read_out(
    task: ReadOutTask, space: SpaceFile, *, training: Samples, validation: Samples, shape: InputShape
) -> TrialResult:
    """Read one configuration out of the shared network, and keep what it does not share."""
    started = time.perf_counter()
    network = _shared_network(task.shared_weights, space, shape=shape, device=training.device)
    config, samples = task.result.config, space.shared.statistics_samples
    with PROCESS.on("statistics"):
        read_out(network, config, space.neuron, training=training, samples=samples)
    with PROCESS.on("evaluation"):
        evaluation = evaluate(network, first(validation, space.shared.validation_samples))
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


def _write(tensors: Mapping[str, Tensor], file: Path, *, replaces: bool = True) -> None:
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_bytes(file, content, replaces=replaces)


def test(
    config: NetworkConfig, weights: tuple[Path, ...], space: SpaceFile, *, shape: InputShape, recordings: Samples
) -> float:
    """The accuracy of a trained configuration on recordings that the search has not seen."""
    device = recordings.device
    network = new_network(space, shape, seed=0, device=device)
    configure(network, config, space.neuron)
    load_weights(network, *weights)
    with PROCESS.on("evaluation"):
        return accuracy(network, recordings)
