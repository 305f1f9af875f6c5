"""Write images in every published format, and load them."""

from __future__ import annotations

import gzip
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from spquant_search.data import loading
from spquant_search.errors import UserError
from spquant_search.space.schema import DataSpace

Pixels = NDArray[np.uint8]


IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def made_up_pixels(count: int, *shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def labels_of(count: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).permutation(np.arange(count, dtype=np.uint8) % 10)


def idx_bytes(array: Pixels) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def write_idx_set(folder: Path, *, gz: bool = False) -> dict[str, tuple[Pixels, Pixels]]:
    """Write 30 train and 10 test digits; return the images and labels of each part."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for seed, (part, count) in enumerate((("train", 30), ("t10k", 10))):
        pixels, labels = made_up_pixels(count, 28, 28, seed=seed), labels_of(count, seed)
        written[part] = (pixels, labels)
        for content, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            packed = idx_bytes(array)
            path = folder / f"{part}-{content}-ubyte{'.gz' if gz else ''}"
            path.write_bytes(gzip.compress(packed) if gz else packed)
    return written


def cifar_batches() -> dict[str, tuple[Pixels, Pixels]]:
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    return {name: (made_up_pixels(20, 3, 32, 32, seed=seed), labels_of(20, seed)) for seed, name in enumerate(names)}


def write_cifar_bin(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, (pixels, labels) in cifar_batches().items():
        records = np.concatenate([labels[:, None], pixels.reshape(len(pixels), -1)], axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def write_cifar_py(folder: Path, protocol: int = 2) -> None:
    folder.mkdir(parents=True)
    for name, (pixels, labels) in cifar_batches().items():
        batch = {b"batch_label": b"x", b"labels": labels.tolist(), b"data": pixels.reshape(len(pixels), -1)}
        packed = pickle.dumps(batch, protocol=protocol)
        if protocol == 2:  # of the published files, which numpy 1 wrote
            packed = packed.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        (folder / name).write_bytes(packed)


def load_images(name: str, root: Path, cache: Path, **more: Any) -> loading.DataSet:
    options = DataSpace(name=name, root=str(root), **({"partial": True} if name != "image-folder" else {}) | more)
    return loading.load(name, time_steps=4, options=options, cache_dir=cache)


def image_failure(name: str, root: Path, **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        load_images(name, root, root.parent / f"{root.name}-cache", **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def samples_by_split(loaded: loading.DataSet) -> dict[str, list[tuple[bytes, int]]]:
    return {
        split: [
            (frames.tobytes(), int(label))
            for frames, label in zip(getattr(loaded, split).frames, getattr(loaded, split).labels, strict=True)
        ]
        for split in loading.SPLITS
    }


def write_image_folder(base: Path, *classes: str, count: int = 3, size: tuple[int, int] = (9, 12)) -> dict[str, str]:
    """Write images of one colour each; return the class of each colour."""
    written = {}
    for class_name in classes:
        (base / class_name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            colour = (zlib.crc32(str(base).encode()) % 256, zlib.crc32(class_name.encode()) % 256, number * 10)
            Image.new("RGB", size, colour).save(base / class_name / f"{number}.png")
            written[bytes(colour).hex()] = class_name
    return written
