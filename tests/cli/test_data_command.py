"""The command `data`: tables, figures, a picture; and bad input, which ends it and a search before any training."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from conftest import Command
from data.event_writers import USER_DTYPE, write_bin
from data.image_files import write_cifar_bin, write_idx_set, write_image_folder
from data.published import CIFAR10_DVS, DVS_GESTURE, N_CALTECH101, NMNIST, RecordedSet, write_set
from data.server import Server, publish_nmnist
from PIL import Image
from rich.console import Console

from spquant_search.data import loading
from spquant_search.data.statistics import DataStatistics, dataset_statistics, examples
from spquant_search.report.data_report import OFF, ON, class_table, coloured, draw_samples, split_table
from spquant_search.report.stages import stages
from spquant_search.space.schema import DataSpace

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"
FEW = [
    word
    for split, count in {"train": 30, "validation": 10, "test": 20}.items()
    for word in ("--set", f"data.{split}_samples={count}")
]


def space_file(folder: Path, *, time_steps: int = 2, **values: Any) -> Path:
    path = folder / "space.yaml"
    document = {
        "data": values,
        "time_steps": time_steps,
        "model": {"network": "vgg9", "width": 0.0625},
        "layers": {"all": {"weight_bits": [4], "membrane_levels": [3]}},
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


# Figures


def facts_of(name: str, cache: Path, **values: Any) -> tuple[DataStatistics, loading.DataSet]:
    loaded = loading.load(name, time_steps=3, options=DataSpace(name=name, **values), cache_dir=cache)
    return dataset_statistics(loaded), loaded


def write_known(root: Path, *counts: int) -> None:
    """Class a with three recordings of so many events each, ON and at the same pixel; class b of one OFF event each."""
    for number, events in enumerate(counts):
        for class_name, polarity, many in (("a", 1, events), ("b", 0, 1)):
            table = np.zeros(many, USER_DTYPE)
            table["t"], table["x"], table["y"], table["p"] = np.arange(many), 1, 2, polarity
            (root / class_name).mkdir(parents=True, exist_ok=True)
            np.save(root / class_name / f"{number}.npy", table)


def test_figures_that_can_be_counted_by_hand(tmp_path: Path) -> None:
    write_known(tmp_path / "files", 90, 90, 90)
    facts, loaded = facts_of("event-folder", tmp_path / "cache", root=str(tmp_path / "files"), sensor=(4, 5))
    for name, split in facts.splits:
        assert (split.samples, split.samples_by_class) == (2, (1, 1))
        assert split.events is not None
        # 90 events and 1 event; over 3 time steps of 2 x 4 x 5 values: 3 values of 30 events, and 1 value of 1 event.
        assert (split.events.mean, split.events.deviation) == (45.5, 44.5)
        assert (split.events.min, split.events.max) == (1.0, 90.0)
        assert split.density == 4 / (2 * 3 * 2 * 4 * 5)
        assert split.clamped == 3 / (2 * 3 * 2 * 4 * 5)  # 30 is above 15
        assert split.pixels is None
        assert Path(split.file).parent == tmp_path / "cache"
        assert Path(split.file).name.startswith(f"event-folder-{name}-")
        assert split.bytes == Path(split.file).stat().st_size == 128 + 240 + 12
    assert (facts.time_steps, facts.channels, facts.height, facts.width) == (3, 2, 4, 5)
    assert facts.cache_bytes == 3 * 380
    with_sum, _ = facts_of(
        "event-folder", tmp_path / "c", root=str(tmp_path / "files"), sensor=(4, 5), polarity="both-and-sum"
    )
    assert [split.events for _, split in with_sum.splits] == [split.events for _, split in facts.splits]
    shown = examples(loaded)
    assert (shown.classes, shown.columns) == (("a", "b"), (1, 2, 3))
    assert np.argwhere(shown.frames).tolist() == [[0, 0, 1, 2, 1], [0, 1, 1, 2, 1], [0, 2, 1, 2, 1], [1, 0, 0, 2, 1]]


def test_tables_of_recordings(tmp_path: Path) -> None:
    write_known(tmp_path / "files", 90, 90, 90)
    facts, _ = facts_of("event-folder", tmp_path / "cache", root=str(tmp_path / "files"), sensor=(4, 5))
    assert class_table(facts).plain().splitlines() == [
        "Samples of 2 classes",
        "class  train  validation  test  all",
        "a          1           1     1    3",
        "b          1           1     1    3",
        "all        2           2     2    6",
    ]
    lines = split_table(facts).plain().splitlines()
    assert lines[0] == "event-folder: event-camera recordings of the user's, a folder for each class"
    assert " ".join(lines[1].split()) == "split samples events mean spread min..max non-zero % above 15 % MiB"
    assert lines[2].split() == ["train", "2", "46", "44", "1..90", "1.7", "1.25", "0.0"]
    assert lines[5] == "frames: 3 x 2 x 4 x 5 (time steps, channels, height, width)"
    assert lines[-1] == f"cache: 0.0 MiB in {tmp_path / 'cache'}; it can be deleted at any time"


def test_tables_of_images(tmp_path: Path) -> None:
    for class_name, value in (("a", 10), ("b", 30)):
        (tmp_path / "files" / class_name).mkdir(parents=True)
        for number in range(3):
            grey = Image.new("RGB", (4, 4), (value, 0, value))
            grey.save(tmp_path / "files" / class_name / f"{number}.png")
    facts, loaded = facts_of("image-folder", tmp_path / "cache", root=str(tmp_path / "files"), size=(4, 4))
    train = facts.splits[0][1]
    assert train.pixels is not None
    assert (train.pixels.mean, train.pixels.min, train.pixels.max) == pytest.approx((40 / 3, 20 / 3, 20.0))
    assert (train.events, train.density, train.clamped) == (None, 2 / 3, 0)
    lines = split_table(facts).plain().splitlines()
    assert " ".join(lines[1].split()) == "split samples pixel mean spread min..max non-zero % MiB"
    assert lines[2].split()[:6] == ["train", "2", "13.3", "6.7", "6.7..20.0", "66.7"]
    assert lines[5] == "frames: 3 x 4 x 4 (channels, height, width), the same in each of 3 time steps"
    shown = examples(loaded)
    assert shown.frames.shape == (2, 1, 3, 4, 4)  # a sample of each class in train


# The picture


def test_colours_of_events() -> None:
    frames = np.zeros((2, 1, 3, 1, 4), np.uint8)
    frames[0, 0, :, 0] = [[4, 0, 1, 0], [0, 4, 0, 0], [4, 4, 1, 0]]  # OFF, ON and their sum
    shown = coloured(frames, largest=15, static=False)
    assert shown.shape == (2, 1, 1, 4, 3)
    off, on = (np.array([int(ink[at : at + 2], 16) / 255 for at in (1, 3, 5)]) for ink in (OFF, ON))
    np.testing.assert_allclose(shown[0, 0, 0], [off, on, (1 + off) / 2, [1, 1, 1]])  # 1 of 4 at half strength
    assert (shown[1] == 1).all()  # a row without an event
    both = coloured(np.full((1, 1, 2, 1, 1), 200, np.uint8), largest=15, static=False)
    np.testing.assert_allclose(both[0, 0, 0, 0], np.clip(off + on - 1, 0, 1))


def test_images_are_shown_as_they_are() -> None:
    frames = np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 2, 2) * 10
    shown = coloured(frames, largest=255, static=True)
    np.testing.assert_allclose(shown[1, 0, :, :, 2], frames[1, 0, 2] / 255)
    grey = coloured(frames[:, :, :1], largest=255, static=True)
    np.testing.assert_allclose(grey, np.repeat(frames[:, :, 0][..., None], 3, axis=-1) / 255)


def test_what_the_picture_says(tmp_path: Path) -> None:
    write_known(tmp_path / "files", 90, 90, 90)
    facts, loaded = facts_of("event-folder", tmp_path / "cache", root=str(tmp_path / "files"), sensor=(4, 5))
    figure = draw_samples(facts, examples(loaded))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3"]
    assert axes.get_xlabel() == "time step"
    assert len(axes.images) == 6
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ON events", "OFF events", "both"]
    (title,) = [text.get_text() for text in figure.texts]
    assert " ".join(title.split()) == f"event-folder: {facts.description}"


def test_many_classes_and_steps_are_shown_evenly(tmp_path: Path) -> None:
    loaded = loading.load(
        "fashion-events", time_steps=21, cache_dir=tmp_path, limit={"train": 40, "validation": 1, "test": 1}
    )
    shown = examples(loaded)
    assert shown.columns == (1, 3, 5, 8, 10, 12, 14, 17, 19, 21)
    assert shown.frames.shape == (8, 10, 2, 34, 34)
    assert (shown.classes[0], shown.classes[-1]) == (loaded.classes[0], loaded.classes[-1])
    first = int(np.flatnonzero(loaded.train.labels == 0)[0])
    np.testing.assert_array_equal(shown.frames[0], loaded.train.frames[first][[c - 1 for c in shown.columns]])


# The command


def test_the_default_data_as_tables_and_picture(command: Command, tmp_path: Path) -> None:
    answer = command("data", "--space", TINY, *FEW, "--out", tmp_path / "new" / "samples.png")
    assert answer.code == 0, answer.err
    assert "T-shirt/top" in answer.out
    assert re.search(r"^train +30 +[\d,]+ +[\d,]+ +[\d,]+\.\.[\d,]+ +\d+\.\d +\d+\.\d\d +\d\.\d$", answer.out, re.M)
    assert f"Written to {tmp_path / 'new' / 'samples.png'}" in answer.out.replace("\n", "")
    assert "recordings ready" in answer.err  # what is piped is the tables alone
    assert "recordings ready" not in answer.out
    with Image.open(tmp_path / "new" / "samples.png") as picture:
        assert picture.width > 500


def test_the_document(command: Command) -> None:
    answer = command("data", "--space", TINY, *FEW, "--json")
    document = json.loads(answer.out)
    assert list(document) == [
        *("space", "name", "description", "classes", "time_steps", "channels", "height", "width", "static", "largest"),
        *("splits", "cache_bytes"),
    ]
    assert (document["space"], document["name"], document["time_steps"]) == (str(TINY), "fashion-events", 3)
    train = document["splits"]["train"]
    assert list(train) == ["samples", "samples_by_class", "events", "pixels", "density", "clamped", "file", "bytes"]
    assert train["samples"] == sum(train["samples_by_class"].values()) == 30
    assert list(train["samples_by_class"]) == document["classes"]
    assert list(train["events"]) == ["mean", "deviation", "min", "max"]
    assert sum(split["bytes"] for split in document["splits"].values()) == document["cache_bytes"]


def test_a_picture_that_cannot_be_written(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = command("data", "--space", TINY, *FEW, "--out", tmp_path / "file" / "a.png")
    assert (answer.code, answer.out) == (2, "")
    assert "a.png: cannot be written: " in answer.err
    assert answer.err.rstrip().endswith("Give another path")


def test_a_damaged_cache_is_named(command: Command) -> None:
    document = json.loads(command("data", "--space", TINY, *FEW, "--json").out)
    path = Path(document["splits"]["train"]["file"])
    whole, time_ns = path.read_bytes(), path.stat().st_mtime_ns
    path.write_bytes(whole[:300] + bytes([whole[300] ^ 1]) + whole[301:])
    os.utime(path, ns=(time_ns, time_ns))
    answer = command("data", "--space", TINY, *FEW, "--json")
    assert answer.code == 2
    assert f"error: {path}: is damaged; check the disk, and delete the file" in answer.err
    path.unlink()
    assert json.loads(command("data", "--space", TINY, *FEW, "--json").out)["splits"] == document["splits"]


def test_a_download_is_prepared_and_described(
    command: Command,
    tmp_path: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("tonic")
    publish_nmnist(tmp_path, server, monkeypatch)
    space = space_file(tmp_path, name="nmnist", partial=True, root=str(tmp_path / "root"))
    refused = command("data", "--space", space)
    assert refused.code == 2
    assert server.asked == []  # nothing is downloaded unless asked for
    answer = command("data", "--space", space, "--download", "--json")
    assert answer.code == 0, answer.err
    assert "downloading train.zip" in answer.err
    assert [split["samples"] for split in json.loads(answer.out)["splits"].values()] == [10, 10, 20]


def test_a_terminal_gets_bars_that_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    console = Console(force_terminal=True, width=80, file=io.StringIO())
    with stages(console) as stage:
        stage("downloading [a].zip", 1, 4)
        stage("downloading [a].zip", 4, 4)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "downloading [a].zip" in shown
    assert "100 %" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # the line is cleared


# Bad input: exit code 2 and one message, of `data` and of a search that stops before training


class Harm(NamedTuple):
    """A data set with a fault, and words of the message: the file or the key, and values that show the fault."""

    values: dict[str, Any]
    words: tuple[str, ...]


def rows(*events: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    return list(events)


def bad_recording(root: Path, content: bytes | list[tuple[int, int, int, int]]) -> Harm:
    write_set(root, NMNIST, per_class=2)
    path = root / "Train" / "3" / "00001.bin"
    path.write_bytes(content) if isinstance(content, bytes) else write_bin(path, content)
    return Harm({"name": "nmnist", "partial": True}, (f"{path}: ",))


def wrong_layout(root: Path) -> Harm:
    write_set(root / "inner", NMNIST, per_class=2)
    return Harm({"name": "nmnist"}, (f"{root}: ", "Train .. Test", "Train/0"))


def part_missing(root: Path) -> Harm:
    write_set(root, NMNIST, per_class=2)
    return Harm({"name": "nmnist"}, (f"{root}: ", "20 of the published 60000", "partial: true"))


def no_events(root: Path) -> Harm:
    harm = bad_recording(root, b"")
    return harm._replace(words=(*harm.words, "no events"))


def backwards(root: Path) -> Harm:
    harm = bad_recording(root, rows((1, 1, 9, 0), (1, 1, 5, 0)))
    return harm._replace(words=(*harm.words, "9 us (event 0) to 5 us", "sort_events: true"))


def outside(root: Path) -> Harm:
    harm = bad_recording(root, rows((1, 1, 5, 0), (34, 1, 6, 0)))
    return harm._replace(words=(*harm.words, "event 1 has x 34", "0 to 33"))


def truncated(root: Path) -> Harm:
    harm = bad_recording(root, b"1234567")
    return harm._replace(words=(*harm.words, "7 bytes", "5-byte events"))


def one_sample(root: Path) -> Harm:
    write_set(root, N_CALTECH101, per_class=3)
    for number in (1, 2):
        (root / "ant" / f"image_{number:04}.bin").unlink()
    return Harm(
        {"name": "n-caltech101", "partial": True},
        (f"{root}: ", "ant holds 1 .bin files", "3 or more"),
    )


def damaged(root: Path, published: RecordedSet, **values: Any) -> Harm:
    written = write_set(root, published, per_class=3)
    path = root / next(iter(written))
    path.write_bytes(path.read_bytes()[:100])
    return Harm({"name": published.name, "partial": True, **values}, (f"{path}: cannot be read: ",))


def damaged_aedat4(root: Path) -> Harm:
    return damaged(root, CIFAR10_DVS)


def damaged_gesture(root: Path) -> Harm:
    return damaged(root, DVS_GESTURE)


def unreadable_image(root: Path) -> Harm:
    write_image_folder(root, "ant", "cat")
    path = root / "cat" / "1.png"
    path.write_text("no image")
    return Harm({"name": "image-folder", "size": 32}, (f"{path}: ",))


def class_of_one_image(root: Path) -> Harm:
    write_image_folder(root, "ant", count=3)
    write_image_folder(root, "cat", count=1)
    return Harm(
        {"name": "image-folder", "size": 32},
        (f"{root}: ", "cat holds 1 image", "3 or more"),
    )


def class_of_one_recording(root: Path) -> Harm:
    write_known(root, 9, 9, 9)
    for number in (1, 2):
        (root / "b" / f"{number}.npy").unlink()
    return Harm(
        {"name": "event-folder", "sensor": 16},
        (f"{root}: ", "b holds 1 recording", "3 or more"),
    )


def table_without_names(root: Path) -> Harm:
    write_known(root, 9, 9, 9)
    np.save(root / "a" / "0.npy", np.zeros((3, 4)))
    return Harm(
        {"name": "event-folder", "sensor": 16},
        (f"{root / 'a' / '0.npy'}: ", "data.columns"),
    )


def event_beside_the_sensor(root: Path) -> Harm:
    write_known(root, 9, 9, 9)
    np.save(root / "a" / "0.npy", np.array([[5, 99, 6, 1]]))
    return Harm(
        {"name": "event-folder", "sensor": 16, "columns": "xytp"},
        (f"{root / 'a' / '0.npy'}: ", "event 0 has y 99", "0 to 15"),
    )


def cut_idx(root: Path) -> Harm:
    write_idx_set(root)
    path = root / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-20])
    return Harm(
        {"name": "mnist", "partial": True},
        (f"{path}: ", "23500", "23520"),
    )


def cut_cifar(root: Path) -> Harm:
    write_cifar_bin(root)
    path = root / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    return Harm({"name": "cifar10", "partial": True}, (f"{path}: ", "61459 bytes", "3073-byte"))


def no_folder(root: Path) -> Harm:
    return Harm({"name": "dvs-gesture"}, ("data.root: ", f"{root}", "ibmGestureTrain"))


def unknown_set(root: Path) -> Harm:
    return Harm(
        {"name": "n-mnist"},
        ("data.name: ", "'n-mnist'", "'nmnist'"),
    )


HARMS = [
    *(wrong_layout, part_missing, no_events, backwards, outside, truncated, one_sample, damaged_aedat4),
    *(damaged_gesture, unreadable_image, class_of_one_image, class_of_one_recording, table_without_names),
    *(event_beside_the_sensor, cut_idx, cut_cifar, no_folder, unknown_set),
]


@pytest.mark.parametrize("harmed", HARMS, ids=lambda harmed: harmed.__name__)
def test_bad_input_ends_data_and_a_search_before_training(
    command: Command, tmp_path: Path, harmed: Callable[[Path], Harm]
) -> None:
    pytest.importorskip("tonic")
    harm = harmed(tmp_path / "files")
    space = space_file(tmp_path, root=str(tmp_path / "files"), **harm.values)
    for words in (("data", "--space", space), ("--space", space, "--run", tmp_path / "run", "--device", "cpu")):
        answer = command(*words)
        assert answer.code == 2
        assert "Traceback" not in answer.out + answer.err
        (line,) = [line for line in answer.err.splitlines() if line.startswith("error: ")]
        assert all(word in line for word in harm.words), line
    assert not (tmp_path / "run").exists()  # no run was begun, so nothing was trained
