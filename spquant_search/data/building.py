"""The frames of a split, made a run of samples at a time, by one process or by several."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Protocol, runtime_checkable

from spquant_search.data.cache import Frames, Shape
from spquant_search.errors import UserError
from spquant_search.processes import end_with_parent

FEWEST_BLOCKS = 12  # below, starting processes takes longer than they save
_AHEAD = 2  # blocks a process that may wait to be written


@runtime_checkable
class FrameSource(Protocol):
    """How the frames of a split are made."""

    @property
    def shape(self) -> Shape:
        """[sample, time, channel, height, width]"""

    @property
    def run_length(self) -> int:
        """Samples between two reports of progress: a fraction of a second."""

    @property
    def is_slow(self) -> bool:
        """Whether making frames takes longer than handing them from one process to another."""

    def recipe(self) -> dict[str, object]:
        """Everything that shapes the frames, as JSON."""

    def run(self, chosen: slice) -> Frames:
        """The frames of these samples."""


def frame_blocks(build: FrameSource, *, processes: int = 1) -> Iterator[Frames]:
    """All frames in their order, whatever the number of processes.

    Processes import the main program again: a script that asks for several needs its `if __name__ == "__main__"`.
    """
    samples, length = build.shape[0], build.run_length
    slices = [slice(start, min(start + length, samples)) for start in range(0, samples, length)]
    if processes > 1 and build.is_slow and len(slices) >= FEWEST_BLOCKS:
        yield from _in_processes(build, slices, processes)
    else:
        yield from map(build.run, slices)


def _in_processes(build: FrameSource, slices: list[slice], processes: int) -> Iterator[Frames]:
    # Spawned, as trainers are: a forked process may hang on a lock of a thread that it does not have.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin, initargs=(build,))
    waiting: deque[Future[Frames]] = deque()
    try:
        for chosen in slices:
            waiting.append(pool.submit(_run, chosen))
            if len(waiting) > _AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            f"a process that made frames has ended ({error}); memory may have run out: free some, and start again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_build: FrameSource  # of a process that makes frames


def _begin(build: FrameSource) -> None:
    global _build
    _build = build
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the first one decides
    threading.Thread(target=end_with_parent, daemon=True).start()


def _run(chosen: slice) -> Frames:
    return _build.run(chosen)
