"""Images brought to one size, made grey, and recorded by the simulated camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.image_files import load_images, made_up_pixels, write_cifar_bin, write_idx_set, write_image_folder
from PIL import Image

from spquant_search.data import description, loading
from spquant_search.data.images import stills
from spquant_search.data.images.pixels import PixelRule
from spquant_search.data.simulation.saccades import Camera, simulate_frames
from spquant_search.errors import UserError
from spquant_search.space.schema import DataSpace


def test_a_resized_image_and_its_cache(tmp_path: Path) -> None:
    written = write_idx_set(tmp_path / "files")
    loaded = load_images("mnist", tmp_path / "files", tmp_path / "cache", size=(14, 14))
    assert loaded.train.frames.shape == (20, 1, 1, 14, 14)
    expected = {
        np.asarray(Image.fromarray(pixels).resize((14, 14), Image.Resampling.BILINEAR)).tobytes()
        for pixels in written["train"][0]
    }
    assert {frames.tobytes() for frames in loaded.train.frames} <= expected
    load_images("mnist", tmp_path / "files", tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 6


def test_images_as_events(tmp_path: Path) -> None:
    written = write_idx_set(tmp_path / "files")
    loaded = load_images("mnist", tmp_path / "files", tmp_path / "cache", as_events=True)
    info = description.describe("mnist", DataSpace(name="mnist", as_events=True))
    assert (info.channels, info.height, info.width) == (loaded.channels, loaded.height, loaded.width) == (2, 34, 34)
    assert (info.static, info.largest, loaded.static, loaded.largest) == (False, 15, False, 15)
    assert info.description.startswith("simulated event-camera recordings of MNIST")
    assert loaded.train.frames.shape == (20, 4, 2, 34, 34)
    # Samples are numbered through the splits: 20 + 10 + 10.
    still = load_images("mnist", tmp_path / "files", tmp_path / "cache")
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


def test_colour_images_as_events_are_grey(tmp_path: Path) -> None:
    write_cifar_bin(tmp_path / "files")
    still = load_images("cifar10", tmp_path / "files", tmp_path / "cache")
    shown = still.train.frames[:3, 0]
    grey = stills.luma(np.asarray(shown))
    expected = [np.asarray(Image.fromarray(pixels.transpose(1, 2, 0)).convert("L")) for pixels in np.asarray(shown)]
    np.testing.assert_array_equal(grey, expected)
    loaded = load_images("cifar10", tmp_path / "files", tmp_path / "cache", as_events=True)
    camera = Camera(height=38, width=38)
    np.testing.assert_array_equal(
        loaded.train.frames[:3], simulate_frames(grey, np.arange(3), time_steps=4, camera=camera)
    )


def test_images_are_covered_not_distorted(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = (200, 100, 50)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    pixels = stills.read_image(tmp_path / "wide.png", (10, 10), grey=False, rule=PixelRule())
    assert pixels.shape == (3, 10, 10)
    assert pixels[:, 5, 5].tolist() == [200, 100, 50]
    assert (pixels == np.array([200, 100, 50])[:, None, None]).all()
    # Turned by the camera, which says so.
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = np.zeros((20, 20, 3), np.uint8)
    tall[:10] = 255
    Image.fromarray(tall).save(tmp_path / "turned.png", exif=exif)
    turned = stills.read_image(tmp_path / "turned.png", (20, 20), grey=True, rule=PixelRule())
    assert turned.shape == (20, 20)
    assert (turned[:, 10:] == 255).all()
    assert (turned[:, :10] == 0).all()


def test_image_files_as_events(tmp_path: Path) -> None:
    base = tmp_path / "files" / "ant"
    write_image_folder(tmp_path / "files", "ant", "cat", count=3)
    drawing = made_up_pixels(1, 20, 20)[0]
    for number in range(3):
        Image.fromarray(drawing).save(base / f"{number}.png")
    loaded = load_images("image-folder", tmp_path / "files", tmp_path / "cache", size=(20, 20), as_events=True)
    assert loaded.train.frames.shape == (2, 4, 2, 26, 26)
    place = loaded.train.labels.tolist().index(0)
    expected = simulate_frames(drawing[None], np.array([place]), time_steps=4, camera=Camera(height=26, width=26))
    np.testing.assert_array_equal(loaded.train.frames[place], expected[0])


def test_notes_on_a_picture_that_are_damaged_are_no_matter(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Pillow warns of them; a picture that is read is shown without a warning between the lines of a search."""
    picture = Image.fromarray(made_up_pixels(1, 8, 8, 3)[0])
    notes = Image.Exif()
    notes[271] = "camera " * 20
    picture.save(tmp_path / "a.tif", exif=notes)
    whole = (tmp_path / "a.tif").read_bytes()
    at = whole.index(b"\x0f\x01\x02\x00") + 4  # how many letters the camera's name has
    (tmp_path / "a.tif").write_bytes(whole[:at] + b"\xff\xff\x00\x00" + whole[at + 4 :])
    pixels = stills.read_image(tmp_path / "a.tif", (8, 8), grey=False, rule=PixelRule())
    np.testing.assert_array_equal(pixels.transpose(1, 2, 0), np.asarray(picture))
    assert capfd.readouterr().err == ""


def test_a_picture_of_more_pixels_than_pillow_takes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(made_up_pixels(1, 8, 8, 3)[0]).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(
        UserError, match=r"a\.png: is no image that can be read \(Image size \(64 pixels\) exceeds limit of 50"
    ):
        stills.read_image(tmp_path / "a.png", (8, 8), grey=False, rule=PixelRule())
