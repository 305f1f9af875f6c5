"""The command `sensitivity`: an analysis made, shown again, refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from searches import SEARCH, TINY, program

from spquant_search.runs.folder import RunFolder
from spquant_search.runs.records import read_results, read_sensitivity


@pytest.fixture(scope="module")
def analysed(tmp_path_factory) -> tuple[Path, list[str], subprocess.CompletedProcess[str]]:
    place = tmp_path_factory.mktemp("sensitivity")
    words = ["sensitivity", *SEARCH[:2], *SEARCH[4:], "--set", "supernet.epochs=1"]
    words += ["--set", "supernet.statistics_samples=64"]
    done = program(place, *words)
    return place, words, done


def test_sensitivity_shows_what_every_lower_choice_costs(analysed):
    place, _, done = analysed
    assert done.returncode == 0, done.stderr
    folder = RunFolder(path=place / "runs" / "tiny")
    found = read_sensitivity(folder)
    assert [str(choice.address) for choice in found.choices][:3] == [
        "conv1.weight_bits",
        "conv1.membrane_levels",
        "conv2.weight_bits",
    ]
    assert len(found.choices) == 17  # two choices of bits in 9 layers, two of levels in 8
    assert all(0 < found.bytes_saved(choice) < found.memory_bytes for choice in found.choices)
    assert done.stdout.count("conv1") == 2  # a table of weights and one of membranes
    assert re.search(r"^ *budget KiB", done.stdout, re.M)
    assert (folder.path / "sensitivity.png").read_bytes()[:4] == b"\x89PNG"
    assert [result.origin for result in read_results(folder)] == ["baseline"]


def test_sensitivity_asked_again_only_shows(analysed):
    place, words, _ = analysed
    kept = (place / "runs" / "tiny" / "sensitivity.json").read_bytes()
    done = program(place, *words, "--json")
    assert json.loads(done.stdout) == json.loads(kept)
    assert "epoch" not in done.stderr


@pytest.mark.slow
def test_sensitivity_of_a_run_in_a_database_is_shown_and_not_made(analysed, tmp_path):
    place, words, _ = analysed
    shutil.copytree(place / "runs", tmp_path / "runs")
    folder = RunFolder(path=tmp_path / "runs" / "tiny")
    folder.shared_study_file.write_text('{"study": "tiny"}', encoding="utf-8")
    done = program(tmp_path, *words, "--json")
    assert json.loads(done.stdout) == json.loads(folder.sensitivity_file.read_text())
    other = program(tmp_path, *words, "--set", "supernet.epochs=2")
    assert other.returncode == 2
    assert "supernet.epochs: 1 in the run, 2 now" in other.stderr
    folder.sensitivity_file.unlink()
    missing = program(tmp_path, *words)
    assert missing.returncode == 2
    assert "search.budget_ladder" in missing.stderr


def test_sensitivity_of_a_space_without_choices_is_refused(tmp_path):
    words = ["sensitivity", "--space", str(TINY), "--set", "layers={all: {}}"]
    done = program(tmp_path, *words)
    assert done.returncode == 2
    assert "weight_bits: [2, 4, 8]" in done.stderr
    assert not (tmp_path / "runs").exists()
