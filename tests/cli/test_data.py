"""The command `data`; and bad input, which ends it and a search before any training."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from conftest import Command
from data.described import write_known
from data.event_writers import write_bin
from data.image_files import write_cifar_bin, write_idx_set, write_image_folder
from data.published import CIFAR10_DVS, DVS_GESTURE, N_CALTECH101, NMNIST, RecordedSet, write_set
from data.server import Server, publish_nmnist
from PIL import Image

from spquant_search.data import cache
from spquant_search.runs.locks import locked_for_a_while

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


def test_the_default_data_as_tables_and_picture(command: Command, tmp_path: Path) -> None:
    answer = command("data", "--space", TINY, *FEW, "--out", tmp_path / "new" / "samples.png")
    assert answer.code == 0, answer.err
    assert "T-shirt/top" in answer.out
    events, shares = r"[\d,]+ +[\d,]+ +[\d,]+\.\.[\d,]+", r"\d+\.\d +\d+\.\d\d +\d+\.\d"
    assert re.search(rf"^train +30 +{events} +{shares} +\d\.\d$", answer.out, re.M)
    assert f"Written to {tmp_path / 'new' / 'samples.png'}" in answer.out.replace("\n", "")
    assert "recordings ready" in answer.err  # what is piped is the tables alone
    assert "recordings ready" not in answer.out
    with Image.open(tmp_path / "new" / "samples.png") as picture:
        assert picture.width > 500


def test_the_document(command: Command) -> None:
    answer = command("data", "--space", TINY, *FEW, "--json")
    document = json.loads(answer.out)
    assert list(document) == [
        *("space", "name", "description", "classes", "time_steps", "steps_shown", "channels", "height", "width"),
        *("static", "largest"),
        *("splits", "windows", "notes", "cache_bytes"),
    ]
    assert (document["space"], document["name"], document["time_steps"]) == (str(TINY), "fashion-events", 3)
    train = document["splits"]["train"]
    assert document["windows"] is None
    assert (train["left_out"], train["cut_short"], train["ended_early"]) == (None, [], None)
    more = ("left_out", "cut_short", "ended_early", "density", "clamped", "file", "bytes", "by_time_steps")
    assert list(train) == ["samples", "samples_by_class", "events", "pixels", "fullest", "crowded", *more]
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


def test_what_another_process_makes_is_waited_for_and_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_LOOK_S", 0.05)
    document = json.loads(command("data", "--space", TINY, *FEW, "--json").out)
    path = Path(document["splits"]["validation"]["file"])
    path.unlink()
    held = ExitStack()
    held.enter_context(locked_for_a_while(path.with_name(f".lock-{path.name}"), seconds=5))
    threading.Timer(0.3, held.close).start()
    answer = command("data", "--space", TINY, *FEW)
    assert answer.code == 0
    told = rf"^waiting for process {os.getpid()} on \S+, which makes these frames; MiB  0/1$"
    assert len(re.findall(told, answer.err, re.M)) == 1
    assert "waiting" not in answer.out


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


def test_images_that_are_too_small_for_the_network(command: Command, tmp_path: Path) -> None:
    write_image_folder(tmp_path / "files", "ant", "cat")
    space = space_file(tmp_path, name="image-folder", root=str(tmp_path / "files"), size=8)
    words = "vgg9 takes 16x16 and up; got 8x8. Take a larger data.size, or a network that fits (vgg5 takes 8x8 and up"
    answer = command("cost", "--space", space)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"error: {space}: model.network: {words}")
    looked_at = json.loads(command("data", "--space", space, "--json").out)
    assert any(note.startswith(words) for note in looked_at["notes"])
    assert command("cost", "--space", space, "--set", "model.network=vgg5").code == 0
    assert json.loads(command("data", "--space", space, "--set", "model.network=vgg5", "--json").out)["notes"] == []
