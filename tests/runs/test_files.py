"""Files are written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from spquant_search.runs.files import write_bytes, write_text


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_text(path, "old")

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, full)
            with pytest.raises(OSError, match="No space left"):
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


def test_written_files_can_be_read_by_others_and_make_their_folder(tmp_path):
    write_bytes(tmp_path / "deep" / "file", b"\x00\xff")
    assert (tmp_path / "deep" / "file").read_bytes() == b"\x00\xff"
    assert stat.S_IMODE((tmp_path / "deep" / "file").stat().st_mode) == 0o644


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
