"""Classes, sizes and options of data sets that are described without their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from data.image_files import write_image_folder

from spquant_search.data import description
from spquant_search.errors import UserError
from spquant_search.space.schema import DataSpace


@pytest.mark.parametrize(
    ("name", "more", "problems"),
    [
        ("fashion-events", {"root": "x", "size": (8, 8), "partial": True}, ["root", "size", "partial"]),
        ("nmnist", {"as_events": True, "classes": 10}, ["as_events", "classes"]),
        (
            "mnist",
            {"crop": (8, 8), "polarity": "sum", "denoise_us": 1, "sort_events": True},
            ["crop", "polarity", "denoise_us", "sort_events"],
        ),
    ],
)
def test_options_that_a_set_does_not_have(name: str, more: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        description.describe(name, DataSpace(name=name, **more))
    expected = [f"{option}: {name} has no such option; remove the key" for option in problems]
    assert str(caught.value).splitlines() == expected


def test_frames_are_no_larger_than_what_was_recorded() -> None:
    with pytest.raises(UserError, match=r"^size: must be at most \[34, 34\] pixels \[height, width\], not \[34, 35\]$"):
        description.describe("nmnist", DataSpace(name="nmnist", size=(34, 35)))
    with pytest.raises(UserError, match=r"^size: must be at most \[20, 30\] pixels \[height, width\], not \[21, 1\]$"):
        description.describe("nmnist", DataSpace(name="nmnist", crop=(20, 30), size=(21, 1)))
    with pytest.raises(UserError, match=r"^crop: must be at most \[180, 240\] pixels"):
        description.describe("n-caltech101", DataSpace(name="n-caltech101", crop=(181, 240)))
    info = description.describe("nmnist", DataSpace(name="nmnist", crop=(20, 30)))
    assert (info.height, info.width) == (20, 30)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("nmnist", (2, 34, 34, 10)),
        ("cifar10-dvs", (2, 128, 128, 10)),
        ("n-caltech101", (2, 180, 240, 101)),
        ("dvs-gesture", (2, 128, 128, 11)),
        ("mnist", (1, 28, 28, 10)),
        ("fashion-mnist", (1, 28, 28, 10)),
        ("cifar10", (3, 32, 32, 10)),
    ],
)
def test_what_is_known_without_files(name: str, shape: tuple[int, ...]) -> None:
    info = description.describe(name)
    assert (info.channels, info.height, info.width, len(info.classes)) == shape
    assert (info.largest, info.static) == (
        (255, True) if name in ("mnist", "fashion-mnist", "cifar10") else (15, False)
    )


def test_an_image_folder_can_be_described_before_it_is_there(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    info = description.describe("image-folder", DataSpace(name="image-folder", root=absent, classes=7, size=(32, 48)))
    assert (len(info.classes), info.channels, info.height, info.width) == (7, 3, 32, 48)
    assert (info.static, info.largest) == (True, 255)
    write_image_folder(tmp_path / "files", "ant", "cat")
    with pytest.raises(UserError, match=r"^classes: .*files holds 2 class folders \(.*\), not 7; write 2, or remove"):
        description.describe(
            "image-folder", DataSpace(name="image-folder", root=str(tmp_path / "files"), classes=7, size=(32, 48))
        )
    with pytest.raises(UserError, match=r"^size: image-folder needs the \[height, width\] in pixels"):
        description.describe("image-folder", DataSpace(name="image-folder", classes=2))


@pytest.mark.parametrize("name", ["image-folder", "event-folder"])
def test_a_folder_of_classes_that_is_missing_or_not_named(name: str, tmp_path: Path) -> None:
    more: dict[str, Any] = {"size": (8, 8), "sensor": (8, 8) if name == "event-folder" else None}
    with pytest.raises(
        UserError, match=r"^root: name the folder with CLASS/.*, as by --set data.root=FOLDER; for costs"
    ):
        description.describe(name, DataSpace(name=name, **more))
    absent = tmp_path / "absent"
    with pytest.raises(UserError, match=rf"^root: {absent} is no folder; {name} needs one that holds CLASS/.*val/\)$"):
        description.describe(name, DataSpace(name=name, root=str(absent), **more))
