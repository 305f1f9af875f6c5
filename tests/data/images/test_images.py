"""Image sets in the published formats, written here and read back through `load`."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from spquant_search.data import catalog, loading
from spquant_search.data.images import stills
from spquant_search.data.simulation.saccades import Camera, simulate_frames
from spquant_search.data.splits import hold_out, hold_out_groups, proportional_order
from spquant_search.errors import SpaceError, UserError
from spquant_search.space.reading import parse_space
from spquant_search.space.schema import DataSpace
from spquant_search.training.prepare import bind_network

Pixels = NDArray[np.uint8]
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def made_up(count: int, *shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def labels_of(count: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).permutation(np.arange(count, dtype=np.uint8) % 10)


def idx_bytes(array: Pixels) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def write_idx_set(folder: Path, *, gz: bool = False) -> dict[str, tuple[Pixels, Pixels]]:
    """30 train and 10 test digits; by part: images and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for seed, (part, count) in enumerate((("train", 30), ("t10k", 10))):
        pixels, labels = made_up(count, 28, 28, seed=seed), labels_of(count, seed)
        written[part] = (pixels, labels)
        for content, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            packed = idx_bytes(array)
            path = folder / f"{part}-{content}-ubyte{'.gz' if gz else ''}"
            path.write_bytes(gzip.compress(packed) if gz else packed)
    return written


def cifar_batches() -> dict[str, tuple[Pixels, Pixels]]:
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    return {name: (made_up(20, 3, 32, 32, seed=seed), labels_of(20, seed)) for seed, name in enumerate(names)}


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


def load(name: str, root: Path, cache: Path, **more: Any) -> loading.DataSet:
    options = DataSpace(name=name, root=str(root), **({"partial": True} if name != "image-folder" else {}) | more)
    return loading.load(name, time_steps=4, options=options, cache_dir=cache)


def failure(name: str, root: Path, **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(name, root, root.parent / f"{root.name}-cache", **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def split_of(loaded: loading.DataSet) -> dict[str, list[tuple[bytes, int]]]:
    return {
        split: [
            (frames.tobytes(), int(label))
            for frames, label in zip(getattr(loaded, split).frames, getattr(loaded, split).labels, strict=True)
        ]
        for split in loading.SPLITS
    }


# IDX


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("gz", [False, True])
def test_idx_files_become_one_frame_an_image(tmp_path: Path, name: str, gz: bool) -> None:
    written = write_idx_set(tmp_path / "files", gz=gz)
    loaded = load(name, tmp_path / "files", tmp_path / "cache")
    assert (loaded.static, loaded.largest, loaded.time_steps) == (True, 255, 4)
    assert loaded.train.frames.shape == (20, 1, 1, 28, 28)
    found = split_of(loaded)
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
    first, second = (load("mnist", tmp_path / folder, tmp_path / "cache") for folder in "ab")
    assert split_of(first) == split_of(second)
    assert len(list((tmp_path / "cache").iterdir())) == 3  # equal images have equal frames, wherever they lie


def test_a_resized_image_and_its_cache(tmp_path: Path) -> None:
    written = write_idx_set(tmp_path / "files")
    loaded = load("mnist", tmp_path / "files", tmp_path / "cache", size=(14, 14))
    assert loaded.train.frames.shape == (20, 1, 1, 14, 14)
    expected = {
        np.asarray(Image.fromarray(pixels).resize((14, 14), Image.Resampling.BILINEAR)).tobytes()
        for pixels in written["train"][0]
    }
    assert {frames.tobytes() for frames in loaded.train.frames} <= expected
    load("mnist", tmp_path / "files", tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 6


def test_images_as_events(tmp_path: Path) -> None:
    written = write_idx_set(tmp_path / "files")
    loaded = load("mnist", tmp_path / "files", tmp_path / "cache", as_events=True)
    info = catalog.describe("mnist", DataSpace(name="mnist", as_events=True))
    assert (info.channels, info.height, info.width) == (loaded.channels, loaded.height, loaded.width) == (2, 34, 34)
    assert (info.static, info.largest, loaded.static, loaded.largest) == (False, 15, False, 15)
    assert info.description.startswith("simulated event-camera recordings of MNIST")
    assert loaded.train.frames.shape == (20, 4, 2, 34, 34)
    # Samples are numbered through the splits: 20 + 10 + 10.
    still = load("mnist", tmp_path / "files", tmp_path / "cache")
    for split, first in (("train", 0), ("validation", 20), ("test", 30)):
        shown = getattr(still, split).frames[:, 0, 0]
        expected = simulate_frames(shown, first + np.arange(len(shown)), time_steps=4, camera=Camera())
        np.testing.assert_array_equal(getattr(loaded, split).frames, expected)
    assert written["train"][0].shape == (30, 28, 28)
    with pytest.raises(UserError, match="time_steps: must be 1 to 210, not 211"):
        loading.load(
            "mnist",
            time_steps=211,
            options=DataSpace(name="mnist", root=str(tmp_path / "files"), as_events=True, partial=True),
        )


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
            idx_bytes(made_up(30, 14, 56)),
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
    assert failure("mnist", tmp_path).startswith(f"{tmp_path / file}: {words}")


def test_idx_files_that_do_not_fit_together(tmp_path: Path) -> None:
    write_idx_set(tmp_path)
    (tmp_path / IDX_FILES[3]).write_bytes(idx_bytes(labels_of(11)))
    assert failure("mnist", tmp_path) == f"{tmp_path}: 10 t10k images have 11 labels; get both files again"
    (tmp_path / IDX_FILES[3]).write_bytes(idx_bytes(np.full(10, 10, np.uint8)))
    assert "mnist has the labels 0 to 9, a t10k file has 10; get it again" in failure("mnist", tmp_path)
    (tmp_path / IDX_FILES[3]).write_bytes(idx_bytes(np.zeros(10, np.uint8)))
    assert "class 1 of mnist has no images in the t10k files, where 1 or more are needed" in failure("mnist", tmp_path)
    (tmp_path / IDX_FILES[3]).unlink()
    assert f"is not a whole mnist: {IDX_FILES[3]} is missing. Expected there: train-im" in failure("mnist", tmp_path)
    write_idx_set(tmp_path)
    message = failure("mnist", tmp_path, partial=False)
    assert "30 of the published 60000 samples are there in the train files; partial: true takes what is" in message


# CIFAR-10


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_both_versions_of_cifar10_are_the_same(tmp_path: Path, protocol: int) -> None:
    write_cifar_bin(tmp_path / "bin" / "cifar-10-batches-bin")
    write_cifar_py(tmp_path / "py" / "cifar-10-batches-py", protocol)
    binary = load("cifar10", tmp_path / "bin", tmp_path / "cache")
    inner = load("cifar10", tmp_path / "bin" / "cifar-10-batches-bin", tmp_path / "cache")
    pickled = load("cifar10", tmp_path / "py", tmp_path / "cache")
    assert split_of(binary) == split_of(pickled) == split_of(inner)
    batches = cifar_batches()
    test = {(p.tobytes(), int(label)) for p, label in zip(*batches.pop("test_batch"), strict=True)}
    train = {(p.tobytes(), int(label)) for batch in batches.values() for p, label in zip(*batch, strict=True)}
    found = split_of(binary)
    assert set(found["test"]) == test
    assert set(found["train"]) | set(found["validation"]) == train
    assert [len(found[split]) for split in loading.SPLITS] == [90, 10, 20]
    assert binary.train.frames.shape == (90, 1, 3, 32, 32)


def test_colour_images_as_events_are_grey(tmp_path: Path) -> None:
    write_cifar_bin(tmp_path / "files")
    still = load("cifar10", tmp_path / "files", tmp_path / "cache")
    shown = still.train.frames[:3, 0]
    grey = stills.luma(np.asarray(shown))
    expected = [np.asarray(Image.fromarray(pixels.transpose(1, 2, 0)).convert("L")) for pixels in np.asarray(shown)]
    np.testing.assert_array_equal(grey, expected)
    loaded = load("cifar10", tmp_path / "files", tmp_path / "cache", as_events=True)
    camera = Camera(height=38, width=38)
    np.testing.assert_array_equal(
        loaded.train.frames[:3], simulate_frames(grey, np.arange(3), time_steps=4, camera=camera)
    )


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
        (b"", "Ran out of input"),
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
    message = failure("cifar10", tmp_path / "files")
    assert message.startswith(f"{path}: ")
    assert words in message
    assert not (tmp_path / "bomb").exists()


def test_a_cifar10_folder_that_is_not_whole(tmp_path: Path) -> None:
    write_cifar_bin(tmp_path / "cifar-10-batches-bin")
    batch = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    whole = batch.read_bytes()
    batch.write_bytes(whole[:-1])
    assert failure("cifar10", tmp_path).startswith(f"{batch}: its 61459 bytes are no whole number of 3073-byte images")
    batch.write_bytes(b"")
    assert failure("cifar10", tmp_path).startswith(f"{batch}: its 0 bytes are no whole number")
    batch.unlink()
    assert "is not a whole cifar10: data_batch_2.bin missing. Expected there: cifar-10-b" in failure(
        "cifar10", tmp_path
    )


# Folders of images


def write_folder(base: Path, *classes: str, count: int = 3, size: tuple[int, int] = (9, 12)) -> dict[str, str]:
    """Images of one colour each; by colour: class."""
    written = {}
    for class_name in classes:
        (base / class_name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            colour = (zlib.crc32(str(base).encode()) % 256, zlib.crc32(class_name.encode()) % 256, number * 10)
            Image.new("RGB", size, colour).save(base / class_name / f"{number}.png")
            written[bytes(colour).hex()] = class_name
    return written


def colours(split: loading.Split) -> dict[str, int]:
    return {
        bytes(frame[0, :, 0, 0].tolist()).hex(): label
        for frame, label in zip(split.frames, split.labels.tolist(), strict=True)
    }


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    written = write_folder(tmp_path / "files", "dog", "ant", "cat", count=10)
    (tmp_path / "files" / "notes.txt").write_text("not a class")
    (tmp_path / "files" / "ant" / "notes.txt").write_text("not an image")
    (tmp_path / "files" / "ant" / ".hidden.png").write_text("not an image")
    loaded = load("image-folder", tmp_path / "files", tmp_path / "cache", size=(6, 8))
    assert loaded.classes == ("ant", "cat", "dog")
    assert loaded.train.frames.shape == (24, 1, 3, 6, 8)
    found = {}
    for split, size in (("train", 8), ("validation", 1), ("test", 1)):
        part: loading.Split = getattr(loaded, split)
        assert np.bincount(part.labels).tolist() == [size] * 3
        found |= {colour: loaded.classes[label] for colour, label in colours(part).items()}
        assert (part.frames == part.frames[..., :1, :1]).all()
    assert found == written


@pytest.mark.parametrize(
    ("held", "folders"), [("val", "train val"), ("test", "train test"), ("test", "train val test")]
)
def test_published_splits_of_a_folder(tmp_path: Path, held: str, folders: str) -> None:
    written = {part: write_folder(tmp_path / "files" / part, "ant", "cat", count=4) for part in folders.split()}
    loaded = load("image-folder", tmp_path / "files", tmp_path / "cache", size=(8, 8), validation_share=0.25)
    assert set(colours(loaded.test)) == set(written[held])
    if folders == "train val test":
        assert set(colours(loaded.validation)) == set(written["val"])
        assert set(colours(loaded.train)) == set(written["train"])
    else:
        assert set(colours(loaded.validation)) | set(colours(loaded.train)) == set(written["train"])
        assert np.bincount(loaded.validation.labels).tolist() == [1, 1]


def test_caltech101_as_it_is_published(tmp_path: Path) -> None:
    root = tmp_path / "101_ObjectCategories"
    classes = ["BACKGROUND_Google", *(name for name in catalog.SETS["n-caltech101"].classes if name[0] != "B"), "Faces"]
    for number, class_name in enumerate(classes):
        (root / class_name).mkdir(parents=True)
        for image in range(1, 4):
            mode, colour = ("L", number) if image == 1 else ("RGB", (number, number, number))  # some of them are grey
            Image.new(mode, (30 + number % 3, 20), colour).save(
                root / class_name / f"image_{image:04}.jpg", quality=100, subsampling=0
            )
    (root / "BACKGROUND_Google" / "tmp").write_text("as in the archive: no image")
    loaded = load("image-folder", root, tmp_path / "cache", size=(20, 30))
    assert loaded.classes == tuple(sorted(classes))
    assert len(loaded.classes) == 102
    for split in loading.SPLITS:
        part: loading.Split = getattr(loaded, split)
        assert part.frames.shape == (102, 1, 3, 20, 30)
        for frames, label in zip(part.frames, part.labels.tolist(), strict=True):
            assert abs(int(frames[0, 0, 10, 15]) - classes.index(loaded.classes[label])) <= 1  # JPEG is not exact


def test_images_are_covered_not_distorted(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = (200, 100, 50)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    pixels = stills.read_image(tmp_path / "wide.png", (10, 10), grey=False)
    assert pixels.shape == (3, 10, 10)
    assert pixels[:, 5, 5].tolist() == [200, 100, 50]
    assert (pixels == np.array([200, 100, 50])[:, None, None]).all()
    # Turned by the camera, which says so.
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = np.zeros((20, 20, 3), np.uint8)
    tall[:10] = 255
    Image.fromarray(tall).save(tmp_path / "turned.png", exif=exif)
    turned = stills.read_image(tmp_path / "turned.png", (20, 20), grey=True)
    assert turned.shape == (20, 20)
    assert (turned[:, 10:] == 255).all()
    assert (turned[:, :10] == 0).all()


def test_image_files_as_events(tmp_path: Path) -> None:
    base = tmp_path / "files" / "ant"
    write_folder(tmp_path / "files", "ant", "cat", count=3)
    drawing = made_up(1, 20, 20)[0]
    for number in range(3):
        Image.fromarray(drawing).save(base / f"{number}.png")
    loaded = load("image-folder", tmp_path / "files", tmp_path / "cache", size=(20, 20), as_events=True)
    assert loaded.train.frames.shape == (2, 4, 2, 26, 26)
    place = loaded.train.labels.tolist().index(0)
    expected = simulate_frames(drawing[None], np.array([place]), time_steps=4, camera=Camera(height=26, width=26))
    np.testing.assert_array_equal(loaded.train.frames[place], expected[0])


def test_what_is_wrong_with_an_image_folder(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    assert failure("image-folder", files, size=(8, 8)).startswith("classes: say how many image-folder has, or name by ")
    write_folder(files, "ant", "cat", count=3)
    (files / "cat" / "1.png").write_bytes((files / "cat" / "1.png").read_bytes()[:50])
    message = failure("image-folder", files, size=(8, 8))
    assert message.startswith(f"{files / 'cat' / '1.png'}: is no image that can be read (")
    assert message.endswith("; replace it, or remove it")
    (files / "cat" / "1.png").write_text("no image")
    assert failure("image-folder", files, size=(8, 8)).startswith(
        f"{files / 'cat' / '1.png'}: is no image that can be "
    )
    (files / "cat" / "1.png").unlink()
    (files / "cat" / "2.png").unlink()
    assert failure("image-folder", files, size=(8, 8)) == (
        f"{files}: cat holds 1 image, where 3 or more are needed, one for each split. "
        "Add images, or remove the folder of the class"
    )


def test_what_is_wrong_with_the_parts_of_an_image_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", "ant", "cat", count=2)
    assert failure("image-folder", tmp_path, size=(8, 8)) == (
        f"{tmp_path}: has a folder train but neither test nor val beside it; add one of them"
    )
    write_folder(tmp_path / "test", "ant", "dog", count=1)
    assert failure("image-folder", tmp_path, size=(8, 8)) == (
        f"{tmp_path}: test/cat holds no images, where 1 or more are needed, one for each split; "
        "test/dog is no class of train. Add images, or remove the folder of the class"
    )


def test_an_image_folder_can_be_described_before_it_is_there(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    info = catalog.describe("image-folder", DataSpace(name="image-folder", root=absent, classes=7, size=(32, 48)))
    assert (len(info.classes), info.channels, info.height, info.width) == (7, 3, 32, 48)
    assert (info.static, info.largest) == (True, 255)
    write_folder(tmp_path / "files", "ant", "cat")
    with pytest.raises(UserError, match=r"^classes: .*files holds 2 class folders, not 7$"):
        catalog.describe(
            "image-folder", DataSpace(name="image-folder", root=str(tmp_path / "files"), classes=7, size=(32, 48))
        )
    with pytest.raises(UserError, match=r"^size: image-folder needs the \[height, width\] in pixels"):
        catalog.describe("image-folder", DataSpace(name="image-folder", classes=2))


# In a space file


SPACE = """
data: {data}
time_steps: 2
model: {{network: vgg9, width: 0.0625}}
layers: {{all: {{weight_bits: [4], membrane_levels: [3]}}}}
"""


def test_sizes_in_a_space_file() -> None:
    one = parse_space(SPACE.format(data="{name: cifar10-dvs, root: /x, size: 48}"), source="s")
    two = parse_space(SPACE.format(data="{name: n-caltech101, root: /x, size: [48, 64], crop: 128}"), source="s")
    assert (one.data.size, two.data.size, two.data.crop) == ((48, 48), (48, 64), (128, 128))
    assert (one.data.validation_share, one.data.test_share, one.data.split_seed) == (0.1, 0.1, 0)
    bound = bind_network(one, source="s")
    assert (bound.input.channels, bound.input.height, bound.input.classes, bound.input.largest) == (2, 48, 10, 15)
    still = bind_network(parse_space(SPACE.format(data="{name: cifar10}"), source="s"), source="s")
    assert (still.input.channels, still.input.largest) == (3, 255)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("size: [48]", "s: data.size"),
        ("size: 0", "s: data.size (line 2): must be greater than or equal to 1; got 0"),
        ("size: true", "s: data.size (line 2): must be a list; got True"),
        ("validation_share: 1", "s: data.validation_share (line 2): must be less than 1; got 1"),
        ("test_share: 0", "s: data.test_share (line 2): must be greater than 0; got 0"),
        ("polarity: on", "s: data.polarity (line 2): must be 'both', 'sum' or 'both-and-sum'; got True"),
        ("size: 200", "s: data.size: must be at most [34, 34] pixels [height, width], not [200, 200]"),
        ("as_events: true", "s: data.as_events: nmnist has no such option; remove the key"),
    ],
)
def test_options_are_checked_in_the_words_of_the_file(words: str, problem: str) -> None:
    with pytest.raises(SpaceError) as caught:
        bind_network(parse_space(SPACE.format(data=f"{{name: nmnist, {words}}}"), source="s"), source="s")
    assert str(caught.value).startswith(problem)


# Splits, orders


def test_every_prefix_has_the_classes_in_proportion() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    order = proportional_order(labels, np.arange(100), seed=3)
    assert sorted(order.tolist()) == list(range(100))
    for length in range(1, 101):
        counts = np.bincount(labels[order[:length]], minlength=3)
        assert (np.abs(counts - length * np.array([0.6, 0.3, 0.1])) <= 1.5).all()
    equal = np.tile(np.arange(5), 20)
    rounds = equal[proportional_order(equal, np.arange(100), seed=0)].reshape(20, 5)
    np.testing.assert_array_equal(np.sort(rounds, axis=1), np.broadcast_to(np.arange(5), (20, 5)))
    assert len(np.unique(rounds, axis=0)) > 10
    kept, held = hold_out(labels, np.arange(100), 0.1, seed=0)
    assert np.bincount(labels[held]).tolist() == [6, 3, 1]
    assert sorted([*kept, *held]) == list(range(100))
    # More samples of one class leave the others where they are.
    more = np.repeat([0, 1, 2], [60, 30, 40])
    np.testing.assert_array_equal(held[:9], hold_out(more, np.arange(130), 0.1, seed=0)[1][:9])
    assert held.tolist() != hold_out(labels, np.arange(100), 0.1, seed=1)[1].tolist()
    # However large the share, some are left.
    few = np.repeat([0, 1], [3, 2])
    assert [len(part) for part in hold_out(few, np.arange(5), 0.99, seed=0)] == [2, 3]
    assert [len(part) for part in hold_out(few[:3], np.arange(3), 0.99, seed=0, keep=2)] == [2, 1]
    groups = [f"user{number % 5}" for number in range(20)]
    for share, users in ((0.01, 1), (0.4, 2), (0.99, 4)):
        kept, held = hold_out_groups(groups, np.arange(20), share, seed=0)
        assert len(held) == 4 * users
        assert not {groups[i] for i in held} & {groups[i] for i in kept}


# The page that users read


def test_the_page_on_data_names_every_set_and_shows_spaces_that_work() -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    shown = [yaml.safe_load(block.split("```")[0])["data"] for block in page.split("```yaml\n")[1:]]
    for values in shown:
        space = parse_space(SPACE.format(data=json.dumps(values)), source="docs/data.md")
        assert catalog.describe(space.data.name, space.data).name == values["name"]
    assert {values["name"] for values in shown} >= set(catalog.NAMES) - {"fashion-mnist"}
    for field in fields(DataSpace):
        assert f"`{field.name}`" in page or field.name == "name"
    for known in catalog.SETS.values():
        assert all(word.strip(",()") in page for word in known.source.split() if word.startswith("https"))
