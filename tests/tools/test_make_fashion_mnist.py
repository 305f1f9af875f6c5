"""The script that made the images of Fashion-MNIST that come with the package."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import make_fashion_mnist
import numpy as np
import pytest
from data.image_files import idx_bytes
from numpy.typing import NDArray


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    path.write_bytes(gzip.compress(idx_bytes(array)))


def write_source(folder: Path, train: int, test: int) -> None:
    """Write files like the Debian package's, of three classes; an image's pixels tell file, class and place."""
    for name, marker, size in (("train", 1, train), ("t10k", 2, test)):
        labels = np.repeat(np.arange(3, dtype=np.uint8), size)
        pixels = np.stack([np.array([[marker, label], [0, k]]) for k, label in enumerate(labels)]).astype(np.uint8)
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", pixels)
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", labels)


def test_script_selects_disjoint_balanced_splits(tmp_path: Path) -> None:
    write_source(tmp_path, train=9, test=5)
    chosen = make_fashion_mnist.select(tmp_path, {"train": 6, "validation": 3, "test": 4})
    seen: set[bytes] = set()
    for split, marker, per_class in (("train", 1, 6), ("validation", 1, 3), ("test", 2, 4)):
        pixels, labels = chosen[f"{split}_images"], chosen[f"{split}_labels"]
        assert np.bincount(labels).tolist() == [per_class] * 3
        assert set(pixels[:, 0, 0].tolist()) == {marker}
        np.testing.assert_array_equal(pixels[:, 0, 1], labels)
        seen |= {image.tobytes() for image in pixels}
        rounds = labels.reshape(-1, 3)
        np.testing.assert_array_equal(np.sort(rounds, axis=1), [[0, 1, 2]] * per_class)
        assert len(np.unique(rounds, axis=0)) > 1
    assert len(seen) == 3 * (6 + 3 + 4)


def test_script_refuses_too_few_images(tmp_path: Path) -> None:
    write_source(tmp_path, train=8, test=5)
    with pytest.raises(SystemExit, match="validation needs 3 images of each class, 2 are left"):
        make_fashion_mnist.select(tmp_path, {"train": 6, "validation": 3, "test": 4})


def test_script_writes_the_same_bytes_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "b": np.zeros(2, np.uint8)}
    make_fashion_mnist.write_npz(tmp_path / "now.npz", arrays)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    make_fashion_mnist.write_npz(tmp_path / "later.npz", arrays)
    assert (tmp_path / "now.npz").read_bytes() == (tmp_path / "later.npz").read_bytes()
    with np.load(tmp_path / "now.npz", allow_pickle=False) as read:
        assert set(read) == {"a", "b"}
        np.testing.assert_array_equal(read["a"], arrays["a"])
