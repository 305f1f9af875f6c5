"""The shipped images, and the frames that are made of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data.tiny_events import TINY, cached_files, load_tiny
from numpy.typing import NDArray

from spquant_search.data import description, loading
from spquant_search.data.simulation import simulated
from spquant_search.data.simulation.saccades import simulate_events
from spquant_search.errors import UserError

Images = dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]  # images and labels of each split


@pytest.fixture(scope="module")
def images() -> Images:
    return simulated.fashion_mnist()


def test_splits_are_balanced_and_so_is_every_tenth_prefix(
    images: Images,
) -> None:
    for split, size in {"train": 6000, "validation": 2000, "test": 2000}.items():
        pixels, labels = images[split]
        assert pixels.shape == (size, 28, 28)
        assert pixels.dtype == labels.dtype == np.uint8
        rounds = labels.reshape(-1, 10)
        np.testing.assert_array_equal(np.sort(rounds, axis=1), np.broadcast_to(np.arange(10), rounds.shape))
        # Shuffled: no round's order is the rule.
        assert len(np.unique(rounds, axis=0)) > 0.99 * len(rounds)


def test_no_image_is_in_two_places(images: Images) -> None:
    digests = {image.tobytes() for pixels, _ in images.values() for image in pixels}
    assert len(digests) == 10_000


def test_images_go_with_their_labels(images: Images) -> None:
    # Nearest class mean finds about two thirds of the real pairs, and a tenth of pairs that do not belong together.
    train, labels = images["train"]
    means = np.stack([train[labels == label].mean(0).ravel() for label in range(10)])
    for split in ("validation", "test"):
        pixels = images[split][0].reshape(-1, 784).astype(np.float64)
        distances = (means**2).sum(1) - 2 * pixels @ means.T
        assert (distances.argmin(1) == images[split][1]).mean() > 0.6


def test_the_license_is_shipped_beside_the_images() -> None:
    folder = Path(loading.__file__).parent / "fashion_mnist"
    assert "Copyright (c) 2017 Zalando SE" in (folder / "LICENSE").read_text()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6_000_000


def test_describe_agrees_with_what_is_loaded(tmp_path: Path) -> None:
    info, loaded = description.describe("fashion-events"), load_tiny(tmp_path)
    assert "simulated" in info.description
    assert (info.name, info.description, info.classes) == (loaded.name, loaded.description, loaded.classes)
    assert (info.channels, info.height, info.width) == (loaded.channels, loaded.height, loaded.width) == (2, 34, 34)
    assert loaded.time_steps == 3
    assert len(info.classes) == len(set(loaded.train.labels.tolist())) == 10
    for split, size in ((loaded.train, 20), (loaded.validation, 10), (loaded.test, 10)):
        assert split.frames.shape == (size, 3, 2, 34, 34)
        assert split.frames.dtype == np.uint8
        assert split.labels.dtype == np.int64


def test_frames_are_those_of_the_events_of_each_image(tmp_path: Path, images: Images) -> None:
    loaded = load_tiny(tmp_path)
    # Samples are numbered through the splits, 6000 + 2000 + 2000.
    for split, name, first in ((loaded.train, "train", 0), (loaded.validation, "validation", 6000)):
        pixels, labels = images[name]
        np.testing.assert_array_equal(split.labels, labels[: len(split.labels)])
        numbers = np.arange(first, first + len(split.labels))
        for shown, events in zip(split.frames, simulate_events(pixels[: len(numbers)], numbers), strict=True):
            counts = np.zeros((3, 2, 34, 34), int)
            for x, y, t, p in events.tolist():
                counts[t // 105_000, p, y, x] += 1
            np.testing.assert_array_equal(shown, counts)


def test_frames_stay_at_their_calibration(tmp_path: Path) -> None:
    loaded = loading.load(
        "fashion-events", time_steps=6, cache_dir=tmp_path, limit={"train": 300, "validation": 1, "test": 1}
    )
    events = loaded.train.frames.sum((1, 2, 3, 4), dtype=np.int64)
    assert 4800 < events.mean() < 5300
    assert 800 < events.std() < 1200
    assert loaded.train.frames.max() < 15


def test_a_limit_takes_a_prefix_and_leaves_the_rest(tmp_path: Path) -> None:
    small = load_tiny(tmp_path)
    large = load_tiny(tmp_path, limit={**TINY, "train": 300})
    np.testing.assert_array_equal(large.train.frames[:20], small.train.frames)
    np.testing.assert_array_equal(large.train.labels[:20], small.train.labels)
    assert len(large.train.frames) == 300
    assert len(cached_files(tmp_path)) == 4  # validation and test came from the cache


def test_frames_are_read_only_and_mapped(tmp_path: Path) -> None:
    loaded = load_tiny(tmp_path)
    assert isinstance(loaded.train.frames, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        loaded.train.frames[0] = 0


@pytest.mark.parametrize("cached", [False, True])
def test_progress_counts_all_splits(tmp_path: Path, cached: bool) -> None:
    limit = {"train": 600, "validation": 10, "test": 10}
    if cached:
        load_tiny(tmp_path, limit=limit)
    calls: list[tuple[int, int]] = []
    load_tiny(tmp_path, limit=limit, progress=lambda done, total: calls.append((done, total)))
    steps = [600, 610, 620] if cached else [256, 512, 600, 610, 620]
    assert calls == [(done, 620) for done in steps]


def test_wrong_options_are_all_named() -> None:
    with pytest.raises(UserError) as caught:
        loading.load("fashion-events", time_steps=0, limit={"train": 6001, "valid": 5, "test": 0})
    assert str(caught.value).splitlines() == [
        "time_steps: must be 1 to 210, not 0",
        "limit.train: must be 1 to 6000 samples, not 6001",
        "limit.valid: no such split; choose from train, validation, test",
        "limit.test: must be 1 to 2000 samples, not 0",
    ]


def test_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(
        UserError,
        match=r"^name: unknown data set 'fashion-event'; did you mean 'fashion-events'\? Known: fashion-events, ",
    ):
        description.describe("fashion-event")
    with pytest.raises(UserError, match=r"unknown data set 'xyz'\. Known: "):
        loading.load("xyz", time_steps=6)


def test_loading_does_not_import_torch() -> None:
    program = "import sys; from spquant_search.data import loading; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_files_of_frames_are_known_to_the_byte_before_they_are_made(tmp_path: Path) -> None:
    limit = {"train": 3, "validation": 2, "test": 1}

    def files() -> tuple[loading.FrameFile, ...]:
        return loading.frame_files("fashion-events", time_steps=2, cache_dir=tmp_path, limit=limit)

    before = files()
    assert [(file.split, file.samples, file.is_there) for file in before] == [
        *(("train", 3, False), ("validation", 2, False), ("test", 1, False))
    ]
    loading.load("fashion-events", time_steps=2, cache_dir=tmp_path, limit=limit)
    assert [file.path.stat().st_size for file in before] == [file.bytes for file in before]
    assert all(file.is_there for file in files())
