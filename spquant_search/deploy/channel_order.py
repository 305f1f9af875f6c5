"""Find orders of channels in which channels that are closed together fill whole blocks.

A device adds the weights of a block of channels in one go and leaves it out where a gate has closed all of it. Which
channels share a block is free, and worth choosing: a block counts as open in a time step where one of its channels is.
Sorting channels by how often they are open gains little. Exchanges of two channels gain most, where those are made as
well that leave the number of open blocks as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

BLOCK = 8  # channels
STARTS = 10
STALE_PASSES = 4  # over all channels without a gain, after which a start has ended
MOST_WORDS = 2**24  # of 64 bits that a start looks at, so that a layer of any width takes seconds

Order = NDArray[np.intp]  # at each place the channel that comes there
Opened = NDArray[np.bool_]  # [sample and time step, channel]
_Words = NDArray[np.uint64]  # a bit a row of what is open


def open_blocks(opened: Opened) -> int:
    """Count the blocks of neighbouring channels of which one at least is open, over all rows."""
    starts = np.arange(0, opened.shape[1], BLOCK)
    return int(np.count_nonzero(np.logical_or.reduceat(opened, starts, axis=1)))


def best_order(opened: Opened, cells: Sequence[int], generator: np.random.Generator) -> Order:
    """Return the order with the fewest open blocks of those that some starts lead to; at worst the one there is.

    ``cells`` are the first places of runs of channels, none of which leaves its run.
    """
    channels = opened.shape[1]
    best, fewest = np.arange(channels), open_blocks(opened)
    cell = np.searchsorted(np.asarray(cells), np.arange(channels), side="right")
    for start in _starts(opened, cell, generator):
        order = _Exchanges(opened, start, cell).run(generator)
        found = open_blocks(opened[:, order])
        if found < fewest:
            best, fewest = order, found
    return best


def _starts(opened: Opened, cell: NDArray[np.intp], generator: np.random.Generator) -> Iterator[Order]:
    """Yield the order there is, the one by how often channels are open, and drawn ones."""
    yield np.arange(len(cell))
    yield np.lexsort((opened.sum(axis=0), cell))
    for _ in range(STARTS - 2):
        yield np.lexsort((generator.random(len(cell)), cell))


class _Exchanges:
    """An order that exchanges of two channels improve; what is known of it is kept as they are made."""

    def __init__(self, opened: Opened, start: Order, cell: NDArray[np.intp]) -> None:
        self.order, self.cell = start.copy(), cell
        self.block = np.arange(len(cell)) // BLOCK
        self.bits = _packed(opened)[start]  # of the channel at each place
        self.rest = np.zeros_like(self.bits)  # of the other channels of its block
        self.open = np.zeros(len(cell), dtype=np.int64)  # rows in which its block is
        for block in range(self.block[-1] + 1):
            self._look_at(block)

    def run(self, generator: np.random.Generator) -> Order:
        """Exchange channels until no pass gains any more, or enough was looked at."""
        passes = max(1, MOST_WORDS // (len(self.order) * self.bits.size))
        stale = 0
        for _ in range(passes):
            gains = [self._exchange(int(place), generator) for place in generator.permutation(len(self.order))]
            stale = 0 if any(gains) else stale + 1
            if stale == STALE_PASSES:
                break
        return self.order

    def _exchange(self, place: int, generator: np.random.Generator) -> bool:
        """Make the best exchange of a place, one that is as good as none included; tell whether it gained."""
        here = _count(self.rest[place] | self.bits)
        there = _count(self.rest | self.bits[place])
        change = here + there - self.open - self.open[place]
        change[(self.block == self.block[place]) | (self.cell != self.cell[place])] = 1
        least = int(change.min())
        if least > 0:
            return False
        other = int(generator.choice(np.flatnonzero(change == least)))
        both = [place, other]
        self.order[both], self.bits[both] = self.order[both[::-1]], self.bits[both[::-1]]
        for block in self.block[both]:
            self._look_at(int(block))
        return least < 0

    def _look_at(self, block: int) -> None:
        """Work out anew what is known of a block."""
        places = slice(block * BLOCK, (block + 1) * BLOCK)
        bits = self.bits[places]
        others = np.where(np.eye(len(bits), dtype=bool)[:, :, None], np.uint64(0), bits)
        self.rest[places] = np.bitwise_or.reduce(others, axis=1)
        self.open[places] = _count(np.bitwise_or.reduce(bits, axis=0))


def _packed(opened: Opened) -> _Words:
    """Return a bit for each row, by channel: [channel, word]."""
    rows = -(-len(opened) // 64) * 64
    padded = np.zeros((rows, opened.shape[1]), dtype=bool)
    padded[: len(opened)] = opened
    return np.ascontiguousarray(np.packbits(padded, axis=0).T).view(np.uint64)


def _count(words: _Words) -> NDArray[np.int64]:
    """Count the bits in the last axis."""
    counted: NDArray[np.int64] = np.bitwise_count(words).sum(axis=-1, dtype=np.int64)
    return counted
