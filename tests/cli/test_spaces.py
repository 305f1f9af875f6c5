"""The command `spaces`, and --space with the name of a file that comes with the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from searches import TINY

from spquant_search.cli.completion import complete_space
from spquant_search.space.shipped import shipped_spaces


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_spaces_of_the_package_are_listed(command):
    answer = command("spaces")
    assert (answer.code, answer.err) == (0, "")
    assert [line.split()[0] for line in answer.out.splitlines()] == list(shipped_spaces())
    assert json.loads(command("spaces", "--json").out)["tiny"].startswith("A search of a minute or two")


@pytest.mark.parametrize("name", ["tiny", "tiny.yaml"])
def test_a_space_is_printed_to_be_copied(command, name):
    answer = command("spaces", name)
    assert (answer.code, answer.out, answer.err) == (0, TINY.read_text(), "")


def test_an_unknown_space_is_told_with_those_that_are_there(command):
    answer = command("spaces", "vgg8")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: vgg8: no such space file comes with the package. There are vgg9, ")
    assert answer.err.endswith(":\n  spquant-search spaces vgg9\n")


def test_a_space_is_found_by_its_name(command):
    by_path, by_name = (json.loads(command("cost", "--space", name, "--json").out) for name in (TINY, "tiny"))
    assert Path(by_name.pop("space")).samefile(by_path.pop("space"))
    for answer in (by_name, by_path):
        answer["search"] = answer["search"]["work"]  # what is free of disks and memory changes from second to second
    assert by_name == by_path


def test_a_file_of_that_name_comes_first(command, tmp_path):
    (tmp_path / "tiny").write_text("data: {name: fashion-events}\nmodel: {network: vgg-10}\n")
    assert command("cost", "--space", "tiny").err.startswith("error: tiny: time_steps: is missing; ")


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        (("tiny",), "--space tiny"),
        (("cost", "--space", "tinny"), "cost --space tiny"),
        (("cost", "--space", "spaces/tiny.yaml"), "cost --space tiny"),
    ],
)
def test_a_name_is_proposed(command, words, suggested):
    answer = command(*words)
    assert answer.code == 2
    assert answer.err.splitlines()[-1] == f"  spquant-search {suggested}"
    assert ".." not in answer.err


def test_names_are_completed(tmp_path):
    (tmp_path / "tidy.yaml").touch()
    assert complete_space("ti") == ["tidy.yaml", "tiny"]
