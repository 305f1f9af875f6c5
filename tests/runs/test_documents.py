"""Documents: read back as they were written, and damage told by its place."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from examples import trial

from spquant_search.errors import UserError
from spquant_search.runs.documents import read_document, write_document
from spquant_search.runs.records import (
    read_result,
    read_results,
    write_result,
)
from spquant_search.runs.results import LayerActivity, TrialResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    books: tuple[str, ...]
    metres: float


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    path = tmp_path / "shelf.json"
    write_document(path, Shelf(books=("a", "b"), metres=1.5))
    return path


def test_a_document_has_a_line_for_each_field(shelf):
    assert shelf.read_text() == '{\n "books": [\n  "a",\n  "b"\n ],\n "metres": 1.5\n}\n'
    assert read_document(shelf, Shelf) == Shelf(books=("a", "b"), metres=1.5)


def test_a_loss_that_is_no_number_stays_one(tmp_path):
    path = tmp_path / "0001.json"
    result = trial(1, epochs=1)
    diverged = replace(result, epochs=(replace(result.epochs[0], loss=math.nan),))
    write_document(path, diverged)
    assert '"loss": NaN' in path.read_text()
    assert math.isnan(read_document(path, TrialResult).epochs[0].loss)


@pytest.mark.parametrize(
    ("old", "new", "key", "sentence"),
    [
        ('"metres": 1.5\n}', "", "", "is no JSON: "),
        ('"metres"', '"meters"', "metres", "is missing"),
        ("1.5", '"1.5"', "metres", "must be a valid number; got '1.5'"),
        ('"a"', "7", "books.0", "must be a valid string; got 7"),
    ],
)
def test_damage_is_told_by_file_place_and_rule(shelf, old, new, key, sentence):
    shelf.write_text(shelf.read_text().replace(old, new))
    with pytest.raises(UserError) as caught:
        read_document(shelf, Shelf)
    first, *_, last = str(caught.value).splitlines()
    assert first.startswith(f"{shelf}: {f'{key}: ' if key else ''}{sentence}")
    assert last == f"{shelf}: is damaged; restore it from a copy"


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('"COMPLETE"', '"FINISHED"', "outcome"),
        ('"tpe"', '"guess"', "origin"),
        ('"weight_bits": 8', '"weight_bits": "8"', "config.layers.conv1.weight_bits"),
        ('"open_share": 1.0', '"open_share": null', "layers.conv1.open_share"),
        ('"density": 0.125', '"dense": 0.125', "epochs.0.density"),
    ],
)
def test_a_damaged_trial_is_told_by_its_layer_and_epoch(folder, old, new, place):
    activity = LayerActivity(effective_macs=1.0, synaptic_ops=1.0, density=0.5, open_share=1.0)
    write_result(folder, trial(3, layers=(("conv1", activity),)))
    file = folder.result_file(3)
    assert read_result(folder, 3) == trial(3, layers=(("conv1", activity),))
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        read_results(folder)
    assert str(caught.value).startswith(f"{file}: {place}: ")
