"""Space files that come with the package."""

from __future__ import annotations

from pathlib import Path

import yaml

from spquant_search.space.reading import read_space
from spquant_search.space.shipped import first_sentence, shipped_folder, shipped_spaces

SPACES = Path(__file__).parents[2] / "spaces"


def test_the_files_of_the_checkout_are_those_that_are_shipped() -> None:
    assert shipped_folder().samefile(SPACES)
    assert sorted(shipped_spaces()) == sorted(file.stem for file in SPACES.iterdir())
    assert next(iter(shipped_spaces())) == "vgg9"


def test_every_file_says_in_its_first_line_what_it_is() -> None:
    sentences = [first_sentence(file) for file in shipped_spaces().values()]
    assert all(sentence.endswith((".", "?")) and 20 < len(sentence) < 110 for sentence in sentences)
    assert len(set(sentences)) == len(sentences)


def test_every_file_is_a_space() -> None:
    for file in shipped_spaces().values():
        root = [] if "root" not in yaml.safe_load(file.read_text())["data"] else ["data.root=."]
        assert read_space(file, root).model.network
