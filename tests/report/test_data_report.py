"""A data set as tables and as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.described import facts_of, write_known
from PIL import Image

from spquant_search.data.statistics import dataset_statistics, examples
from spquant_search.report.data_report import OFF, ON, class_table, coloured, draw_samples, split_table, steps_table


def test_tables_of_recordings(tmp_path: Path) -> None:
    write_known(tmp_path / "files", 90, 90, 90)
    facts, loaded = facts_of("event-folder", tmp_path / "cache", root=str(tmp_path / "files"), sensor=(4, 5))
    classes = class_table(facts)
    assert classes.header == ("class", "train", "validation", "test", "all")
    assert classes.rows == (("a", "1", "1", "1", "3"), ("b", "1", "1", "1", "3"))
    assert classes.total == ("all", "2", "2", "2", "6")
    splits = split_table(facts)
    spread = ("events mean", "spread", "min..max")
    assert splits.header == ("split", "samples", *spread, "non-zero %", "above 15 %", "fullest frame %", "MiB")
    assert splits.rows[0] == ("train", "2", "46", "44", "1..90", "1.7", "1.25", "66.7", "0.0")
    assert "3 x 2 x 4 x 5" in splits.notes[0]
    assert str(tmp_path / "cache") in splits.notes[-1]
    assert steps_table(facts) is None
    several = dataset_statistics(loaded, (1, 3))
    table = steps_table(several)
    assert table is not None
    # Of 80 and 240 values 2 and 4 are not zero; of 91 counts 15 + 1 and 3 times 15 + 1 are shown.
    assert table.rows == (("1", "3", "2.5", "1.25", "82.42"), ("3", "1", "1.7", "1.25", "49.45"))
    assert split_table(several).rows == splits.rows
    frames = split_table(several).notes[0]
    assert frames == (
        "frames: 3 x 2 x 4 x 5 (time steps, channels, height, width); a network of 1 time step is shown sums of "
        "neighbouring ones, and all figures here are of 3"
    )


def test_tables_of_images(tmp_path: Path) -> None:
    for class_name, value in (("a", 10), ("b", 30)):
        (tmp_path / "files" / class_name).mkdir(parents=True)
        for number in range(3):
            grey = Image.new("RGB", (4, 4), (value, 0, value))
            grey.save(tmp_path / "files" / class_name / f"{number}.png")
    facts, loaded = facts_of("image-folder", tmp_path / "cache", root=str(tmp_path / "files"), size=(4, 4))
    train = facts.splits[0][1]
    assert train.pixels is not None
    assert (train.pixels.mean, train.pixels.min, train.pixels.max) == pytest.approx((40 / 3, 20 / 3, 20.0))
    assert (train.events, train.density, train.clamped) == (None, 2 / 3, 0)
    splits = split_table(facts)
    assert splits.header == ("split", "samples", "pixel mean", "spread", "min..max", "non-zero %", "MiB")
    assert splits.rows[0][:6] == ("train", "2", "13.3", "6.7", "6.7..20.0", "66.7")
    assert "3 x 4 x 4 " in splits.notes[0]
    several = dataset_statistics(loaded, (1, 3))
    assert steps_table(several) is None
    assert split_table(several).rows == splits.rows
    assert split_table(several).notes[0].endswith("the same in each of 1 or 3 time steps")
    shown = examples(loaded)
    assert shown.frames.shape == (2, 1, 3, 4, 4)  # a sample of each class in train


def test_colours_of_events() -> None:
    frames = np.zeros((2, 1, 3, 1, 4), np.uint8)
    frames[0, 0, :, 0] = [[4, 0, 1, 0], [0, 4, 0, 0], [4, 4, 1, 0]]  # OFF, ON and their sum
    shown = coloured(frames, largest=15, static=False)
    assert shown.shape == (2, 1, 1, 4, 3)
    off, on = (np.array([int(ink[at : at + 2], 16) / 255 for at in (1, 3, 5)]) for ink in (OFF, ON))
    np.testing.assert_allclose(shown[0, 0, 0], [off, on, (1 + off) / 2, [1, 1, 1]])  # 1 of 4 at half strength
    assert (shown[1] == 1).all()  # a row without an event
    both = coloured(np.full((1, 1, 2, 1, 1), 200, np.uint8), largest=15, static=False)
    np.testing.assert_allclose(both[0, 0, 0, 0], np.clip(off + on - 1, 0, 1))


def test_images_are_shown_as_they_are() -> None:
    frames = np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 2, 2) * 10
    shown = coloured(frames, largest=255, static=True)
    np.testing.assert_allclose(shown[1, 0, :, :, 2], frames[1, 0, 2] / 255)
    grey = coloured(frames[:, :, :1], largest=255, static=True)
    np.testing.assert_allclose(grey, np.repeat(frames[:, :, 0][..., None], 3, axis=-1) / 255)


def test_what_the_picture_says(tmp_path: Path) -> None:
    write_known(tmp_path / "files", 90, 90, 90)
    facts, loaded = facts_of("event-folder", tmp_path / "cache", root=str(tmp_path / "files"), sensor=(4, 5))
    figure = draw_samples(facts, examples(loaded))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3"]
    assert axes.get_xlabel() == "time step"
    assert len(axes.images) == 6
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ON events", "OFF events", "both"]
    (title,) = [text.get_text() for text in figure.texts]
    assert " ".join(title.split()) == f"event-folder: {facts.description}"
