"""Batches are the same wherever a split lies, and a memory-mapped split is copied by no process."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spquant_search.data.loading import DataSet, Split
from spquant_search.training import loader as batches
from spquant_search.training.data_set import split_on_device
from spquant_search.training.loader import AHEAD, DeviceSplit, HostSplit, mapped, to_device

CPU = torch.device("cpu")


def split(samples: int = 23) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (samples, 2, 3, 4, 5), dtype=np.uint8)
    return frames, generator.integers(0, 10, samples)


def both(samples: int = 23) -> tuple[DeviceSplit, HostSplit]:
    frames, labels = (torch.from_numpy(values) for values in split(samples))
    resident = DeviceSplit(frames=frames, labels=labels, time_steps=2, largest=15)
    return resident, HostSplit(frames=frames, labels=labels, time_steps=2, largest=15, device=CPU)


def on_file(folder: Path) -> np.ndarray:
    np.save(folder / "frames.npy", split()[0])
    return np.lib.format.open_memmap(folder / "frames.npy", mode="r")


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("size", [1, 4, 23, 100])
@pytest.mark.parametrize("drawn", [None, 0, 16, 23])
def test_batches_are_the_same_from_host_memory(size: int, drawn: int | None) -> None:
    resident, streamed = both()
    order = None if drawn is None else torch.randperm(23, generator=torch.Generator().manual_seed(1))[:drawn]
    expected = list(resident.batches(size, order=order))
    found = list(streamed.batches(size, order=order))
    assert [len(batch) for batch in found] == [len(batch) for batch in expected]
    for batch, other in zip(found, expected, strict=True):
        assert torch.equal(batch.frames, other.frames)
        assert torch.equal(batch.labels, other.labels)
        assert (batch.time_steps, batch.largest, batch.device) == (2, 15, CPU)


def test_batches_are_runs_of_the_order_and_the_last_may_be_smaller() -> None:
    resident, _ = both()
    assert [batch.labels.tolist() for batch in resident.batches(10)] == [
        resident.labels[start : start + 10].tolist() for start in (0, 10, 20)
    ]
    order = torch.tensor([5, 3, 9, 3, 0])
    taken = [batch.labels.tolist() for batch in resident.batches(2, order=order)]
    assert taken == [resident.labels[run].tolist() for run in ([5, 3], [9, 3], [0])]


def test_a_few_batches_are_gathered_ahead_by_another_thread_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    _, streamed = both()
    gathered: list[str] = []
    send = HostSplit._send

    def counted(*arguments: Any) -> Any:
        gathered.append(threading.current_thread().name)
        return send(*arguments)

    monkeypatch.setattr(HostSplit, "_send", counted)
    source = streamed.batches(2)
    assert gathered == [], "nothing before the first batch is asked for"
    for taken in range(1, 4):
        next(source)
        assert taken <= len(gathered) <= taken + AHEAD
    source.close()
    assert all(name.startswith("batches") for name in gathered)
    assert len(gathered) <= 3 + AHEAD
    assert not any(thread.name.startswith("batches") for thread in threading.enumerate())


def test_an_error_of_the_thread_is_the_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any) -> Any:
        raise OSError("the disk is gone")

    monkeypatch.setattr(HostSplit, "_send", broken)
    with pytest.raises(OSError, match="the disk is gone"):
        next(both()[1].batches(2))


# ---------------------------------------------------------------- memory maps


def file_at(address: int) -> str:
    """What is mapped at an address of this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, _, end = line.split()[0].partition("-")
        if int(begin, 16) <= address < int(end, 16):
            return line.split(maxsplit=5)[5] if len(line.split()) > 5 else ""
    return ""


def test_a_memory_mapped_split_is_read_where_it_lies_and_never_written(tmp_path: Path) -> None:
    frames = on_file(tmp_path)
    before = (tmp_path / "frames.npy").read_bytes()
    tensor = mapped(frames)
    assert torch.equal(tensor, torch.from_numpy(np.array(frames)))
    assert file_at(tensor.data_ptr()) == str(tmp_path / "frames.npy")
    assert file_at(tensor[-1].data_ptr()) == str(tmp_path / "frames.npy")
    tensor[:] = 1
    assert (tmp_path / "frames.npy").read_bytes() == before
    assert torch.equal(mapped(frames), torch.from_numpy(np.array(frames))), "a write stays in its own tensor"


def test_a_part_of_a_map_and_an_array_are_copied(tmp_path: Path) -> None:
    frames = on_file(tmp_path)
    assert torch.equal(mapped(frames[3:9]), torch.from_numpy(np.array(frames[3:9])))
    plain = split()[0]
    tensor = mapped(plain)
    tensor[:] = 0
    assert plain.any()


def test_the_cache_may_be_deleted_while_it_is_read(tmp_path: Path) -> None:
    frames = on_file(tmp_path)
    before = mapped(frames)
    (tmp_path / "frames.npy").unlink()
    assert torch.equal(before, torch.from_numpy(split()[0]))
    assert torch.equal(mapped(frames), before)


def test_a_processor_takes_the_map_itself(tmp_path: Path) -> None:
    frames, labels = on_file(tmp_path), split()[1]
    placed = to_device(frames, labels, time_steps=2, largest=15, device=CPU)
    assert isinstance(placed, DeviceSplit)
    assert file_at(placed.frames.data_ptr()) == str(tmp_path / "frames.npy")
    assert placed.labels.tolist() == labels.tolist()
    assert (placed.time_steps, placed.largest, len(placed)) == (2, 15, 23)


def test_a_gpu_takes_what_fits_into_its_share_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (1000, 4000))
    gpu = torch.device("cuda")
    assert batches.RESIDENT_SHARE == 0.5
    assert batches.split_room(gpu) == 500
    assert batches.split_room(gpu, sharers=4) == 125
    assert batches.split_room(gpu, free=8000, sharers=4) == 1000, "before any of the four began"


def test_what_does_not_fit_stays_in_host_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (1000, 4000))
    placed = to_device(on_file(tmp_path), split()[1], time_steps=2, largest=15, device=torch.device("cuda"))
    assert isinstance(placed, HostSplit)
    assert placed.device == torch.device("cuda")
    assert file_at(placed.frames.data_ptr()) == str(tmp_path / "frames.npy")
    assert len(placed) == 23


def test_a_split_of_a_data_set_is_placed_with_its_own_largest_and_in_the_room_that_there_is(tmp_path: Path) -> None:
    frames, labels = on_file(tmp_path), split()[1]
    part = Split(frames=frames, labels=labels)
    data = DataSet(
        name="some",
        description="some",
        classes=("a", "b"),
        time_steps=2,
        train=part,
        validation=part,
        test=part,
        largest=255,
    )
    placed = split_on_device(data, "validation", CPU)
    assert (placed.largest, placed.time_steps, len(placed)) == (255, 2, 23)
    # To the byte: what fits is sent to the GPU, which is not there.
    gpu = torch.device("cuda")
    assert isinstance(split_on_device(data, "train", gpu, room=frames.nbytes - 1), HostSplit)
    with pytest.raises((AssertionError, RuntimeError), match=r"CUDA|NVIDIA"):  # it is sent there, and there is none
        split_on_device(data, "train", gpu, room=frames.nbytes)
