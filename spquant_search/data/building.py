"""Make the frames of a split block by block, in one process or in several."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Protocol, runtime_checkable

from spquant_search.data.cache import Block, Shape
from spquant_search.errors import UserError
from spquant_search.processes import end_with_parent, main_left_out

FEWEST_BLOCKS = 12  # with fewer, starting processes takes longer than they save
_BLOCKS_AHEAD = 2  # of each process: blocks that may wait to be written


@runtime_checkable
class FrameSource(Protocol):
    """The samples of a split and the way in which they become frames."""

    @property
    def shape(self) -> Shape:
        """The shape of all frames: [sample, time, channel, height, width]."""

    @property
    def numbers(self) -> int:
        """How many numbers are counted of each sample: the events of each time step and those left out, or none."""

    @property
    def block_length(self) -> int:
        """Samples of a block. Progress is reported after each, so a block takes a fraction of a second."""

    @property
    def is_slow(self) -> bool:
        """True where making frames takes longer than handing them from one process to another."""

    def recipe(self) -> dict[str, object]:
        """Return everything that shapes the frames, as JSON."""

    def block(self, chosen: slice) -> Block:
        """Make the frames of the samples chosen."""


def frame_blocks(source: FrameSource, *, processes: int = 1) -> Iterator[Block]:
    """Make all frames in their order, whatever the number of processes."""
    samples, length = source.shape[0], source.block_length
    blocks = [slice(start, min(start + length, samples)) for start in range(0, samples, length)]
    if processes > 1 and source.is_slow and len(blocks) >= FEWEST_BLOCKS:
        yield from _in_processes(source, blocks, processes)
    else:
        yield from map(source.block, blocks)


def _in_processes(source: FrameSource, blocks: list[slice], processes: int) -> Iterator[Block]:
    # Spawned, as trainers are: a forked process may hang on a lock of a thread that it does not have.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_begin, initargs=(source,))
    waiting: deque[Future[Block]] = deque()
    try:
        for block in blocks:
            with main_left_out():  # a process may begin now
                waiting.append(pool.submit(_make, block))
            if len(waiting) > _BLOCKS_AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            f"a process that made frames has ended ({error}); memory may have run out: free some, and start again"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_source: FrameSource  # of this process, where it is one that makes frames


def _begin(source: FrameSource) -> None:
    global _source
    _source = source
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the first one decides
    threading.Thread(target=end_with_parent, daemon=True).start()


def _make(chosen: slice) -> Block:
    return _source.block(chosen)
