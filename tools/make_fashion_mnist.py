"""Make fashion_mnist/images.npz: 10,000 images of Fashion-MNIST in the splits that this package uses.

    apt-get install dataset-fashion-mnist
    python tools/make_fashion_mnist.py

The output is the same to the byte for the same zlib: fixed seed, fixed time stamps, no pickles.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from numpy.typing import NDArray

from spquant_search.data.images.formats import read_idx

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
IMAGES = Path(__file__).parents[1] / "spquant_search" / "data" / "fashion_mnist" / "images.npz"
PER_CLASS = {"train": 600, "validation": 200, "test": 200}
SEED = 2017


def balanced_order(labels: UInt8[np.ndarray, " sample"], seed: int) -> Int[np.ndarray, "round label"]:
    """Order indices into ``labels``: every row holds each class once, in random order, and no index comes twice.

    Rows that follow each other are then class-balanced, and so is every prefix, to within one sample.
    """
    generator = np.random.default_rng(seed)
    classes, sizes = np.unique(labels, return_counts=True)
    columns = [generator.permutation(np.flatnonzero(labels == label))[: sizes.min()] for label in classes]
    return generator.permuted(np.stack(columns, axis=1), axis=1)


def select(source: Path, per_class: Mapping[str, int]) -> dict[str, NDArray[np.uint8]]:
    """Choose the images and labels of each split; train and validation are disjoint parts of the train file."""
    chosen = {}
    first_row = {"train": 0, "validation": per_class["train"], "test": 0}
    for split, file in (("train", "train"), ("validation", "train"), ("test", "t10k")):
        images = read_idx(source / f"{file}-images-idx3-ubyte.gz")
        labels = read_idx(source / f"{file}-labels-idx1-ubyte.gz")
        rows = balanced_order(labels, SEED)[first_row[split] :][: per_class[split]]
        if len(rows) < per_class[split]:
            raise SystemExit(f"{source}: {split} needs {per_class[split]} images of each class, {len(rows)} are left")
        chosen[f"{split}_images"], chosen[f"{split}_labels"] = images[rows.ravel()], labels[rows.ravel()]
    return chosen


def write_npz(path: Path, arrays: Mapping[str, NDArray[np.uint8]]) -> None:
    """Write what ``np.savez_compressed`` writes, without the time of day and with the best compression."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # "unix" wherever this runs
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, _npy(array), compresslevel=9)


def _npy(array: NDArray[np.uint8]) -> bytes:
    buffer = BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def main() -> None:
    """Read the options, choose the images, and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", type=Path, nargs="?", default=DEBIAN_FOLDER, help="folder of the four .gz IDX files")
    parser.add_argument("--out", type=Path, default=IMAGES)
    options = parser.parse_args()
    write_npz(options.out, select(options.source, PER_CLASS))


if __name__ == "__main__":
    main()
