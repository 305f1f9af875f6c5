"""What is said of how frames are made suffices to make them: a device that knows nothing else makes the same ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.event_writers import HEIGHT, WIDTH, Rows, made_up_events, write_structured
from data.tiny_events import load_tiny
from numpy.typing import NDArray
from PIL import Image

from spquant_search.data import loading
from spquant_search.data.description import describe
from spquant_search.data.frame_rules import FrameRules, frame_rules
from spquant_search.space.schema import DataSpace


def rules_of(options: DataSpace, time_steps: int, *, made: int | None = None) -> FrameRules:
    info = describe(options.name, options, time_steps=made or time_steps)
    found = frame_rules(info, options, time_steps=time_steps, made=made or time_steps)
    assert json.loads(json.dumps(found.figures)) == found.figures
    return found


def made_by_device(rows: Rows, rules: Mapping[str, Any]) -> NDArray[np.int64]:
    """Count one event after the other, by the figures alone; counts end at what a network is shown."""
    crop, (height, width), names = rules["crop"], rules["frame"], rules["channels"]
    frames = np.zeros((rules["time_steps"], len(names), height, width), np.int64)
    first, last = rows[0, 2], rows[-1, 2]
    for x, y, t, p in rows.tolist():
        row, column = y - crop["row"], x - crop["column"]
        if 0 <= row < crop["height"] and 0 <= column < crop["width"]:
            step = (t - first) * rules["time_steps"] // (last - first + 1)
            if rules["step_us"] is not None:
                step = (t - first) // rules["step_us"]
            for channel, name in enumerate(names):
                if ("OFF", "ON")[p] in name.split(" + ") and step < rules["time_steps"]:
                    frames[step, channel, row * height // crop["height"], column * width // crop["width"]] += 1
    return np.minimum(frames, rules["shown_up_to"])


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"polarity": "sum", "crop": (11, 13), "size": (4, 5)},
        {"polarity": "both-and-sum", "size": (3, 24)},
        {"crop": (1, 24), "size": (1, 1)},
        {"window_us": 70_000, "size": (8, 8), "polarity": "sum"},
        {"window_us": 20_000, "first_windows": 12},
    ],
)
def test_a_device_makes_the_frames_of_recordings(tmp_path: Path, more: dict[str, Any]) -> None:
    files = {}
    for number in range(6):
        name = f"{'ab'[number % 2]}/{number}.npy"
        (tmp_path / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        files[name] = made_up_events(number, WIDTH, HEIGHT, count=600)
        write_structured(tmp_path / "files" / name, files[name])
    options = DataSpace(name="event-folder", root=str(tmp_path / "files"), sensor=(HEIGHT, WIDTH), **more)
    loaded = loading.load("event-folder", time_steps=3, options=options, cache_dir=tmp_path / "cache")
    rules = rules_of(options, 3)
    for frames, (name, *_) in zip(loaded.train.frames, loaded.train.files, strict=True):
        np.testing.assert_array_equal(np.minimum(frames, loaded.largest), made_by_device(files[name], rules.figures))
    assert rules.figures["stored_up_to"] == 255
    words = " ".join(rules.sentences)
    assert ("t * 3 // D == k" in words) == ("window_us" not in more)
    assert ("(k + 1) * 80000 us, the end excluded" in words) == ("first_windows" in more)
    assert ("pixels (height x width) of the sensor" in words) == ("crop" in more)


def seen_through_triangles(picture: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Scale the middle of a grey picture as the sentence says, in floating point."""
    height, width = picture.shape
    scale = min(height / size[0], width / size[1])
    for axis in (1, 0):
        length, pixels = picture.shape[axis], size[axis]
        centres = (length - pixels * scale) / 2 + (np.arange(pixels) + 0.5) * scale
        reach = max(scale, 1.0)
        weights = np.maximum(0, 1 - np.abs(centres[:, None] - (np.arange(length) + 0.5)) / reach)
        scaled = np.tensordot(weights / weights.sum(1, keepdims=True), picture, (1, axis))
        picture = np.floor(np.moveaxis(scaled, 0, axis) + 0.5)
    return picture


@pytest.mark.parametrize("size", [(8, 8), (7, 15), (40, 24)])
def test_a_device_makes_the_frames_of_images(tmp_path: Path, size: tuple[int, int]) -> None:
    generator, pictures = np.random.default_rng(0), {}
    for number in range(6):
        name = f"{'ab'[number % 2]}/{number}.png"
        (tmp_path / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        pictures[name] = generator.integers(0, 256, (23, 31, 3), np.uint8)
        Image.fromarray(pictures[name]).save(tmp_path / "files" / name)
    options = DataSpace(name="image-folder", root=str(tmp_path / "files"), size=size)
    loaded = loading.load("image-folder", time_steps=3, options=options, cache_dir=tmp_path / "cache")
    rules = rules_of(options, 3)
    assert rules.figures["channels"] == ["red", "green", "blue"]
    assert (rules.figures["frame"], rules.figures["values"], rules.figures["white"]) == (list(size), [0, 255], 65535)
    for frames, (name, *_) in zip(loaded.train.frames, loaded.train.files, strict=True):
        for channel in range(3):
            expected = seen_through_triangles(pictures[name][..., channel].astype(np.float64), size)
            assert np.abs(frames[0, channel] - expected).max() <= 1
    assert f"the ratio of {size[0]} x {size[1]}" in rules.sentences[1]
    assert "Resampling.BILINEAR" in rules.sentences[1]
    assert rules.sentences[-1] == "Time: the same frame in each of the 3 time steps."


def test_images_that_are_grey_and_those_with_a_white_of_their_own() -> None:
    grey = rules_of(DataSpace(name="mnist"), 4)
    assert (grey.figures["channels"], grey.figures["grey"]) == (["grey"], [19595, 38470, 7471])
    assert any("(19595 R + 38470 G + 7471 B + 32768) // 65536" in sentence for sentence in grey.sentences)
    own = DataSpace(name="image-folder", classes=2, size=(8, 8), white=4095, background="white")
    assert (
        "round(255 * value / 4095), at most 255; behind transparent pixels is white." in rules_of(own, 1).sentences[0]
    )


def test_simulated_recordings_are_called_so(tmp_path: Path) -> None:
    loaded, rules = load_tiny(tmp_path), rules_of(DataSpace(name="fashion-events"), 3)
    assert rules.figures["frame"] == [loaded.height, loaded.width]
    assert (rules.figures["image"], rules.figures["recording_us"]) == ([28, 28], 315_000)
    assert rules.sentences[0].startswith("Recordings are simulated")
    assert rules_of(DataSpace(name="mnist", as_events=True), 3).figures["made_of"] == rules.figures["made_of"]


def test_every_option_of_recordings_is_said() -> None:
    base = rules_of(DataSpace(name="nmnist"), 4)
    for more in ({"denoise_us": 300}, {"window_us": 99}, {"polarity": "sum"}, {"crop": (20, 20)}, {"size": (17, 17)}):
        other = rules_of(DataSpace(name="nmnist", **more), 4)  # type: ignore[arg-type]
        assert other.figures != base.figures
        assert other.sentences != base.sentences
