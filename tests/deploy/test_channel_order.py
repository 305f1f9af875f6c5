"""Orders of channels that close whole blocks: exact counts, never worse, near the best of all, and repeatable."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spquant_search.deploy.channel_order import best_order, open_blocks


def a_record(channels: int, rows: int, seed: int, *, rate: float = 0.4) -> NDArray[np.bool_]:
    """Channels that depend on three numbers of a row, and on chance."""
    generator = np.random.default_rng(seed)
    causes = generator.normal(size=(rows, 3)) @ generator.normal(size=(3, channels))
    return causes + generator.normal(size=(rows, channels)) < np.quantile(causes, rate)


def test_open_blocks_by_hand() -> None:
    opened = np.zeros((3, 18), dtype=bool)
    opened[0, [0, 7]] = True  # one block
    opened[1, [7, 8, 17]] = True  # all three, of which the last has two channels
    assert open_blocks(opened) == 4


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 30), st.integers(1, 90), st.integers(0, 2**31), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.data())
def test_an_order_is_legal_and_never_worse(
    channels: int, rows: int, seed: int, rate: float, data: st.DataObject
) -> None:
    opened = np.random.default_rng(seed).random((rows, channels)) < rate
    cells = [0, *sorted(data.draw(st.sets(st.integers(1, channels - 1), max_size=4)))]
    order = best_order(opened, cells, np.random.default_rng(0))
    for begin, end in zip(cells, [*cells[1:], channels], strict=True):
        assert sorted(order[begin:end].tolist()) == list(range(begin, end))
    assert open_blocks(opened[:, order]) <= open_blocks(opened)
    assert (order == best_order(opened, cells, np.random.default_rng(0))).all()
    if open_blocks(opened[:, order]) == open_blocks(opened):
        assert order.tolist() == list(range(channels)), "nothing is moved for nothing"


@pytest.mark.parametrize("seed", range(4))
def test_of_two_blocks_it_is_the_best_of_all(seed: int) -> None:
    """Of 12 and 14 channels, whose second block is smaller, every division into two blocks is counted."""
    channels = 14 if seed % 2 else 12
    opened = a_record(channels, 40, seed)
    every = np.arange(channels)
    least = min(
        open_blocks(opened[:, [*first, *np.setdiff1d(every, first)]]) for first in combinations(range(channels), 8)
    )
    assert open_blocks(opened[:, best_order(opened, (0,), np.random.default_rng(0))]) == least


def test_blocks_that_were_mixed_are_found_again() -> None:
    generator = np.random.default_rng(1)
    by_block = generator.random((500, 6)) < 0.5
    opened = np.repeat(by_block, 8, axis=1) & (generator.random((500, 48)) < 0.7)
    mixed = opened[:, generator.permutation(48)]
    assert open_blocks(mixed) > 1.5 * open_blocks(opened)
    assert open_blocks(mixed[:, best_order(mixed, (0,), generator)]) == open_blocks(opened)


def test_it_holds_on_rows_that_were_not_seen() -> None:
    opened = a_record(64, 3000, 0)
    seen, unseen = opened[:1500], opened[1500:]
    order = best_order(seen, (0,), np.random.default_rng(0))
    by_rate = np.argsort(seen.mean(axis=0))
    counts = [open_blocks(unseen[:, one]) for one in (np.arange(64), by_rate, order)]
    assert counts[2] < 0.97 * counts[1] < counts[0]
