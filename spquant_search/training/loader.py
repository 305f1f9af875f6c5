"""Samples of a split as batches on the training device, which hold the same bytes wherever the split itself lies.

A :class:`DeviceSplit` lies on the device as a whole. A :class:`HostSplit` stays in the memory map of their file, and
while the device works on one batch a thread gathers the next ones and sends them over.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from spquant_search.snn.spikes import Spikes, spikes_from_frames
from spquant_search.training.device_memory import USUAL_BATCHES, BatchSizes
from spquant_search.training.shortage import evaluated_at_once

AHEAD = 2  # batches that are on their way while one is computed
RESIDENT_SHARE = 0.5  # of a GPU's free memory that splits may take; networks and their gradients need the rest


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceSplit:
    """Samples on the training device, kept as bytes until they become a network's input."""

    frames: UInt8[Tensor, "sample time channel height width"]  # of a still image one, whatever time_steps is
    labels: Int[Tensor, " sample"]
    time_steps: int  # that a network is shown
    largest: int  # counts are clamped to it: in training, evaluation and on the device
    together: BatchSizes = USUAL_BATCHES

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.frames.device

    def batch(self, chosen: Int[Tensor, " batch"] | slice) -> DeviceSplit:
        """Return some of the samples."""
        return replace(self, frames=self.frames[chosen], labels=self.labels[chosen])

    def batches(self, size: int, *, order: Int[Tensor, " drawn"] | None = None) -> Iterator[DeviceSplit]:
        """Yield the samples of ``order`` (None: all, in place), ``size`` at a time; the last batch may be smaller."""
        order = order if order is None else order.to(self.device)
        for run in _runs(len(self) if order is None else len(order), size):
            yield self.batch(run if order is None else order[run])

    def spikes(self, dtype: torch.dtype) -> Spikes:
        """Turn all of the samples into a network's input."""
        return spikes_from_frames(self.frames, largest=self.largest, dtype=dtype, time_steps=self.time_steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostSplit:
    """Samples that the training device has no room for: they stay in host memory, and batches are sent ahead of use."""

    frames: UInt8[Tensor, "sample time channel height width"]
    labels: Int[Tensor, " sample"]
    time_steps: int
    largest: int
    device: torch.device
    together: BatchSizes = USUAL_BATCHES

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int, *, order: Int[Tensor, " drawn"] | None = None) -> Iterator[DeviceSplit]:
        """Yield what :meth:`DeviceSplit.batches` does; a thread sends batches while earlier batches are computed."""
        on_gpu = self.device.type == "cuda"
        stream = torch.cuda.Stream(self.device) if on_gpu else None  # type: ignore[no-untyped-call]
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as background:
            under_way: deque[Future[_Sent]] = deque()
            for run in _runs(len(self) if order is None else len(order), size):
                under_way.append(background.submit(self._send, run if order is None else order[run], stream))
                if len(under_way) > AHEAD:
                    yield _received(*under_way.popleft().result())
            while under_way:
                yield _received(*under_way.popleft().result())

    def _send(self, chosen: Int[Tensor, " batch"] | slice, stream: torch.cuda.Stream | None) -> _Sent:
        index = torch.arange(len(self))[chosen] if isinstance(chosen, slice) else chosen
        # Only from page-locked memory does a copy run beside the device's work. torch keeps such blocks and hands one
        # out again when the copy from it has ended.
        frames = torch.empty((len(index), *self.frames.shape[1:]), dtype=torch.uint8, pin_memory=stream is not None)
        torch.index_select(self.frames, 0, index, out=frames)
        labels = self.labels[index]
        if stream is not None:
            labels = labels.pin_memory()
        with torch.cuda.stream(stream):
            batch = DeviceSplit(
                frames=frames.to(self.device, non_blocking=True),
                labels=labels.to(self.device, non_blocking=True),
                time_steps=self.time_steps,
                largest=self.largest,
            )
        return batch, None if stream is None else stream.record_event()


LoadedSplit = DeviceSplit | HostSplit


def at_time_steps(split: LoadedSplit, time_steps: int) -> LoadedSplit:
    """Show the samples in so many steps, a divisor of those of the frames: neighbouring frames are added."""
    return replace(split, time_steps=time_steps)


def evaluation_batches(split: LoadedSplit) -> Iterator[DeviceSplit]:
    """Yield the samples of a split in place, as many together as its network is evaluated on at once."""
    return split.batches(evaluated_at_once(split.together.evaluation))


def take(split: LoadedSplit, count: int | None) -> LoadedSplit:
    """Take the first ``count`` samples, in the split's fixed random order; all if it is None or there are no more."""
    return split if count is None else replace(split, frames=split.frames[:count], labels=split.labels[:count])


_Sent = tuple[DeviceSplit, torch.cuda.Event | None]  # a batch and the end of its copy


def _runs(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _received(batch: DeviceSplit, copied: torch.cuda.Event | None) -> DeviceSplit:
    """Return the batch, which the device does not read before its copy has ended; the host waits for nothing."""
    if copied is not None:
        reader = torch.cuda.current_stream(batch.device)
        reader.wait_event(copied)
        for tensor in (batch.frames, batch.labels):
            tensor.record_stream(reader)
    return batch


def mapped(frames: UInt8[np.ndarray, "sample time channel height width"]) -> UInt8[Tensor, "..."]:
    """Return the frames as a tensor. A memory-mapped file is not copied, so that all processes share its bytes.

    The file is mapped copy-on-write, as tensors may be written to: a write stays in this process and off the disk.
    A part of a map, a file that has been deleted since, and an array that is no map are copied.
    """
    if isinstance(frames, np.memmap) and isinstance(frames.base, mmap.mmap):
        file, offset = frames.filename, frames.offset
        if file is not None and Path(file).exists():
            return torch.from_numpy(np.memmap(file, frames.dtype, mode="c", offset=offset, shape=frames.shape))
    return torch.from_numpy(np.array(frames))


def to_device(
    frames: UInt8[np.ndarray, "sample time channel height width"],
    labels: Int[np.ndarray, " sample"],
    *,
    time_steps: int,
    largest: int,
    device: torch.device,
    room: int | None = None,
    together: BatchSizes = USUAL_BATCHES,
) -> LoadedSplit:
    """Place a split where batches of it come from fastest.

    For a processor that is the memory map itself. For a GPU it is the GPU's memory if the split fits into ``room``, by
    default that of one process which has the GPU for itself; otherwise host memory.
    """
    shared, numbers = mapped(frames), torch.from_numpy(np.array(labels))
    if device.type != "cuda" or shared.nbytes <= (split_room(device) if room is None else room):
        return DeviceSplit(
            frames=shared.to(device),
            labels=numbers.to(device),
            time_steps=time_steps,
            largest=largest,
            together=together,
        )
    return HostSplit(
        frames=shared, labels=numbers, time_steps=time_steps, largest=largest, device=device, together=together
    )


def split_room(device: torch.device, *, free: int | None = None, sharers: int = 1) -> int:
    """Return the bytes of a GPU that the splits of one of its ``sharers`` may take, who each keep a copy.

    ``free`` are its free bytes before any of them began, by default those of now.
    """
    if free is None:
        free, _ = torch.cuda.mem_get_info(device)
    return int(RESIDENT_SHARE * free / sharers)
