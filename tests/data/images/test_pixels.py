"""Pictures of every mode become 8 bits without loss of what is seen, or are refused with their mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.image_files import image_failure, load_images
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from spquant_search.data.images.pixels import PixelRule, eight_bit_picture
from spquant_search.data.images.stills import read_image
from spquant_search.errors import UserError

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)


def seen(
    path: Path, *, grey: bool = True, white: int | None = None, background: str | None = None
) -> NDArray[np.int64]:
    """Read the picture in its own size."""
    with Image.open(path) as file:
        size = (file.height, file.width)
    rule = PixelRule(white=white, background=background)
    return read_image(path, size, grey=grey, rule=rule).astype(np.int64)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("white", [None, 65535, 4095, 255, 40000])
def test_16_bits_are_scaled_to_8(tmp_path: Path, suffix: str, white: int | None) -> None:
    Image.fromarray(RAMP).save(tmp_path / f"ramp.{suffix}")
    values = RAMP.astype(np.float64) / (white or 65535)
    expected = np.minimum(np.floor(values * 255 + 0.5), 255)
    found = seen(tmp_path / f"ramp.{suffix}", white=white)
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.001, "halves may be rounded the other way"
    colours = seen(tmp_path / f"ramp.{suffix}", grey=False, white=white)
    assert (colours == found).all(), "grey is equal red, green and blue"


def test_white_becomes_255_and_black_0() -> None:
    for white in (1, 2, 255, 256, 4095, 65535):
        picture = Image.fromarray(np.array([[0, white]], np.uint16))
        assert np.asarray(eight_bit_picture(picture, PixelRule(white=white))).tolist() == [[0, 255]]


@pytest.mark.parametrize(("most", "example"), [(4095, 4095), (1023, 1023), (600, 1023), (3, 255), (0, 255)])
def test_16_bits_that_would_be_black_are_refused(tmp_path: Path, most: int, example: int) -> None:
    Image.fromarray(np.array([[0, most]], np.uint16)).save(tmp_path / "dark.png")
    with pytest.raises(
        UserError,
        match=f"dark.png: has pixels of 16 bits, the brightest {most} of 65,535: it would be "
        f"almost black. Say which value is white by data.white, for example white: {example}$",
    ):
        seen(tmp_path / "dark.png")
    assert seen(tmp_path / "dark.png", white=max(most, 1)).max() == (255 if most else 0)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.linspace(0, 1, 16, dtype=np.float32), "floating-point pixels (Pillow's mode F)"),
        (np.arange(16, dtype=np.int32) * 70000, "pixels of 32 bits (Pillow's mode I) from 0 to 1050000"),
        (np.arange(16, dtype=np.int32) - 5, "pixels of 32 bits (Pillow's mode I) from -5 to 10"),
    ],
)
def test_pixels_whose_white_nobody_says_are_refused(tmp_path: Path, pixels: NDArray[np.generic], words: str) -> None:
    Image.fromarray(pixels.reshape(4, 4)).save(tmp_path / "odd.tif")
    for white in (None, 4095):
        with pytest.raises(UserError) as caught:
            seen(tmp_path / "odd.tif", white=white)
        assert str(caught.value).startswith(f"{tmp_path / 'odd.tif'}: has {words}")
        assert str(caught.value).endswith("save it with 8 or 16 bits" + (", grey or in colour" if "F" in words else ""))


def transparent_pictures() -> dict[str, Image.Image]:
    """A red square; what is around it is transparent, and hides green."""
    layers = np.zeros((6, 6, 4), np.uint8)
    layers[...] = (0, 255, 0, 0)
    layers[2:4, 2:4] = (255, 0, 0, 255)
    rgba = Image.fromarray(layers)
    palette = Image.new("P", (6, 6), 1)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.paste(0, (2, 2, 4, 4))
    palette.info["transparency"] = 1
    keyed = rgba.convert("RGB")
    keyed.info["transparency"] = (0, 255, 0)
    grey = Image.merge("LA", (rgba.convert("RGB").getchannel("R"), rgba.getchannel("A")))
    return {"RGBA": rgba, "P": palette, "RGB": keyed, "LA": grey}


@pytest.mark.parametrize("mode", sorted(transparent_pictures()))
def test_what_is_behind_transparent_pixels_must_be_said(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "square.png"
    transparent_pictures()[mode].save(path)
    with pytest.raises(UserError, match=rf"square.png: has transparent pixels \(mode {mode}\); .*data.background"):
        seen(path)
    inside = np.zeros((6, 6), bool)
    inside[2:4, 2:4] = True
    for background, level in (("white", 255), ("black", 0)):
        red, green, blue = seen(path, grey=False, background=background)
        assert (red[inside] == 255).all()
        assert (green[inside] == (255 if mode == "LA" else 0)).all()
        for channel in (red, green, blue):
            assert (channel[~inside] == level).all()


@given(alpha=st.integers(0, 255), colour=st.integers(0, 255), background=st.sampled_from(["black", "white"]))
@settings(max_examples=50, deadline=None)
def test_half_transparent_pixels_are_blended(alpha: int, colour: int, background: str) -> None:
    picture = Image.new("RGBA", (2, 1), (colour, colour, colour, 255))
    picture.putpixel((0, 0), (colour, colour, colour, alpha))
    shown = np.asarray(eight_bit_picture(picture, PixelRule(background=background)).convert("L")).astype(int)
    behind = 255 if background == "white" else 0
    assert abs(shown[0, 0] - (colour * alpha + behind * (255 - alpha)) / 255) <= 1
    assert shown[0, 1] == colour


def test_an_opaque_alpha_channel_needs_no_background(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 5, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "opaque.png")
    assert (seen(tmp_path / "opaque.png", grey=False) == pixels[..., :3].transpose(2, 0, 1)).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_plain_modes_are_what_pillow_shows(tmp_path: Path, mode: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).convert(mode)
    path = tmp_path / ("picture.tif" if mode in ("CMYK", "YCbCr") else "picture.png")
    picture.save(path)
    expected = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    assert (seen(path, grey=False) == expected).all()


def test_a_colour_space_that_pillow_cannot_convert_is_refused(tmp_path: Path) -> None:
    Image.new("LAB", (4, 4)).save(tmp_path / "lab.tif")
    with pytest.raises(UserError, match=r"lab.tif: has pixels of Pillow's mode LAB; save it with 8 or 16 bits"):
        seen(tmp_path / "lab.tif")


@pytest.mark.parametrize("suffix", ["gif", "tif", "png", "webp"])
def test_several_pictures_in_one_file_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"stack.{suffix}"
    first, *others = (Image.new("RGB", (8, 8), (60 * number, 0, 0)) for number in range(3))
    first.save(path, save_all=True, append_images=others)
    with pytest.raises(UserError, match=rf"stack.{suffix}: holds 3 pictures, and only one can be shown"):
        seen(path)


def test_a_16_bit_picture_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = np.zeros((20, 20), np.uint16)
    tall[:10] = 65535
    Image.fromarray(tall).save(tmp_path / "turned.png", exif=exif)
    turned = seen(tmp_path / "turned.png")
    assert (turned[:, 10:] == 255).all()
    assert (turned[:, :10] == 0).all()


@pytest.mark.parametrize("as_events", [False, True])
def test_a_data_set_of_x_rays(tmp_path: Path, as_events: bool) -> None:
    generator = np.random.default_rng(0)
    for name, base in (("thin", 9000), ("thick", 38000)):
        (tmp_path / "xray" / name).mkdir(parents=True)
        for number in range(3):
            pixels = (base + generator.integers(0, 9000, (40, 40))).astype(np.uint16)
            Image.fromarray(pixels).save(tmp_path / "xray" / name / f"{number}.png")
    loaded = load_images("image-folder", tmp_path / "xray", tmp_path / "cache", size=(32, 32), as_events=as_events)
    if not as_events:
        means = {
            loaded.classes[label]: frame.mean()
            for frame, label in zip(loaded.train.frames, loaded.train.labels, strict=True)
        }
        assert abs(means["thin"] - 13500 / 257) < 2
        assert abs(means["thick"] - 42500 / 257) < 2
    scaled = load_images("image-folder", tmp_path / "xray", tmp_path / "cache", size=(32, 32), white=47000)
    assert scaled.train.frames.max() >= 230
    assert image_failure("mnist", tmp_path / "xray", white=5) == "white: mnist has no such option; remove the key"
