"""What a run keeps, read back."""

from __future__ import annotations

import json

import pytest
from examples import trial

from spquant_search.errors import UserError
from spquant_search.runs.finals import Repeat, read_finals, write_final, write_repeat
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.records import (
    read_facts,
    read_frozen_space,
    read_result,
    read_results,
    read_test_accuracies,
    require_run,
    write_result,
    write_test_accuracies,
)
from spquant_search.runs.results import Outcome


def test_what_is_no_run_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (read_frozen_space, read_results, read_facts, require_run):
        with pytest.raises(UserError) as caught:
            call(RunFolder(path=tmp_path / "gone"))
        assert str(caught.value) == (
            f"{tmp_path / 'gone'}: is no run (it holds no space.yaml). There are no runs in {tmp_path / 'runs'}: "
            "go to the folder that holds runs/, or give a run's path"
        )


def test_results_are_read_back_by_number(folder):
    results = (trial(0, origin="baseline"), trial(2), trial(10, outcome=Outcome.STOPPED), trial(9999), trial(10000))
    for result in reversed(results):
        write_result(folder, result)
    assert read_results(folder) == results
    assert read_result(folder, 2) == results[1]
    assert read_result(folder, 3) is None
    assert folder.result_file(2).name == "0002.json"
    assert folder.weights_file(2).name == "0002.safetensors"


def test_left_overs_of_a_killed_write_are_no_results(folder):
    write_result(folder, trial(1))
    (folder.path / "trials" / ".0002.json.x7_k").write_text("{")
    assert [result.number for result in read_results(folder)] == [1]


def test_test_accuracies_by_number(folder):
    write_test_accuracies(folder, {10: 0.5, 2: 0.25})
    assert read_test_accuracies(folder) == {2: 0.25, 10: 0.5}
    assert list(json.loads(folder.tests_file.read_text())) == ["2", "10"]


def test_members_of_any_number_are_found_and_their_seeds_are_no_members(folder):
    for number in (12, 10_001):
        write_final(folder, "3-epochs", trial(number))
        write_repeat(folder, "3-epochs", 0, Repeat(result=trial(number)))
    assert list(read_finals(folder, "3-epochs")) == [12, 10_001]
