"""One grey channel or three: chosen by the files of a folder or by its user, known before, and said."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.image_files import image_failure, load_images, made_up_pixels, write_cifar_bin, write_idx_set
from numpy.typing import NDArray
from PIL import Image

from spquant_search.data.description import DataInfo, describe
from spquant_search.data.images.pixels import PixelRule
from spquant_search.data.images.stills import StoredImages, read_image
from spquant_search.errors import UserError
from spquant_search.space.schema import DataSpace

GREY_MODES = ("1", "L", "LA", "I;16", "P")
COLOUR_MODES = ("RGB", "RGBA", "P")


def picture(mode: str, *, colour: bool, seed: int = 0) -> Image.Image:
    """An opaque picture of 8 x 8 random pixels."""
    pixels = made_up_pixels(1, 8, 8, 3, seed=seed)[0] if colour else made_up_pixels(1, 8, 8, seed=seed)[0]
    if mode == "I;16":
        return Image.fromarray(pixels.astype(np.uint16) * 257)
    plain = Image.fromarray(pixels)
    return plain.quantize(16) if mode == "P" and colour else plain.convert(mode)


def write(root: Path, modes: list[tuple[str, bool]]) -> None:
    """Write pictures in turn into two classes."""
    for number, (mode, colour) in enumerate(modes):
        folder = root / ("ant", "cat")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        suffix = "gif" if mode == "P" and number % 4 < 2 else "png"
        picture(mode, colour=colour, seed=number).save(folder / f"{number}.{suffix}")


def described(root: Path, **more: Any) -> DataInfo:
    return describe("image-folder", DataSpace(name="image-folder", root=str(root), size=(8, 8), **more))


def equal_channels(frames: NDArray[np.uint8]) -> bool:
    return bool((frames == frames[:, :, :1]).all())


@pytest.mark.parametrize("mode", GREY_MODES)
def test_a_folder_of_grey_images_has_one_channel(mode: str, tmp_path: Path) -> None:
    write(tmp_path / "files", [(mode, False)] * 8)
    info = described(tmp_path / "files")
    assert info.channels == 1
    assert info.notes == ("all 8 images are grey: frames have one channel; data.channels: 3 makes it three",)
    assert info.description == "grey images, a folder for each class"
    loaded = load_images("image-folder", tmp_path / "files", tmp_path / "cache", size=(8, 8))
    assert loaded.train.frames.shape[1:] == (1, 1, 8, 8)
    assert loaded.notes[0] == info.notes[0]
    asked = load_images("image-folder", tmp_path / "files", tmp_path / "cache", size=(8, 8), channels=3)
    assert asked.train.frames.shape[1:] == (1, 3, 8, 8)
    assert not any("channel" in note for note in asked.notes)
    assert (asked.train.frames[:, :, :1] == loaded.train.frames).all()
    assert equal_channels(asked.train.frames)
    assert 0 < loaded.train.frames.mean() < 255


@pytest.mark.parametrize("mode", COLOUR_MODES)
def test_one_image_in_colour_makes_three_channels(mode: str, tmp_path: Path) -> None:
    write(tmp_path / "files", [("L", False)] * 11 + [(mode, True)])
    info = described(tmp_path / "files")
    assert info.channels == 3
    assert info.notes == (
        "1 of 12 images is in colour: frames have three channels, which are equal where an image is grey; "
        "data.channels: 1 turns all of them grey",
    )
    assert info.description == "colour images, a folder for each class"
    loaded = load_images("image-folder", tmp_path / "files", tmp_path / "cache", size=(8, 8))
    assert loaded.train.frames.shape[2] == 3
    assert sum(not equal_channels(part.frames) for part in (loaded.train, loaded.validation, loaded.test)) == 1


def test_images_in_colour_are_no_matter_of_note(tmp_path: Path) -> None:
    write(tmp_path / "files", [("RGB", True)] * 12)
    assert (described(tmp_path / "files").channels, described(tmp_path / "files").notes) == (3, ())


def test_files_in_colour_that_show_only_grey_are_told(tmp_path: Path) -> None:
    write(tmp_path / "files", [("RGB", False)] * 12)
    info = described(tmp_path / "files")
    assert info.channels == 3
    assert info.notes == (
        "the files in colour show nothing but grey, as far as 8 of them were looked at: data.channels: 1 makes one "
        "channel of three that are equal",
    )
    one = load_images("image-folder", tmp_path / "files", tmp_path / "cache", size=(8, 8), channels=1)
    three = load_images("image-folder", tmp_path / "files", tmp_path / "cache", size=(8, 8))
    assert (three.train.frames == one.train.frames).all()  # each of the three


@pytest.mark.parametrize("size", [(8, 8), (5, 9)])
def test_one_channel_of_colours_is_pillows_luma(size: tuple[int, int], tmp_path: Path) -> None:
    write(tmp_path / "files", [("RGB", True)] * 9 + [("L", False)])
    info = described(tmp_path / "files", channels=1)
    assert (info.channels, info.description) == (1, "grey images, a folder for each class")
    assert info.notes == (
        "9 of 10 images are in colour: turned grey, as data.channels: 1 says (0.299 red + 0.587 green + 0.114 blue)",
    )
    for number in range(9):
        path = tmp_path / "files" / ("ant", "cat")[number % 2] / f"{number}.png"
        grey = read_image(path, size, grey=True, rule=PixelRule())
        red, green, blue = np.moveaxis(np.asarray(Image.open(path)).astype(np.float64), -1, 0)
        if size == (8, 8):
            assert np.abs(grey - (0.299 * red + 0.587 * green + 0.114 * blue)).max() <= 0.51
        stored = StoredImages(pixels=np.asarray(Image.open(path)).transpose(2, 0, 1)[None], size=size, channels=1)
        assert (stored[:1][0, 0] == grey).all(), "in memory as from a file"


def test_published_images_in_other_channels(tmp_path: Path) -> None:
    write_cifar_bin(tmp_path / "cifar10")
    plain, grey = (
        load_images("cifar10", tmp_path / "cifar10", tmp_path / "cache", **more) for more in ({}, {"channels": 1})
    )
    assert (plain.train.frames.shape[2], grey.train.frames.shape[2]) == (3, 1)
    red, green, blue = np.moveaxis(np.asarray(plain.train.frames).astype(np.float64), 2, 0)
    assert np.abs(grey.train.frames[:, :, 0] - (0.299 * red + 0.587 * green + 0.114 * blue)).max() <= 0.51
    assert grey.description == "CIFAR-10: colour images of animals and vehicles, turned grey"
    assert grey.notes == (
        "all images are in colour: turned grey, as data.channels: 1 says (0.299 red + 0.587 green + 0.114 blue)",
    )
    write_idx_set(tmp_path / "mnist")
    digits = load_images("mnist", tmp_path / "mnist", tmp_path / "cache", channels=3, size=(14, 14))
    assert digits.train.frames.shape[1:] == (1, 3, 14, 14)
    assert equal_channels(digits.train.frames)
    assert digits.notes == ()


def test_images_that_are_not_there_have_the_channels_that_the_user_says() -> None:
    options = DataSpace(name="image-folder", size=(8, 8), classes=4)
    info = describe("image-folder", options)
    assert info.channels == 3
    assert info.notes == (
        "the images are not there, so it is not known whether all are grey: three channels are counted; "
        "data.channels: 1 counts one",
    )
    for channels in (1, 3):
        info = describe("image-folder", replace(options, channels=channels))
        assert (info.channels, info.notes) == (channels, ())


def test_channels_are_of_images_that_are_shown_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^channels: nmnist has no such option; remove the key$"):
        describe("nmnist", DataSpace(name="nmnist", channels=1))
    write(tmp_path / "files", [("L", False)] * 8)
    assert image_failure("image-folder", tmp_path / "files", size=(8, 8), as_events=True, channels=1) == (
        "channels: as_events turns images grey before it records them; remove one of the two"
    )
    info = described(tmp_path / "files", as_events=True)
    assert (info.channels, info.notes) == (2, ())


def test_headers_are_read_once_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPQUANT_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "files", [("L", False)] * 8)
    opened: list[Path] = []
    plain_open = Image.open

    def counting_open(path: Path) -> Any:
        opened.append(path)
        return plain_open(path)

    monkeypatch.setattr(Image, "open", counting_open)
    assert [described(tmp_path / "files").channels for _ in range(3)] == [1] * 3
    assert len(opened) == 8
    picture("RGB", colour=True).save(tmp_path / "files" / "ant" / "0.png")
    os.utime(tmp_path / "files" / "ant" / "0.png", (1, 1))
    assert described(tmp_path / "files").channels == 3
    assert len(opened) == 8 + 8 + 1, "and one of them whole, as it is in colour"
    (kept,) = (file for file in (tmp_path / "cache" / "images").iterdir() if '"colour": 1' in file.read_text())
    for broken in ("", "[]", '{"grey": 1}', "\x00"):
        kept.write_text(broken)
        assert described(tmp_path / "files").channels == 3
    assert len(opened) == 8 + 9 + 4 * 9


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("SPQUANT_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "files", [("L", False)] * 8)
    assert described(tmp_path / "files").channels == 1


def test_all_splits_and_only_images_are_looked_at(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write(tmp_path / part, [("L", False)] * 8)
    write(tmp_path / "more", [("RGB", True)] * 2)  # no split
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "ant" / "broken.png").write_bytes(b"\x89PNG")  # which is named once images are read
    assert described(tmp_path).notes == (
        "all 16 images are grey: frames have one channel; data.channels: 3 makes it three",
    )
    picture("RGB", colour=True).save(tmp_path / "test" / "cat" / "new.png")
    assert described(tmp_path).notes[0].startswith("1 of 17 images is in colour: ")


def test_the_order_of_files_does_not_matter(tmp_path: Path) -> None:
    """Two folders whose files were made in other orders are described alike."""
    modes = [("L", False)] * 6 + [("RGB", True)] * 3
    for root, order in (("one", modes), ("two", modes[::-1])):
        write(tmp_path / root, order)
    one, two = (described(tmp_path / root) for root in ("one", "two"))
    assert one == two
