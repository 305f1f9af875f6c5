"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from spquant_search.errors import UserError
from spquant_search.runs.files import as_user_error, cache_folder, write_bytes, write_text


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_text(path, "old")

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, full)
            with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
                write_text(path, "new")
        assert path.read_text() == "old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_text(path, "old")
    seen = []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda *arguments: (seen.append(path.read_text()), real(*arguments)))
    write_text(path, "new")
    assert seen == ["old"]


def test_written_files_can_be_read_by_others(tmp_path):
    write_bytes(tmp_path / "file", b"\x00\xff")
    assert (tmp_path / "file").read_bytes() == b"\x00\xff"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_must_not_be_replaced_stays(tmp_path, monkeypatch, has_links):
    def no_links(_old: Path, new: Path) -> None:
        raise FileExistsError if new.exists() else PermissionError(1, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", no_links)
    write_bytes(tmp_path / "file", b"first", replaces=False)
    write_bytes(tmp_path / "file", b"second", replaces=False)
    assert (tmp_path / "file").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["run.json", "trials/0001.json"])
def test_a_run_that_somebody_deletes_does_not_come_back_in_pieces(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=name):
        write_text(tmp_path / "run" / name, "{}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "{file}: Permission denied; change its permissions, or work on a copy"),
        (errno.EROFS, "{file}: Read-only file system; work on a copy in a place that can be written"),
        (errno.ENOSPC, "{file}: No space left on device; free some space and start the same command again; nothing"),
        (errno.EIO, "{file}: Input/output error; check the disk and the path"),
    ],
)
def test_each_trouble_with_a_folder_is_told_as_what_it_is(tmp_path, number, words):
    file = tmp_path / "trials" / "0001.json"
    with pytest.raises(UserError) as caught, as_user_error(tmp_path):
        raise OSError(number, os.strerror(number), str(file))
    assert str(caught.value).startswith(words.format(file=file))


def test_a_folder_that_vanishes_is_told_as_that(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(UserError) as caught, as_user_error(folder):
        write_text(folder / "run.json", "{}")
    assert str(caught.value).startswith(f"{folder}: vanished while it was worked on; put it back")


def test_trouble_elsewhere_is_not_blamed_on_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError), as_user_error(tmp_path / "run"):
        (tmp_path / "elsewhere").read_text()


@pytest.mark.parametrize("chosen", ["~no-such-user-here/cache", ""])
def test_a_cache_in_a_home_that_nobody_knows(monkeypatch, chosen):
    """As in a container whose user has no entry and no HOME."""

    def unknown(*_arguments: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("SPQUANT_CACHE", chosen)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    with pytest.raises(UserError, match="set SPQUANT_CACHE to a path"):
        cache_folder()


def test_a_relative_cache_stays_where_it_was_when_the_program_began(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPQUANT_CACHE", "cache")
    assert cache_folder() == tmp_path / "cache"
