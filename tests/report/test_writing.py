"""Files of a run are whole or not there."""

from __future__ import annotations

import pytest
from examples import example_run

from spquant_search.report import data_files
from spquant_search.report import front_figure as figures
from spquant_search.report import writing as files


def test_a_figure_that_cannot_be_drawn_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "front.png").write_bytes(b"old")

    class Half:
        def savefig(self, file, **_options):
            file.write(b"\x89PN")
            raise ValueError("no such colour")

    monkeypatch.setattr(figures, "draw_front", lambda _summary: Half())
    with pytest.raises(ValueError, match="no such colour"):
        files.write_reports(example_run(), tmp_path)
    assert (tmp_path / "front.png").read_bytes() == b"old"
    assert not list(tmp_path.glob(".*"))


def test_new_files_have_the_users_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    data_files.write_front_json(example_run(), tmp_path / "front.json")
    assert (tmp_path / "front.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_all_files_of_a_run(tmp_path):
    files.write_reports(example_run(), tmp_path)
    names = ["front.csv", "front.json", "front.png", "report.md", "results.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / "front.png").read_bytes()[1:4] == b"PNG"
