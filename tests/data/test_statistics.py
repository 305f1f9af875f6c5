"""Figures of a data set, counted by hand."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from data.described import facts_of, write_known
from data.tiny_events import load_tiny

from spquant_search.data import loading
from spquant_search.data.statistics import dataset_statistics, examples


def test_figures_that_can_be_counted_by_hand(tmp_path: Path) -> None:
    write_known(tmp_path / "files", 90, 90, 90)
    facts, loaded = facts_of("event-folder", tmp_path / "cache", root=str(tmp_path / "files"), sensor=(4, 5))
    for name, split in facts.splits:
        assert (split.samples, split.samples_by_class) == (2, (1, 1))
        assert split.events is not None
        # 90 events and 1 event; over 3 time steps of 2 x 4 x 5 values: 3 values of 30 events, and 1 value of 1 event.
        assert (split.events.mean, split.events.deviation) == (45.5, 44.5)
        assert (split.events.min, split.events.max) == (1.0, 90.0)
        assert split.density == 4 / (2 * 3 * 2 * 4 * 5)
        assert split.clamped == 3 / (2 * 3 * 2 * 4 * 5)  # 30 is above 15
        assert split.pixels is None
        assert Path(split.file).parent == tmp_path / "cache"
        assert Path(split.file).name.startswith(f"event-folder-{name}-")
        assert split.bytes == Path(split.file).stat().st_size == 128 + 240 + 2 * 4 * 8 + 12
    assert (facts.time_steps, facts.channels, facts.height, facts.width) == (3, 2, 4, 5)
    assert facts.cache_bytes == 3 * 444
    assert facts.steps_shown == (3,)
    in_one = dataset_statistics(loaded, (1, 3))
    for _, split in in_one.splits:
        one, three = split.by_time_steps
        # Of 91 counts 15 and 1 are shown in one step, and 3 times 15 and 1 in three.
        assert (one.lost, three.lost) == (75 / 91, 45 / 91)
        assert (one.density, one.clamped) == (2 / (2 * 2 * 4 * 5), 1 / (2 * 2 * 4 * 5))
        assert (three.density, three.clamped) == (split.density, split.clamped)
    with_sum, _ = facts_of(
        "event-folder", tmp_path / "c", root=str(tmp_path / "files"), sensor=(4, 5), polarity="both-and-sum"
    )
    assert [split.events for _, split in with_sum.splits] == [split.events for _, split in facts.splits]
    shown = examples(loaded)
    assert (shown.classes, shown.columns) == (("a", "b"), (1, 2, 3))
    assert np.argwhere(shown.frames).tolist() == [[0, 0, 1, 2, 1], [0, 1, 1, 2, 1], [0, 2, 1, 2, 1], [1, 0, 0, 2, 1]]


def test_figures_by_time_steps_are_those_of_what_a_network_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spquant_search.data.statistics._BLOCK_BYTES", 7 * 6 * 2 * 34 * 34)  # blocks of 7 samples
    loaded = load_tiny(tmp_path, time_steps=6)
    facts = dataset_statistics(loaded, (1, 2, 3, 6))
    assert dict(facts.splits)["train"].by_time_steps[-1].clamped == dict(facts.splits)["train"].clamped
    for name, split in facts.splits:
        frames = np.asarray(getattr(loaded, name).frames, int)
        for found in split.by_time_steps:
            steps = [
                frames[:, start : start + 6 // found.time_steps].sum(axis=1)
                for start in range(0, 6, 6 // found.time_steps)
            ]
            values = np.stack(steps)
            assert len(values) == found.time_steps
            assert found.density == pytest.approx((values > 0).mean())
            assert found.clamped == pytest.approx((values > 15).mean())
            assert found.lost == pytest.approx(1 - np.minimum(values, 15).sum() / values.sum())
        losses = [found.lost for found in split.by_time_steps]
        assert losses == sorted(losses, reverse=True)
    assert facts.as_dict()["splits"]["train"]["by_time_steps"][0] == asdict(
        dict(facts.splits)["train"].by_time_steps[0]
    )


def test_many_classes_and_steps_are_shown_evenly(tmp_path: Path) -> None:
    loaded = loading.load(
        "fashion-events", time_steps=21, cache_dir=tmp_path, limit={"train": 40, "validation": 1, "test": 1}
    )
    shown = examples(loaded)
    assert shown.columns == (1, 3, 5, 8, 10, 12, 14, 17, 19, 21)
    assert shown.frames.shape == (8, 10, 2, 34, 34)
    assert (shown.classes[0], shown.classes[-1]) == (loaded.classes[0], loaded.classes[-1])
    first = int(np.flatnonzero(loaded.train.labels == 0)[0])
    np.testing.assert_array_equal(shown.frames[0], loaded.train.frames[first][[c - 1 for c in shown.columns]])
