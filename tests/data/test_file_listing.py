"""Files of a folder, listed; what cannot be looked at is named, and nothing left out for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from spquant_search.data.file_listing import files_in, folders_in
from spquant_search.errors import UserError


def test_files_are_listed_by_suffix_and_name(tmp_path: Path) -> None:
    (tmp_path / "ant").mkdir()
    for name in ("b.PNG", "a.png", ".c.png", "notes.txt"):
        (tmp_path / "ant" / name).write_bytes(b"12345")
    assert [(file.name, file.size) for file in files_in(tmp_path, "ant", (".png",))] == [
        ("ant/a.png", 5),
        ("ant/b.PNG", 5),
    ]
    assert files_in(tmp_path, "bee", (".png",)) == []
    assert (folders_in(tmp_path), folders_in(tmp_path / "bee"), folders_in(tmp_path / "ant" / "a.png")) == (
        ["ant"],
        [],
        [],
    )


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "a.png").touch()
    (tmp_path / "ant" / "b.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UserError) as caught:
        files_in(tmp_path, "ant", (".png",))
    assert str(caught.value) == (
        f"{tmp_path}/ant/b.png: is a link to a file that is not there; replace it, or remove it"
    )


def test_a_folder_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ant").mkdir()

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    words = f"{tmp_path}/ant: cannot be looked at (Permission denied); change its permissions, or move it elsewhere"
    for function, look in (
        ("open", lambda: files_in(tmp_path, "ant", (".png",))),
        ("scandir", lambda: folders_in(tmp_path / "ant")),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, refuse)
            with pytest.raises(UserError) as caught:
                look()
        assert str(caught.value) == words
