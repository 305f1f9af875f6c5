"""Downloads, from a server on 127.0.0.1 alone: what is whole arrives, and nothing else is ever taken for it."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import re
import sys
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
from data.image_files import samples_by_split, write_cifar_bin, write_idx_set
from data.published import CIFAR10_DVS, write_set
from data.server import Server, publish, publish_nmnist, zipped

from spquant_search.data import catalog, loading
from spquant_search.data import download as downloading
from spquant_search.data.download import download
from spquant_search.errors import UserError
from spquant_search.space.schema import DataSpace

Said = list[tuple[str, int, int]]


def tarred(folder: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(folder, folder.name)
    return packed.getvalue()


def options(name: str, root: Path) -> DataSpace:
    return DataSpace(name=name, root=str(root), partial=True)


def fetch(name: str, root: Path) -> Said:
    said: Said = []
    download(options(name, root), lambda *words: said.append(words))
    return said


def load(name: str, root: Path, cache: Path) -> loading.DataSet:
    return loading.load(name, time_steps=2, options=options(name, root), cache_dir=cache)


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_recordings_arrive_as_published(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tonic")
    source, root = publish_nmnist(tmp_path, server, monkeypatch), tmp_path / "new" / "root"
    said = fetch("nmnist", root)
    assert content_of(root) == content_of(source)  # and no archive is left
    assert list(dict.fromkeys(text for text, done, total in said if done == total)) == [
        *("downloading train.zip", "unpacking train.zip", "downloading test.zip", "unpacking test.zip")
    ]
    assert load("nmnist", root, tmp_path / "a").train.frames.shape == (10, 2, 2, 34, 34)
    # What is whole is not asked for again.
    assert fetch("nmnist", root) == []
    assert server.asked == ["/train.zip", "/test.zip"]


def test_archives_within_an_archive(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    source, classes = tmp_path / "source", tmp_path / "classes"
    write_set(source, replaced_writer(), per_class=3)
    classes.mkdir()
    for name in catalog.SETS["cifar10-dvs"].classes:
        (classes / f"{name}.zip").write_bytes(zipped(source / name, below=f"{name}/"))
    publish(server, monkeypatch, "cifar10-dvs", {"CIFAR10DVS.zip": zipped(classes)})
    fetch("cifar10-dvs", tmp_path / "root")
    assert content_of(tmp_path / "root") == content_of(source)


def replaced_writer() -> Any:
    """Return the layout of CIFAR10-DVS with a few bytes for recordings, which are only moved here."""
    return CIFAR10_DVS._replace(write=lambda path, rows: path.write_bytes(rows.tobytes()))


def test_images_arrive_in_every_packing(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar_bin(tmp_path / "cifar-10-batches-bin")
    publish(server, monkeypatch, "cifar10", {"cifar-10-binary.tar.gz": tarred(tmp_path / "cifar-10-batches-bin")})
    fetch("cifar10", tmp_path / "cifar")
    here, there = (load("cifar10", folder, tmp_path / "cache") for folder in (tmp_path, tmp_path / "cifar"))
    assert samples_by_split(here) == samples_by_split(there)
    assert [path.name for path in (tmp_path / "cifar").iterdir()] == ["cifar-10-batches-bin"]

    write_idx_set(tmp_path / "idx", gz=True)
    packed = {path.name: path.read_bytes() for path in (tmp_path / "idx").iterdir()}
    for name in ("mnist", "fashion-mnist"):
        publish(server, monkeypatch, name, packed)
        fetch(name, tmp_path / name)
        assert content_of(tmp_path / name) == packed


@pytest.mark.parametrize("harm", ["other bytes", "cut off", "absent"])
def test_what_is_not_whole_leaves_nothing(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    publish_nmnist(tmp_path, server, monkeypatch)
    right, root = server.content["/test.zip"], tmp_path / "root"
    if harm == "other bytes":
        server.content["/test.zip"] = right[:-1] + b"x"
    elif harm == "cut off":
        server.cut.add("/test.zip")
    else:
        del server.content["/test.zip"]
    with pytest.raises(UserError) as caught:
        fetch("nmnist", root)
    message = str(caught.value)
    assert message.startswith(f"{server.address}/test.zip: download failed: ")
    assert {"other bytes": "MD5 hash of downloaded", "cut off": "IncompleteRead", "absent": "404"}[harm] in message
    assert message.endswith(
        f". Try again, or fetch test.zip by hand (MD5 {hashlib.md5(right).hexdigest()}) and put Test into {root}. "
        "nmnist is published at https://www.garrickorchard.com/datasets/n-mnist"
    )
    assert sorted(path.name for path in root.iterdir()) == [".download", "Train"]
    assert list((root / ".download").iterdir()) == []
    with pytest.raises(UserError, match=r"is not a whole nmnist: Test/0 holds 0 \.bin files"):
        load("nmnist", root, tmp_path / "cache")
    # The same command again brings only what is missing.
    server.content["/test.zip"], server.cut, server.asked = right, set(), []
    fetch("nmnist", root)
    assert server.asked == ["/test.zip"]
    assert content_of(root) == content_of(tmp_path / "source")


def test_a_stop_while_unpacking_leaves_nothing_that_is_taken_for_whole(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_nmnist(tmp_path, server, monkeypatch)
    extract = zipfile.ZipFile.extractall

    def interrupted(archive: zipfile.ZipFile, folder: Path) -> None:
        archive.extract(archive.namelist()[0], folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(zipfile.ZipFile, "extractall", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch("nmnist", tmp_path / "root")
    assert [path.name for path in (tmp_path / "root").iterdir()] == [".download"]
    monkeypatch.setattr(zipfile.ZipFile, "extractall", extract)
    fetch("nmnist", tmp_path / "root")
    assert server.asked == ["/train.zip", "/test.zip"]  # the archive that was whole is not fetched twice
    assert content_of(tmp_path / "root") == content_of(tmp_path / "source")


def test_two_downloads_into_one_folder_follow_each_other(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_nmnist(tmp_path, server, monkeypatch)
    monkeypatch.setattr(downloading, "_LOOK_S", 0.02)
    root, second_waits = tmp_path / "root", threading.Event()
    heard: Said = []

    def hear(*words: Any) -> None:
        heard.append(words)
        second_waits.set()

    second = threading.Thread(target=download, args=(options("nmnist", root), hear))

    def first(text: str, done: int, total: int) -> None:
        if text == "unpacking train.zip":
            second.start()
            assert second_waits.wait(20)

    download(options("nmnist", root), first)
    second.join(20)
    assert server.asked == ["/train.zip", "/test.zip"], "the second finds all there"
    holder = f"process {os.getpid()} on {platform.node()}"
    assert set(heard) == {(f"waiting for {holder}, which downloads into {root}", 0, 0)}
    assert content_of(root) == content_of(tmp_path / "source")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = f"data.root: {tmp_path}/file/root: Not a directory; name a folder that nmnist can be written into"
    with pytest.raises(UserError, match=f"^{re.escape(words)}$"):
        fetch("nmnist", tmp_path / "file" / "root")


def test_an_archive_without_what_it_should_hold(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, monkeypatch, "nmnist", {"train.zip": zipped(tmp_path), "test.zip": b""})
    with pytest.raises(UserError, match=r"/train\.zip: download failed: it does not hold Train\. Try again"):
        fetch("nmnist", tmp_path / "root")


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (DataSpace(name="fashion-events"), "--download: fashion-events comes with the package; omit the option"),
        (
            DataSpace(name="event-folder", root="x"),
            "--download: no address is known for event-folder; put the files into the folder data.root: CLASS/RECORD",
        ),
        (DataSpace(name="image-folder", root="x"), "--download: no address is known for image-folder; put the files"),
        (DataSpace(name="nmnist"), "data.root: say into which folder to download, for example --set data.root=~/data"),
    ],
)
def test_what_cannot_be_downloaded(of: DataSpace, words: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(words)}"):
        download(of, lambda *said: None)


def test_pooch_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(
        UserError, match=r"^--download needs pooch, which cannot be imported \(.*\); pip install pooch$"
    ):
        fetch("nmnist", tmp_path / "root")


def test_every_archive_is_known_by_its_checksum() -> None:
    archives = [archive for published in catalog.SETS.values() for archive in published.archives]
    assert len(archives) == 2 + 1 + 1 + 2 + 4 + 4 + 1
    assert len({archive.md5 for archive in archives}) == len({archive.url for archive in archives}) == len(archives)
    assert all(re.fullmatch("[0-9a-f]{32}", archive.md5) for archive in archives)


def test_addresses_and_checksums_are_those_that_tonic_has() -> None:
    datasets = pytest.importorskip("tonic").datasets
    known = {
        "nmnist": [(datasets.NMNIST, "train_"), (datasets.NMNIST, "test_")],
        "cifar10-dvs": [(datasets.CIFAR10DVS, "")],
        "n-caltech101": [(datasets.NCALTECH101, "")],
        "dvs-gesture": [(datasets.DVSGesture, "train_"), (datasets.DVSGesture, "test_")],
    }
    for name, sources in known.items():
        for archive, (source, part) in zip(catalog.SETS[name].archives, sources, strict=True):
            md5 = getattr(source, f"{part}md5", None) or source.file_md5
            wanted = (getattr(source, f"{part}url"), getattr(source, f"{part}filename"), md5)
            assert (archive.url, archive.file, archive.md5) == wanted
