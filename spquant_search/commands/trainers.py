"""The trainers of a command: how many, on which devices. What was chosen is told once, before any of them begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from spquant_search.errors import UserError

if TYPE_CHECKING:
    from spquant_search.runs.trainers import Trainers
    from spquant_search.space.schema import SpaceFile
    from spquant_search.training.demand import MemoryDemand
    from spquant_search.training.prepared import Prepared
    from spquant_search.workers.messages import TrainerConfig
    from spquant_search.workers.placement import Gpu

AUTO = 0  # workers, as many as cores and memory allow


@dataclass(frozen=True, kw_only=True, slots=True)
class Hired:
    """What a command starts its trainers from."""

    prepared: Prepared  # with as many workers as there will be
    config: TrainerConfig
    used: Trainers
    lines: tuple[str, ...]  # for people: what was chosen, and what may go wrong with it


def hire(prepared: Prepared, *, device: str, workers: int | None) -> Hired:
    """Choose the devices and the number of trainers: that of the space, or, where ``workers`` is AUTO, by memory and
    cores.

    Raises:
        UserError: the device is absent, or lacks the precision that the space asks for.
    """
    from spquant_search.processes import available_cores
    from spquant_search.runs.files import cache_folder
    from spquant_search.training.device_memory import batch_sizes
    from spquant_search.workers.devices import choose_devices
    from spquant_search.workers.messages import TrainerConfig

    devices, cores = choose_devices(device), available_cores()
    wanted = None if workers == AUTO else prepared.space.file.search.workers
    if devices.kind == "cpu":
        gpus: tuple[Gpu, ...] = ()
        count, lines = _on_processor(prepared, wanted, cores=cores)
    else:
        gpus, lines = _on_gpus(prepared, wanted, devices.gpus, cores=cores)
        count = len(gpus)
    hired = _with_workers(prepared, count)
    return Hired(
        prepared=hired,
        config=TrainerConfig(
            space=hired.space,
            device=devices.kind,
            cache=cache_folder(),
            gpus=gpus,
            together=batch_sizes(hired, on_gpu=devices.kind != "cpu"),
        ),
        used=_used(devices.kind, count, gpus),
        lines=(*(f"note: {note}" for note in devices.notes), *lines),
    )


def _on_processor(prepared: Prepared, wanted: int | None, *, cores: int) -> tuple[int, list[str]]:
    """Return how many trainers a processor takes, and what to say of it."""
    import torch

    from spquant_search.training.demand import IMPORTED_BYTES
    from spquant_search.training.precision import training_dtype
    from spquant_search.workers.placement import trainers_on_processor

    training_dtype(prepared.space.file.train, torch.device("cpu"))
    if wanted is not None:
        return wanted, []
    demand, _ = _demand(prepared)
    available = demand.available_bytes
    count = trainers_on_processor(
        available_bytes=None if available is None else available - IMPORTED_BYTES,
        trainer_bytes=demand.trainer_bytes,
        cores=cores,
    )
    return count, [f"trainers: {_words('cpu', count, ())}, by {cores} cores and the memory"]


def _on_gpus(
    prepared: Prepared, wanted: int | None, gpus: Sequence[Gpu], *, cores: int
) -> tuple[tuple[Gpu, ...], list[str]]:
    """Return the GPU of each trainer, and what to say of it."""
    from spquant_search.report.numbers import binary_size
    from spquant_search.training.precision import precision_words
    from spquant_search.workers.placement import place_trainers

    try:
        needed = _gpu_bytes(prepared, smallest=min(gpu.free_bytes for gpu in gpus))
    except UserError:  # the data set's files are not there: whoever loads them says so
        if wanted is None:
            raise
        needed = 0
    placed = place_trainers(wanted, gpus, trainer_bytes=needed, cores=cores)
    chosen = f", by {cores} cores and the GPUs' memory" if wanted is None else ""
    each = f"; each takes about {binary_size(needed)}" if needed else ""
    formats = precision_words(prepared.space.file.train, [gpu.capability for gpu in placed])
    head = f"trainers: {_words('cuda', len(placed), placed)}{chosen}{each}; training in {formats}"
    return placed, [head, *(f"warning: {text}" for text in _too_full(placed, needed))]


def _gpu_bytes(prepared: Prepared, *, smallest: int) -> int:
    """Estimate the bytes of a GPU that a trainer takes, with its copy of the splits if they will lie there;
    ``smallest``: what is free on the fullest GPU."""
    from spquant_search.training.device_memory import trainer_bytes
    from spquant_search.training.loader import RESIDENT_SHARE

    _, splits = _demand(prepared)
    return trainer_bytes(prepared, split_bytes=splits if splits <= RESIDENT_SHARE * smallest else 0)


def _demand(prepared: Prepared) -> tuple[MemoryDemand, int]:
    """Return what a trainer takes, and the bytes of its splits for training and validation."""
    from spquant_search.runs.files import cache_folder
    from spquant_search.runs.work import SampleCounts
    from spquant_search.training.data_set import data_files
    from spquant_search.training.demand import memory_demand

    frames = data_files(prepared.space.file, cache=cache_folder())
    samples = SampleCounts(**{file.split: file.samples for file in frames})
    return memory_demand(prepared, samples), sum(file.bytes for file in frames if file.split != "test")


def _too_full(placed: Sequence[Gpu], trainer_bytes: int) -> Iterator[str]:
    """Say on which GPUs there is less room than their trainers take, with a remedy."""
    from spquant_search.report.numbers import binary_size

    for gpu, sharers in Counter(placed).items():
        if sharers * trainer_bytes > gpu.free_bytes:
            fewer, plural = ("fewer trainers (--workers), ", "s") if sharers > 1 else ("", "")
            yield (
                f"GPU {gpu.visible_as} ({gpu.name}) may run out of memory: {sharers} trainer{plural} "
                f"of about {binary_size(trainer_bytes)} where {binary_size(gpu.free_bytes)} are free; take {fewer}a "
                "smaller train.batch_size or fewer time_steps"
            )


def _words(device: str, count: int, placed: Sequence[Gpu]) -> str:
    from spquant_search.report.trainer_words import trainers_words

    return trainers_words(_used(device, count, placed))


def _used(device: str, count: int, placed: Sequence[Gpu]) -> Trainers:
    from spquant_search.runs.trainers import GpuUse, Trainers

    gpus = tuple(
        GpuUse(visible_as=gpu.visible_as, name=gpu.name, trainers=sharers) for gpu, sharers in Counter(placed).items()
    )
    return Trainers(device=device, count=count, gpus=gpus)


def _with_workers(prepared: Prepared, count: int) -> Prepared:
    file: SpaceFile = prepared.space.file
    if count == file.search.workers:
        return prepared
    file = replace(file, search=replace(file.search, workers=count))
    return replace(prepared, space=replace(prepared.space, file=file))
