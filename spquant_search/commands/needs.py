"""What a search takes of disks and memory, and what it has to do: told before it begins, and by the command cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spquant_search.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from spquant_search.report.text_table import TextTable
    from spquant_search.runs.work import PartWork
    from spquant_search.training.demand import DiskDemand, MemoryDemand
    from spquant_search.training.prepared import Prepared


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """The needs of a search, as far as they are known before it."""

    parts: tuple[PartWork, ...]
    disk: DiskDemand
    memory: MemoryDemand

    def as_dict(self, *, macs: int) -> dict[str, Any]:
        """Return the needs ready for JSON; ``macs`` are those of a sample in all time steps."""
        return {
            "work": [work.as_dict(macs=macs) for work in self.parts],
            "disk": self.disk.as_dict(),
            "memory": self.memory.as_dict(),
        }


def needs_of(prepared: Prepared, run: Path, *, trials: int) -> Needs:
    """Find what a search of so many trials takes; ``run`` is its run's folder, which need not be there.

    Raises:
        UserError: the data set's files are not there.
    """
    from spquant_search.runs.files import cache_folder
    from spquant_search.runs.work import SampleCounts, search_work
    from spquant_search.training.data_set import data_files
    from spquant_search.training.demand import disk_demand, memory_demand

    frames = data_files(prepared.space.file, cache=cache_folder())
    samples = SampleCounts(**{file.split: file.samples for file in frames})
    parts = search_work(prepared.space, samples, trials=trials)
    return Needs(
        parts=parts,
        disk=disk_demand(prepared, frames, parts, run=run),
        memory=memory_demand(prepared, samples),
    )


def show_needs(needs: Needs | str, console: Console, *, device: str) -> None:
    """Print a search's needs before it begins, and warn of what does not fit, or say why they are not known."""
    if isinstance(needs, str):
        console.print(f"disk and memory: not known yet: {needs}", markup=False, highlight=False, soft_wrap=True)
        return
    on_processor = device == "cpu"
    lines = [disk_words(needs.disk), *([memory_words(needs.memory)] if on_processor else [])]
    warnings = [*disk_warnings(needs.disk), *(memory_warnings(needs.memory) if on_processor else ())]
    for line in (*lines, *(f"warning: {text}" for text in warnings)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def disk_words(disk: DiskDemand) -> str:
    """Say what a search takes of its disks, as a sentence."""
    from spquant_search.report.numbers import binary_size

    whole, missing = sum(file.bytes for file in disk.frames), disk.missing_bytes
    if missing == 0:
        state = "in the cache already"
    else:
        state = ("to be made" if missing == whole else f"{binary_size(missing)} of them to be made") + " in the cache"
    free, left = _free(disk.frames_free_bytes), _free(disk.run_free_bytes)
    return f"disk: frames {binary_size(whole)}, {state}{free}; the run at most {binary_size(disk.run_bytes)}{left}"


def memory_words(memory: MemoryDemand) -> str:
    """Say what a search takes of the memory, as a sentence."""
    from spquant_search.report.numbers import binary_size

    of = "" if memory.available_bytes is None else f" of {binary_size(memory.available_bytes)} available"
    trainers = f"{memory.trainers} trainer{'s' if memory.trainers > 1 else ''}"
    return (
        f"memory: about {binary_size(memory.total_bytes)}{of}: {trainers} of {binary_size(memory.trainer_bytes)}, and "
        "the command itself"
    )


def disk_warnings(disk: DiskDemand) -> tuple[str, ...]:
    """Say what does not fit on the disks, with a remedy."""
    from spquant_search.report.numbers import binary_size

    found = []
    free = disk.frames_free_bytes
    if free is not None and disk.missing_bytes > free:
        found.append(
            f"{disk.frames_folder}: the frames to be made take {binary_size(disk.missing_bytes)}, and "
            f"{binary_size(free)} are free; take fewer time_steps, a smaller data.size or fewer samples, or choose "
            "another folder by the environment variable SPQUANT_CACHE"
        )
    if not disk.fits and disk.run_free_bytes is not None:
        found.append(
            f"{disk.run_folder}: the run may take {binary_size(disk.run_bytes)}, and {binary_size(disk.run_free_bytes)}"
            " are free; free some, take fewer trials, or name a folder on another disk by --run"
        )
    return tuple(found)


def memory_warnings(memory: MemoryDemand) -> tuple[str, ...]:
    """Say that a search may not fit into the memory, with a remedy."""
    from spquant_search.report.numbers import binary_size

    if memory.fits or memory.available_bytes is None:
        return ()
    smaller = "a smaller train.batch_size" if memory.training_bytes >= memory.evaluation_bytes else "smaller frames"
    workers = ", or fewer workers (--workers)" if memory.trainers > 1 else ""
    return (
        f"memory may run out: about {binary_size(memory.total_bytes)} are needed, and "
        f"{binary_size(memory.available_bytes)} are available; take {smaller}, fewer time_steps{workers}",
    )


def work_table(needs: Needs, *, macs: int, time_steps: Sequence[int]) -> TextTable:
    """Make the table of a search's parts, with its needs below.

    ``macs`` are those of a sample in all of the most ``time_steps`` that the space has.
    """
    from spquant_search.report.numbers import quantity
    from spquant_search.report.text_table import TextTable

    rows = tuple(
        (
            str(work.part),
            f"{'up to ' if work.at_most else ''}{work.tasks}",
            str(work.epochs) if work.epochs else "-",
            f"{work.trained_samples:,}",
            f"{work.evaluated_samples:,}",
            f"{work.passes:,}",
            quantity(work.passes * macs),
        )
        for work in needs.parts
    )
    passes = sum(work.passes for work in needs.parts)
    return TextTable(
        title="What a search of this space does" + (", at most" if len(time_steps) == 1 else ""),
        header=("part", "tasks", "epochs", "trained on", "evaluated", "passes", "MACs"),
        rows=rows,
        total=("total", "", "", "", "", f"{passes:,}", quantity(passes * macs)),
        notes=(
            "samples, each as often as it is used; a pass is a sample forward through the network in all its time "
            "steps, and training on it takes three; MACs are dense, as of the network in floats",
            *_fewer_steps_words(time_steps),
            disk_words(needs.disk),
            memory_words(needs.memory),
            *(f"warning: {text}" for text in (*disk_warnings(needs.disk), *memory_warnings(needs.memory))),
            "how many minutes that takes is estimated from the first epochs of a search, and shown while it runs",
        ),
        left=frozenset({"part"}),
    )


def _fewer_steps_words(time_steps: Sequence[int]) -> tuple[str, ...]:
    """Say how samples in fewer time steps are counted, and what of that is not known before a search."""
    *fewer, most = time_steps
    if not fewer:
        return ()
    return (
        f"a sample in fewer than {most} time steps is that part of a pass; the supernet and the finalists take as much "
        f"work at any number of them; trials are taken to have each of {', '.join(map(str, fewer))} and {most} as "
        "often: they take more where the search prefers many",
    )


def known_needs(prepared: Prepared, run: Path, *, trials: int) -> Needs | str:
    """Return what a search of so many trials takes, or why that is not known yet."""
    try:
        return needs_of(prepared, run, trials=trials)
    except UserError as error:
        return str(error)


def _free(free: int | None) -> str:
    from spquant_search.report.numbers import binary_size

    return "" if free is None else f" ({binary_size(free)} free)"
