"""Folders of users: which are splits, which are classes, and which files must stay together."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from data.image_files import image_failure, load_images, write_image_folder
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from spquant_search.data import loading
from spquant_search.data.class_folders import class_names, natural_key, shared_prefix_note, split_folders
from spquant_search.data.layouts import find_samples
from spquant_search.errors import UserError
from spquant_search.space.schema import DataSpace


def write_files(base: Path, *names: str) -> None:
    for name in names:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (hash(name) % 256, 0, 9)).save(base / name)


@pytest.mark.parametrize("test", ["test", "Test", "TEST", "testing", "test_set", "Test-Data", "test images"])
@pytest.mark.parametrize("validation", ["val", "valid", "Validation", "VAL", "dev", "valid_set", "dev-split"])
@pytest.mark.parametrize("train", ["train", "Train", "training", "trainset", "TRAIN_DATA"])
def test_folders_of_splits_in_any_spelling(tmp_path: Path, train: str, validation: str, test: str) -> None:
    for name in (train, validation, test):
        (tmp_path / name / "ant").mkdir(parents=True)
    found = split_folders(tmp_path)
    assert found.by_split == {"train": train, "validation": validation, "test": test}
    assert not found.others
    assert class_names(tmp_path) == ("ant",)


def test_each_split_has_the_files_of_its_folder(tmp_path: Path) -> None:
    for part in ("Train", "valid", "TEST"):
        write_image_folder(tmp_path / part, "ant", "cat", count=4)
    index = find_samples("image-folder", DataSpace(name="image-folder", root=str(tmp_path), size=(8, 8)))
    for split, folder in (("train", "Train"), ("validation", "valid"), ("test", "TEST")):
        assert {index.files[at].name.split("/")[0] for at in index.splits[split]} == {folder}
    assert not index.notes


def test_a_validation_folder_alone_is_the_test_split(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        write_image_folder(tmp_path / part, "ant", "cat", count=4)
    index = find_samples("image-folder", DataSpace(name="image-folder", root=str(tmp_path), size=(8, 8)))
    assert {index.files[at].name.split("/")[0] for at in index.splits["test"]} == {"valid"}


def test_folders_that_are_not_used_are_named(tmp_path: Path) -> None:
    for part in ("train", "test", "unlabelled", "extra", "10", "9"):
        write_image_folder(tmp_path / part, "ant", "cat", count=3)
    (tmp_path / "__MACOSX" / "train").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    loaded = load_images("image-folder", tmp_path, tmp_path.parent / "cache", size=(8, 8))
    assert loaded.notes == (f"{tmp_path}: the splits are train, test; not used: 9, 10, extra and 1 more",)


def test_classes_called_as_splits_are(tmp_path: Path) -> None:
    """Trains, tests and valves are things, too: only a folder with folders in it is a split."""
    write_image_folder(tmp_path, "bus", "train", "test", count=3)
    assert load_images("image-folder", tmp_path, tmp_path.parent / "cache", size=(8, 8)).classes == (
        "bus",
        "test",
        "train",
    )


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ("train val valid test", "val and valid are both called after validation; keep one, or join them"),
        ("Train train test", "Train and train are both called after train; keep one, or join them"),
        (
            "test val other",
            "holds val and test, but no folder train beside; it holds other, test, val. Call that of train train",
        ),
        ("train", "has a folder train but neither test nor val with classes beside it; add one of them"),
        (
            "train holdout",
            "has a folder train but neither test nor val with classes beside it "
            "(holdout is called after no split); add one of them",
        ),
    ],
)
def test_folders_of_splits_that_do_not_fit(tmp_path: Path, folders: str, words: str) -> None:
    for name in folders.split():
        write_image_folder(tmp_path / name, "ant", "cat", count=3)
    assert image_failure("image-folder", tmp_path, size=(8, 8)) == f"{tmp_path}: {words}"


def test_a_test_folder_without_classes_is_told(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "train", "ant", "cat", count=3)
    write_files(tmp_path / "test", "1.png", "2.png")
    assert "(test holds no class folders)" in image_failure("image-folder", tmp_path, size=(8, 8))


def test_classes_are_numbered_in_natural_order(tmp_path: Path) -> None:
    write_image_folder(tmp_path, *(str(number) for number in range(12)), "class 2", "class 10", count=3)
    assert class_names(tmp_path) == (*map(str, range(12)), "class 2", "class 10")
    loaded = load_images("image-folder", tmp_path, tmp_path.parent / "cache", size=(8, 8))
    assert loaded.classes.index("10") == 10


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), unique=True))
def test_natural_order_is_an_order_of_all_names(names: list[str]) -> None:
    assert len({natural_key(name) for name in names}) == len(names), "no two names are equal"
    sorted(names, key=natural_key)  # any two can be compared
    numbers = [f"a{number}b" for number in (100, 20, 3)]
    assert sorted(numbers, key=natural_key) == ["a3b", "a20b", "a100b"]


USERS = [
    f"{gesture}/user{user:02}_take{take}.png" for gesture in ("clap", "wave") for user in range(6) for take in range(3)
]


def users_by_split(base: Path, **more: object) -> dict[str, set[str]]:
    options = DataSpace(name="image-folder", root=str(base), size=(8, 8), **more)  # type: ignore[arg-type]
    index = find_samples("image-folder", options)
    return {split: {Path(index.files[at].name).name[:6] for at in order} for split, order in index.splits.items()}


@pytest.mark.parametrize("pattern", [r"^(user\d+)", r"user\d\d", "er([0-9]+)_"])
@pytest.mark.parametrize("seed", range(4))
def test_a_group_stays_in_one_split(tmp_path: Path, pattern: str, seed: int) -> None:
    write_files(tmp_path, *USERS)
    found = users_by_split(tmp_path, group=pattern, split_seed=seed, test_share=0.3, validation_share=0.3)
    assert sorted(user for users in found.values() for user in users) == sorted({Path(name).name[:6] for name in USERS})
    assert [len(found[split]) for split in loading.SPLITS] == [3, 1, 2]


def test_groups_in_folders_of_splits(tmp_path: Path) -> None:
    write_files(tmp_path / "train", *(name for name in USERS if "user05" not in name))
    write_files(tmp_path / "test", *(name for name in USERS if "user05" in name))
    found = users_by_split(tmp_path, group=r"user\d+")
    assert found["test"] == {"user05"}
    assert len(found["validation"]) == 1
    assert not found["train"] & found["validation"]
    write_files(tmp_path / "test", "clap/user04_take9.png", "clap/user03_take9.png")
    assert image_failure("image-folder", tmp_path, size=(8, 8), group=r"user\d+") == (
        f"{tmp_path}: user03, user04 of data.group are in train and in test; move their files into one of these folders"
    )


@pytest.mark.parametrize(
    ("group", "words"),
    [
        (r"person(\d+)", "user00_take0.png: data.group 'person(\\\\d+)' finds no group in its name 'user00_take0'"),
        (r"user|(x)", "finds no group in its name"),
        (r"^user", "data.group finds 1 group in it, where 3 or more are needed, one for each split"),
    ],
)
def test_a_pattern_that_finds_no_groups(tmp_path: Path, group: str, words: str) -> None:
    write_files(tmp_path, *USERS)
    assert words in image_failure("image-folder", tmp_path, size=(8, 8), group=group)


def test_a_class_that_groups_keep_out_of_a_split_is_named(tmp_path: Path) -> None:
    write_files(tmp_path, *(f"{name}/{group}_1.png" for name, group in (("ant", "a"), ("bee", "b"), ("cat", "c"))))
    loaded = load_images("image-folder", tmp_path, tmp_path.parent / "cache", size=(8, 8), group="^.")
    assert len(loaded.notes) == 3
    assert all("has no sample of" in note for note in loaded.notes)


def test_people_in_two_splits_are_told(tmp_path: Path) -> None:
    write_files(tmp_path, *USERS)
    (note,) = load_images("image-folder", tmp_path, tmp_path.parent / "cache", size=(8, 8)).notes
    assert note.startswith("files whose names begin with user0")
    assert "data.group: '^([^-_. ]+)'" in note
    assert not load_images("image-folder", tmp_path, tmp_path.parent / "cache", size=(8, 8), group=r"^([^-_. ]+)").notes


@pytest.mark.parametrize(
    "names",
    [
        ["ant/0.png", "ant/1.png"],
        ["ant/image_0001.png", "ant/image_0002.png", "bee/image_0001.png"],  # Caltech-101
        ["ant/ant_1.png", "ant/ant_2.png", "bee/bee-1.png"],
        ["ant/IMG_1.png", "ant/IMG_2.png", "bee/DSC_1.png", "bee/DSC_2.png"],
        ["ant/9f3a.png", "ant/77b1.png"],
    ],
)
def test_names_that_tell_of_no_person(names: list[str]) -> None:
    labelled = [(name, int(name.startswith("bee"))) for name in names]
    assert shared_prefix_note({"train": labelled, "test": labelled}) == ()


def test_persons_in_one_split_each_are_not_told() -> None:
    parts = {"train": [("a/p1_1.png", 0), ("a/p2_1.png", 0)], "test": [("a/p3_1.png", 0), ("a/p4_1.png", 0)]}
    assert shared_prefix_note(parts) == ()
    parts["test"].append(("a/p2_2.png", 0))
    assert "begin with p2 are" in shared_prefix_note(parts)[0]


def test_a_pattern_must_be_one() -> None:
    from spquant_search.errors import SpaceError
    from spquant_search.space.reading import read_space

    tiny = Path(__file__).parents[2] / "spaces" / "tiny.yaml"
    with pytest.raises(SpaceError, match=r"data.group: must be a regular expression, such as \^\(user\[0-9\]\+\)"):
        read_space(tiny, ["data.group=(user"])
    with pytest.raises(UserError, match="group: fashion-events has no such option"):
        loading.load("fashion-events", time_steps=1, options=DataSpace(name="fashion-events", group="x"))


def test_names_of_classes_are_text(tmp_path: Path) -> None:
    """They go into JSON, C and pages; the bytes of some other encoding would be lost on the way."""
    for name in ("ant", "B\u00e4r", "\u4e2d\U0001f41d"):
        (tmp_path / name).mkdir()
    assert class_names(tmp_path) == ("B\u00e4r", "ant", "\u4e2d\U0001f41d")
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(UserError) as caught:
        class_names(tmp_path)
    assert str(caught.value) == f"{tmp_path}: the name of the class folder 'caf\\udce9' is no text in UTF-8; rename it"


def test_files_that_are_not_read_are_counted_by_their_suffix(tmp_path: Path) -> None:
    """Those of every class and split count, hidden ones and folders do not; text beside recordings is not read."""
    for split in ("train", "test"):
        for name in ("a", "b"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(4):
                np.save(folder / f"{number}.npy", np.zeros((4, 4)))
                (folder / f"{number}.JSON").write_text("{}")
            (folder / "notes.txt").write_text("windy")
            (folder / ".hidden.json").write_text("{}")
            (folder / "older").mkdir()
    (tmp_path / "test" / "b" / "Makefile").write_text("all:")
    found = find_samples("event-folder", DataSpace(name="event-folder", root=str(tmp_path), sensor=4))
    assert len(found.files) == 16
    words = "in class folders 21 files are not read: .json (16), .txt (4), without a suffix (1)"
    assert words in found.notes
    everything = DataSpace(name="event-folder", root=str(tmp_path), sensor=4, reader="mine:read")
    assert not any("not read" in note for note in find_samples("event-folder", everything).notes)


@pytest.mark.parametrize(("kind", "suffix"), [("event-folder", ".npy"), ("image-folder", ".png")])
def test_a_class_of_other_files_is_told_what_is_read(tmp_path: Path, kind: str, suffix: str) -> None:
    for number in range(3):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / f"{number}.xyz").write_text("")
    with pytest.raises(UserError) as caught:
        find_samples(kind, DataSpace(name=kind, root=str(tmp_path)))
    words = str(caught.value)
    assert "There 3 files are not read: .xyz (3); " in words
    assert f" {suffix}, " in words
    assert ("data.reader" in words) == (kind == "event-folder")
