"""Folders with a folder of images for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.image_files import image_failure, load_images, write_image_folder
from PIL import Image

from spquant_search.data import catalog, loading


def colours(split: loading.Split) -> dict[str, int]:
    return {
        bytes(frame[0, :, 0, 0].tolist()).hex(): label
        for frame, label in zip(split.frames, split.labels.tolist(), strict=True)
    }


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    written = write_image_folder(tmp_path / "files", "dog", "ant", "cat", count=10)
    (tmp_path / "files" / "notes.txt").write_text("not a class")
    (tmp_path / "files" / "ant" / "notes.txt").write_text("not an image")
    (tmp_path / "files" / "ant" / ".hidden.png").write_text("not an image")
    loaded = load_images("image-folder", tmp_path / "files", tmp_path / "cache", size=(6, 8))
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
    written = {part: write_image_folder(tmp_path / "files" / part, "ant", "cat", count=4) for part in folders.split()}
    loaded = load_images("image-folder", tmp_path / "files", tmp_path / "cache", size=(8, 8), validation_share=0.25)
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
    loaded = load_images("image-folder", root, tmp_path / "cache", size=(20, 30))
    assert loaded.classes == tuple(sorted(classes))
    assert len(loaded.classes) == 102
    for split in loading.SPLITS:
        part: loading.Split = getattr(loaded, split)
        assert part.frames.shape == (102, 1, 3, 20, 30)
        for frames, label in zip(part.frames, part.labels.tolist(), strict=True):
            assert abs(int(frames[0, 0, 10, 15]) - classes.index(loaded.classes[label])) <= 1  # JPEG is not exact


def test_a_root_without_class_folders(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for options in ({}, {"classes": 10}):
        assert image_failure("image-folder", files, size=(8, 8), **options) == (
            f"root: {files} holds no class folders; it is empty. Expected in {files}: CLASS/IMAGE.png (or .jpg, ...), "
            "or train/CLASS/IMAGE.png beside test/CLASS/IMAGE.png (or val/)"
        )
    for name in "dcba":
        (files / f"{name}.png").touch()
    words = image_failure("image-folder", files, size=(8, 8), classes=10)
    assert f"root: {files} holds no class folders, only 4 files (a.png, b.png, c.png, ...). Expected" in words
    for name in "abc":
        (files / "mine" / name).mkdir(parents=True)
    words = image_failure("image-folder", files, size=(8, 8), classes=3)
    assert words.endswith(f"or remove the key. In {files}/mine lie 3 folders: is that the root?")


def test_what_is_wrong_with_an_image_folder(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    write_image_folder(files, "ant", "cat", count=3)
    (files / "cat" / "1.png").write_bytes((files / "cat" / "1.png").read_bytes()[:50])
    message = image_failure("image-folder", files, size=(8, 8))
    assert message.startswith(f"{files / 'cat' / '1.png'}: is no image that can be read (")
    assert message.endswith("; replace it, or remove it")
    (files / "cat" / "1.png").write_text("no image")
    assert image_failure("image-folder", files, size=(8, 8)).startswith(
        f"{files / 'cat' / '1.png'}: is no image that can be "
    )
    (files / "cat" / "1.png").unlink()
    (files / "cat" / "2.png").unlink()
    assert image_failure("image-folder", files, size=(8, 8)) == (
        f"{files}: cat holds 1 image, where 3 or more are needed, one for each split. "
        "Add images, or remove the folder of the class"
    )


def test_what_is_wrong_with_the_parts_of_an_image_folder(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "train", "ant", "cat", count=2)
    assert image_failure("image-folder", tmp_path, size=(8, 8)) == (
        f"{tmp_path}: has a folder train but neither test nor val with classes beside it; add one of them"
    )
    write_image_folder(tmp_path / "test", "ant", "dog", count=1)
    assert image_failure("image-folder", tmp_path, size=(8, 8)) == (
        f"{tmp_path}: test/cat holds no images, where 1 or more are needed, one for each split; "
        "test/dog is no class of train. Add images, or remove the folder of the class"
    )
