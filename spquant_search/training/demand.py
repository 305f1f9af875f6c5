"""What a search takes of a machine's memory and disks, before it takes it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spquant_search.data.loading import FrameFile
from spquant_search.errors import Problem, SpaceError
from spquant_search.processes import available_memory
from spquant_search.runs.work import Part, PartWork, SampleCounts
from spquant_search.snn.layers import searchable_layers
from spquant_search.snn.networks.catalog import build
from spquant_search.training.device_memory import batch_sizes
from spquant_search.training.precision import training_dtype
from spquant_search.training.prepared import Prepared
from spquant_search.training.supernet import norm_layers

FLOAT_BYTES = 4
WEIGHT_COPIES = 4  # the weight, its gradient, and two moments of Adam

# The peak of a trainer on a processor, fitted to 27 measurements in training and 12 in evaluation, which it meets to
# within 15 % and 30 %: bytes of what is imported and compiled, then for every sample of a batch and time step those of
# a convolution's output and of a neuron.
IMPORTED_BYTES = 420 * 2**20
TRAINED_BYTES = {torch.float32: (4.8, 13.4), torch.bfloat16: (3.1, 6.5)}
EVALUATED_BYTES = 4.4  # of a convolution's output

# What a run leaves besides weights, at most: of each trial's layer in its own file, in the study and in tables; and the
# figures.
LAYER_BYTES, FIGURES_BYTES = 4096, 2 * 2**20
TENSOR_HEADER_BYTES = 160  # of a file of weights, besides the tensor's name


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryDemand:
    """The memory of a search on a processor, estimated from its network's shapes."""

    trainers: int
    training_bytes: int  # the peak of one trainer
    evaluation_bytes: int
    available_bytes: int | None  # now; None where the system does not say

    @property
    def trainer_bytes(self) -> int:
        return max(self.training_bytes, self.evaluation_bytes)

    @property
    def total_bytes(self) -> int:
        """Trainers and the command itself, which imports as much."""
        return self.trainers * self.trainer_bytes + IMPORTED_BYTES

    @property
    def fits(self) -> bool:
        return self.available_bytes is None or self.total_bytes <= self.available_bytes

    def as_dict(self) -> dict[str, Any]:
        return {
            "trainers": self.trainers,
            "trainer_bytes": self.trainer_bytes,
            "total_bytes": self.total_bytes,
            "available_bytes": self.available_bytes,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskDemand:
    """The disk of a search: its frames to the byte, and at most what its run's folder takes."""

    frames: tuple[FrameFile, ...]
    frames_folder: Path
    frames_free_bytes: int | None
    run_bytes: int  # at most
    run_folder: Path
    run_free_bytes: int | None

    @property
    def missing_bytes(self) -> int:
        """The frames that are not in the cache yet."""
        return sum(file.bytes for file in self.frames if not file.is_there)

    @property
    def fits(self) -> bool:
        """Whether the run fits; that the frames do is checked before they are made."""
        return self.run_free_bytes is None or self.run_bytes <= self.run_free_bytes

    def as_dict(self) -> dict[str, Any]:
        frames = [
            {"split": file.split, "samples": file.samples, "bytes": file.bytes, "is_there": file.is_there}
            for file in self.frames
        ]
        return {
            "frames": frames,
            "frames_folder": str(self.frames_folder),
            "frames_free_bytes": self.frames_free_bytes,
            "run_bytes_at_most": self.run_bytes,
            "run_free_bytes": self.run_free_bytes,
        }


def require_memory(prepared: Prepared, *, samples: int) -> None:
    """Check that one training of the float baseline fits into this machine; ``samples`` are those of train.

    What is counted is what must be there at once, less than what is used: weights with what the optimizer keeps of
    them, and a number for every neuron, sample of a batch and time step.

    Raises:
        SpaceError: it does not; says which keys make it so large.
    """
    memory = _memory_bytes()
    if memory is None:
        return
    file, problems = prepared.space.file, []
    weights = _weight_bytes(prepared)
    if weights > memory:
        words = f"makes weights that take {_gib(weights)} in training"
        problems.append(Problem("model.width", f"{words}, where this machine has {_gib(memory)}; take a smaller one"))
    batch = min(file.train.batch_size, samples)
    neurons = FLOAT_BYTES * batch * file.most_time_steps * sum(shape.neurons for shape in prepared.shapes)
    if neurons > memory:
        sentence = (
            f"{batch:,} samples of {file.most_time_steps:,} time steps take {_gib(neurons)} in training, where this "
            f"machine has {_gib(memory)}; take smaller batches, fewer time_steps, or smaller frames"
        )
        problems.append(Problem("train.batch_size", sentence))
    if problems:
        raise SpaceError(prepared.space.source, problems)


def memory_demand(prepared: Prepared, samples: SampleCounts) -> MemoryDemand:
    """Estimate the memory of a search's processes where a processor trains; a GPU has its own."""
    file = prepared.space.file
    outputs = sum(shape.out_channels * shape.positions for shape in prepared.shapes)
    neurons = sum(shape.neurons for shape in prepared.shapes)
    dtype = training_dtype(file.train, torch.device("cpu")) if file.train.precision != "fp16" else torch.float32
    of_output, of_neuron = TRAINED_BYTES[dtype]
    trained = min(file.train.batch_size, samples.train) * file.most_time_steps
    together = batch_sizes(prepared, on_gpu=False).evaluation
    evaluated = min(together, max(samples.train, samples.validation, samples.test)) * file.most_time_steps
    fixed = IMPORTED_BYTES + _weight_bytes(prepared)
    return MemoryDemand(
        trainers=file.search.workers,
        training_bytes=fixed + round(trained * (of_output * outputs + of_neuron * neurons)),
        evaluation_bytes=fixed + round(evaluated * EVALUATED_BYTES * outputs),
        available_bytes=available_memory(),
    )


def disk_demand(
    prepared: Prepared, frames: tuple[FrameFile, ...], parts: tuple[PartWork, ...], *, run: Path
) -> DiskDemand:
    """Return what a search takes of its disks; ``run`` is its run's folder, which need not be there."""
    folder = frames[0].path.parent
    return DiskDemand(
        frames=frames,
        frames_folder=folder,
        frames_free_bytes=_free_bytes(folder),
        run_bytes=run_bytes(prepared, parts, classes=prepared.input.classes, train_samples=frames[0].samples),
        run_folder=run,
        run_free_bytes=_free_bytes(run),
    )


def run_bytes(prepared: Prepared, parts: tuple[PartWork, ...], *, classes: int, train_samples: int) -> int:
    """Return how many bytes a run's folder takes at most, while the search runs and afterwards."""
    weights, statistics = _file_bytes(prepared)
    tasks = {work.part: work for work in parts}
    kept = sum(work.tasks for work in parts if work.epochs)  # the weights of every network that is trained
    subnets = sum(work.tasks for work in parts if work.part is Part.TRIALS and not work.epochs)
    checkpoints = min(prepared.space.file.search.workers, kept) * WEIGHT_COPIES * weights
    logits = FLOAT_BYTES * classes * train_samples
    trials = sum(tasks[part].tasks for part in (Part.BASELINE, Part.TRIALS, Part.FINALISTS) if part in tasks)
    tables = trials * len(prepared.shapes) * LAYER_BYTES + FIGURES_BYTES
    return kept * weights + subnets * statistics + checkpoints + logits + tables


def _file_bytes(prepared: Prepared) -> tuple[int, int]:
    """Return the bytes of a file of all weights, and of one of the statistics of batch norm."""
    file = prepared.space.file
    with torch.device("meta"):
        network = build(file.model, prepared.input, source=prepared.space.source)
        for layer in searchable_layers(network).values():
            layer.set_precision(layer.precision, file.neuron)  # makes thresholds that are learned
    norms = {
        f"{name}.{key}": values for name, norm in norm_layers(network).items() for key, values in norm.named_buffers()
    }

    def size(tensors: dict[str, torch.Tensor]) -> int:
        return sum(
            values.numel() * values.element_size() + len(name) + TENSOR_HEADER_BYTES for name, values in tensors.items()
        )

    return size(network.state_dict()), size(norms)


def _weight_bytes(prepared: Prepared) -> int:
    return WEIGHT_COPIES * FLOAT_BYTES * sum(shape.weights for shape in prepared.shapes)


def _free_bytes(folder: Path) -> int | None:
    """Return what is free on the disk of a folder, which need not be there; None where the system does not say."""
    try:
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        return shutil.disk_usage(there).free
    except (OSError, StopIteration):
        return None


def _memory_bytes() -> int | None:
    """Return the machine's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _gib(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"
