"""Drafts: seen by nobody before they are whole, and removed where their makers are gone, but no other's."""

from __future__ import annotations

import os
import re
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from killing import killed_at

from spquant_search.errors import UserError
from spquant_search.runs import drafts
from spquant_search.runs.drafts import draft_folder, new_draft, remove_leftovers, require_new_folder
from spquant_search.runs.files import write_bytes


def test_no_two_drafts_have_one_name(tmp_path, monkeypatch):
    """Whatever processes have in common: host, number, and the moment at which they write."""
    made = [new_draft(tmp_path / "file") for _ in range(50)]
    assert len({draft for draft, _ in made}) == 50
    for draft, descriptor in made:
        assert draft.name.startswith(".file.")
        os.close(descriptor)
    names = iter(["0" * 16, "0" * 16, "1" * 16])
    monkeypatch.setattr(drafts.secrets, "token_hex", lambda _bytes: next(names))
    os.close(new_draft(tmp_path / "other")[1])
    with pytest.raises(FileExistsError):  # never written into another's
        new_draft(tmp_path / "other")


def test_what_is_being_made_stays_and_what_was_left_goes(tmp_path):
    draft, descriptor = new_draft(tmp_path / "file")
    with draft_folder(tmp_path / "folder") as folder:
        (folder / "content").write_text("x")
        remove_leftovers(tmp_path)
        assert {draft, folder} <= set(tmp_path.iterdir())
        assert (folder / "content").exists()
    assert not folder.exists()
    os.close(descriptor)
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def names_of(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))


def test_a_writer_that_is_killed_at_any_point_leaves_nothing_for_long(tmp_path):
    def writes() -> None:
        write_bytes(tmp_path / "file", b"new")

    write_bytes(tmp_path / "file", b"old")
    number, seen = 1, set()
    while killed_at(number, writes, tmp_path):
        content = (tmp_path / "file").read_bytes()
        seen.add((content, len(names_of(tmp_path))))
        remove_leftovers(tmp_path)
        assert names_of(tmp_path) == ["file"]
        assert content in (b"old", b"new")
        number += 1
    assert number > 4
    assert (b"old", 2) in seen, "something was left"
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_maker_of_a_folder_that_is_killed_at_any_point_leaves_nothing_for_long(tmp_path):
    def makes() -> None:
        with draft_folder(tmp_path / "folder") as draft:
            (draft / "whole").mkdir()
            (draft / "whole" / "file").write_text("x")
            (draft / "other").write_text("x")
            os.rename(draft / "whole", tmp_path / "folder")

    number, most = 1, 0
    while killed_at(number, makes, tmp_path):
        most = max(most, len(names_of(tmp_path)))
        remove_leftovers(tmp_path)
        assert names_of(tmp_path) in ([], ["folder", "folder/file"])
        for path in sorted(tmp_path.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        number += 1
    assert number > 8
    assert most >= 4


def test_a_cleaner_that_is_killed_at_any_point_is_followed_by_another(tmp_path):
    def left() -> None:
        folder, owner = drafts._new_folder(tmp_path / "folder")
        (folder / "whole").mkdir()
        (folder / "whole" / "file").write_text("x")
        os.close(owner)

    left()
    number = 1
    while killed_at(number, lambda: remove_leftovers(tmp_path), tmp_path):
        remove_leftovers(tmp_path)
        assert names_of(tmp_path) == []
        left()
        number += 1
    assert number > 4
    assert names_of(tmp_path) == []


def aged(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.mark.parametrize("has_locks", [True, False])
def test_a_draft_that_may_be_another_machines_is_left_for_a_day(tmp_path, monkeypatch, has_locks):
    if not has_locks:

        def flock(*_arguments: object) -> None:
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr("fcntl.flock", flock)
    else:
        monkeypatch.setattr(drafts, "_system", lambda: "0" * 8)
    file, descriptor = new_draft(tmp_path / "file")
    os.close(descriptor)
    folder, owner = drafts._new_folder(tmp_path / "folder")
    os.close(owner)
    if has_locks:
        monkeypatch.setattr(drafts, "_system", lambda: "1" * 8)
    for age, stays in ((0, True), (drafts.SECONDS_TO_WRITE - 60, True), (drafts.SECONDS_TO_WRITE + 60, False)):
        for path in (file, folder / "owner"):
            aged(path, age)
        remove_leftovers(tmp_path)
        assert (file.exists(), folder.exists()) == (stays, stays), age


def test_a_draft_that_is_locked_stays_however_old_it_is(tmp_path):
    draft, descriptor = new_draft(tmp_path / "file")
    aged(draft, 10 * drafts.SECONDS_TO_WRITE)
    remove_leftovers(tmp_path)
    assert draft.exists()
    os.close(descriptor)


def test_what_only_looks_like_a_draft_is_none_of_ours(tmp_path):
    for name in (
        ".notes.tmp",
        ".a.b.tmp",
        ".file.12345678-0123456789abcdef.tmp~",
        "file.12345678-0123456789abcdef.tmp",
    ):
        (tmp_path / name).write_text("mine")
    (tmp_path / ".folder.tmp").mkdir()
    before = names_of(tmp_path)
    remove_leftovers(tmp_path, deep=True)
    assert names_of(tmp_path) == before
    remove_leftovers(tmp_path / "gone")


def test_a_long_name_has_a_draft(tmp_path):
    path = tmp_path / ("é" * 127)
    write_bytes(path, b"x")
    with draft_folder(path):
        pass
    assert path.read_bytes() == b"x"


def test_drafts_in_folders_below_go_where_that_is_asked_for(tmp_path):
    (tmp_path / "trials").mkdir()
    draft, descriptor = new_draft(tmp_path / "trials" / "file")
    os.close(descriptor)
    remove_leftovers(tmp_path)
    assert draft.exists()
    remove_leftovers(tmp_path, deep=True)
    assert not draft.exists()


@pytest.mark.parametrize("kind", ["absent", "empty", "full", "file", "link", "dangling", "below", "deep", "long", "."])
def test_what_is_called_a_new_folder_is_one_that_can_be_made(tmp_path, monkeypatch, kind):
    """And what is refused could not have been: the answer before a long work is that at its end."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full" / "mine").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "dangling").symlink_to("nowhere")
    path = Path({"below": "file/x", "deep": "a/b/c", "long": "n" * 300}.get(kind, kind))
    before = sorted(tmp_path.rglob("*"))
    was_refused = kind not in ("absent", "empty", "deep")
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))}: .*give --out ") if was_refused else nullcontext():
        require_new_folder(path)
    assert sorted(tmp_path.rglob("*")) == before
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft_folder(path) as draft:
            (draft / "whole").mkdir()
            os.rename(draft / "whole", path)
        was_made = True
    except (OSError, ValueError):
        was_made = False
    assert was_made != was_refused
