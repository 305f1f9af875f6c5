"""The page's figures as files."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from examples import config, example_run, trial
from pages import hostile_page, random_page

from spquant_search.report.page_data import PageSource
from spquant_search.report.run_figures import write_figures

ALL = ("front", "layers", "bytes", "operations", "volume", "curves", "sensitivity")


def test_every_figure_is_a_png_and_an_svg(tmp_path):
    names = write_figures(random_page(6), tmp_path / "figures")
    assert names == tuple(f"{name}.{ending}" for name in ALL for ending in ("png", "svg"))
    for name in names:
        content = (tmp_path / "figures" / name).read_bytes()
        if name.endswith("png"):
            assert content.startswith(b"\x89PNG")
        else:
            assert ET.fromstring(content).tag.endswith("svg")


@pytest.mark.slow
def test_equal_results_give_equal_figures(tmp_path):
    for place in ("one", "two"):
        write_figures(random_page(6), tmp_path / place)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


@pytest.mark.parametrize(
    "source",
    [
        PageSource(summary=example_run(results=(trial(0, 0.9, 100, 50, origin="baseline", of=config("000", "0 0")),))),
        PageSource(summary=example_run()),
        hostile_page(),
    ],
)
def test_what_a_run_does_not_have_is_left_out(tmp_path, source):
    names = write_figures(source, tmp_path)
    assert "front.svg" in names
    assert "bytes.svg" not in names
