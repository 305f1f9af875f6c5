"""IDX and CIFAR-10 files: read back image for image, named where they are damaged, and never executed."""

from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.image_files import (
    IDX_FILES,
    cifar_batches,
    idx_bytes,
    image_failure,
    labels_of,
    load_images,
    made_up_pixels,
    samples_by_split,
    write_cifar_bin,
    write_cifar_py,
    write_idx_set,
)

from spquant_search.data import loading


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("gz", [False, True])
def test_idx_files_become_one_frame_an_image(tmp_path: Path, name: str, gz: bool) -> None:
    written = write_idx_set(tmp_path / "files", gz=gz)
    loaded = load_images(name, tmp_path / "files", tmp_path / "cache")
    assert (loaded.static, loaded.largest, loaded.time_steps) == (True, 255, 4)
    assert loaded.train.frames.shape == (20, 1, 1, 28, 28)
    found = samples_by_split(loaded)
    for split, part in (("train", "train"), ("validation", "train"), ("test", "t10k")):
        pairs = {(pixels.tobytes(), int(label)) for pixels, label in zip(*written[part], strict=True)}
        assert set(found[split]) <= pairs
        assert np.bincount(getattr(loaded, split).labels).tolist() == [2 if split == "train" else 1] * 10
    assert len(set(found["train"]) | set(found["validation"])) == 30


def test_idx_files_of_other_names_and_places(tmp_path: Path) -> None:
    write_idx_set(tmp_path / "a" / "MNIST" / "raw")
    write_idx_set(tmp_path / "b")
    for file in IDX_FILES:
        (tmp_path / "b" / file).rename(tmp_path / "b" / file.replace("-idx", ".idx"))
    first, second = (load_images("mnist", tmp_path / folder, tmp_path / "cache") for folder in "ab")
    assert samples_by_split(first) == samples_by_split(second)
    assert len(list((tmp_path / "cache").iterdir())) == 3  # equal images have equal frames, wherever they lie


def damage_idx(folder: Path) -> dict[str, tuple[str, bytes]]:
    whole = (folder / IDX_FILES[0]).read_bytes()
    zipped = gzip.compress(whole)
    return {
        "holds 23500 bytes where its header says 23520; it is truncated, get it again": (IDX_FILES[0], whole[:-20]),
        "is no IDX file of unsigned bytes (it starts with nothing)": (IDX_FILES[0], b""),
        "is no IDX file of unsigned bytes (it starts with 00000d03)": (IDX_FILES[0], b"\x00\x00\x0d\x03" + whole[4:]),
        "is no IDX file of unsigned bytes (it starts with 00000803)": (IDX_FILES[0], whole[:9]),
        "holds an array [30, 14, 56], where images of mnist were expected": (
            IDX_FILES[0],
            idx_bytes(made_up_pixels(30, 14, 56)),
        ),
        "cannot be read (Compressed file ended before the end-of-stream marker was reached); it may be": (
            f"{IDX_FILES[0]}.gz",
            zipped[:-30],
        ),
        "cannot be read (Not a gzipped file": (f"{IDX_FILES[0]}.gz", b"no gzip"),
        "cannot be read (Error -3 while decompressing": (
            f"{IDX_FILES[0]}.gz",
            zipped[:10] + b"\xff" * 10 + zipped[20:],
        ),
    }


@pytest.mark.parametrize("number", range(8))
def test_a_damaged_idx_file_is_named(tmp_path: Path, number: int) -> None:
    write_idx_set(tmp_path)
    words, (file, content) = list(damage_idx(tmp_path).items())[number]
    (tmp_path / IDX_FILES[0]).unlink()
    (tmp_path / file).write_bytes(content)
    assert image_failure("mnist", tmp_path).startswith(f"{tmp_path / file}: {words}")


def test_idx_files_that_do_not_fit_together(tmp_path: Path) -> None:
    write_idx_set(tmp_path)
    (tmp_path / IDX_FILES[3]).write_bytes(idx_bytes(labels_of(11)))
    assert image_failure("mnist", tmp_path) == f"{tmp_path}: 10 t10k images have 11 labels; get both files again"
    (tmp_path / IDX_FILES[3]).write_bytes(idx_bytes(np.full(10, 10, np.uint8)))
    assert "mnist has the labels 0 to 9, a t10k file has 10; get it again" in image_failure("mnist", tmp_path)
    (tmp_path / IDX_FILES[3]).write_bytes(idx_bytes(np.zeros(10, np.uint8)))
    assert "class 1 of mnist has no images in the t10k files, where 1 or more are needed" in image_failure(
        "mnist", tmp_path
    )
    (tmp_path / IDX_FILES[3]).unlink()
    assert f"is not a whole mnist: {IDX_FILES[3]} is missing. Expected there: train-im" in image_failure(
        "mnist", tmp_path
    )
    write_idx_set(tmp_path)
    message = image_failure("mnist", tmp_path, partial=False)
    assert "30 of the published 60000 samples are there in the train files; partial: true takes what is" in message


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_both_versions_of_cifar10_are_the_same(tmp_path: Path, protocol: int) -> None:
    write_cifar_bin(tmp_path / "bin" / "cifar-10-batches-bin")
    write_cifar_py(tmp_path / "py" / "cifar-10-batches-py", protocol)
    binary = load_images("cifar10", tmp_path / "bin", tmp_path / "cache")
    inner = load_images("cifar10", tmp_path / "bin" / "cifar-10-batches-bin", tmp_path / "cache")
    pickled = load_images("cifar10", tmp_path / "py", tmp_path / "cache")
    assert samples_by_split(binary) == samples_by_split(pickled) == samples_by_split(inner)
    batches = cifar_batches()
    test = {(p.tobytes(), int(label)) for p, label in zip(*batches.pop("test_batch"), strict=True)}
    train = {(p.tobytes(), int(label)) for batch in batches.values() for p, label in zip(*batch, strict=True)}
    found = samples_by_split(binary)
    assert set(found["test"]) == test
    assert set(found["train"]) | set(found["validation"]) == train
    assert [len(found[split]) for split in loading.SPLITS] == [90, 10, 20]
    assert binary.train.frames.shape == (90, 1, 3, 32, 32)


class Bomb:
    def __reduce__(self) -> Any:
        return (os.system, ("touch bomb",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps(Bomb()), "it asks for posix.system, which no array needs"),
        (pickle.dumps(np.load), "it asks for numpy.load, which no array needs"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "it asks for builtins.eval, which no array needs"),
        (b"c_codecs\nencode\n(V1\nVrot13\ntR.", "it asks for the encoding 'rot13'"),
        (b"", "pickle exhausted before seeing STOP"),
        (b"\x80\x02]r\xff\xff\xff\x7f.", "it remembers 2,147,483,647 things in 9 bytes"),
        (b"\x80\x02]p99999999999\n.", "it remembers 99,999,999,999 things in 17 bytes"),
        (pickle.dumps(bytearray(5), 5), "it asks for a bytearray, which no array needs"),
        (pickle.dumps([1]), "is no batch of CIFAR-10's python version ("),
        (pickle.dumps({b"data": np.zeros((1, 5), np.uint8), b"labels": [0]}, 2), "holds uint8 [1, 5] and 1 labels"),
        (pickle.dumps({b"data": np.zeros((1, 3072)), b"labels": [0]}, 2), "holds float64 [1, 3072] and 1 labels"),
        (pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [-1]}, 2), "its labels are no class num"),
    ],
)
def test_pickles_are_never_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_cifar_py(tmp_path / "files")
    path = tmp_path / "files" / "data_batch_3"
    path.write_bytes(content)
    message = image_failure("cifar10", tmp_path / "files")
    assert message.startswith(f"{path}: ")
    assert words in message
    assert not (tmp_path / "bomb").exists()


def test_a_cifar10_folder_that_is_not_whole(tmp_path: Path) -> None:
    write_cifar_bin(tmp_path / "cifar-10-batches-bin")
    batch = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    whole = batch.read_bytes()
    batch.write_bytes(whole[:-1])
    assert image_failure("cifar10", tmp_path).startswith(
        f"{batch}: its 61459 bytes are no whole number of 3073-byte images"
    )
    batch.write_bytes(b"")
    assert image_failure("cifar10", tmp_path).startswith(f"{batch}: its 0 bytes are no whole number")
    batch.unlink()
    assert "is not a whole cifar10: data_batch_2.bin missing. Expected there: cifar-10-b" in image_failure(
        "cifar10", tmp_path
    )
