"""Samples given in Python: the same frames as a function's, known by their content, found by any process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data.user_data import all_frames, expected
from torch.utils.data import TensorDataset

from spquant_search.data import loading
from spquant_search.data.description import describe
from spquant_search.data.frame_rules import frame_rules
from spquant_search.data.from_python.given import given_samples, given_time_steps, keep_samples
from spquant_search.errors import OptionError, UserError
from spquant_search.space.schema import DataSpace

GENERATOR = np.random.default_rng(0)
X, Y = GENERATOR.integers(20, 256, (30, 3, 9, 7), dtype=np.uint8), np.arange(30) % 3
FRAMES = GENERATOR.integers(0, 4, (30, 4, 2, 9, 7))


def keep(folder: Path, *given: Any, time_steps: int = 2) -> str:
    return keep_samples((*given, None, None)[: max(3, len(given))], time_steps=time_steps, seed=0, folder=folder)


def load(folder: Path, key: str, *, time_steps: int = 2) -> loading.DataSet:
    return loading.load(
        "python", time_steps=time_steps, options=DataSpace(name="python", samples=key), cache_dir=folder, is_made=True
    )


@pytest.mark.parametrize(
    "train",
    [
        (X, Y),
        (X.astype(np.float64), Y),
        (X / 255, list(Y)),
        (torch.from_numpy(X), torch.from_numpy(Y)),
        TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
        list(zip(X, Y.tolist(), strict=True)),
    ],
)
def test_images_in_every_form_are_the_same_samples(tmp_path: Path, train: Any) -> None:
    key = keep(tmp_path, train)
    assert key == keep(tmp_path, (X, Y)), "the key follows from the content, not from its form"
    loaded = load(tmp_path, key)
    assert all_frames(loaded) == expected(X, Y)
    assert (loaded.static, loaded.largest, len(loaded.classes)) == (True, 255, 3)
    assert loaded.description.startswith("images [3, 9, 7] given in Python (samples ")


@pytest.mark.parametrize("time_steps", [1, 2, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_frames_are_added_to_the_time_steps_of_the_search(tmp_path: Path, time_steps: int, kind: type) -> None:
    key = keep(tmp_path, (FRAMES.astype(kind), Y), time_steps=time_steps)
    added = FRAMES.reshape(30, time_steps, 4 // time_steps, 2, 9, 7).sum(axis=2)
    assert all_frames(load(tmp_path, key, time_steps=time_steps)) == expected(added, Y)


def test_any_change_gives_another_key(tmp_path: Path) -> None:
    other_x, other_y, names = X.copy(), Y.copy(), ["a", "b", "c"]
    other_x[17, 1, 4, 4] ^= 1
    other_y[[3, 4]] = other_y[[4, 3]]
    keys = [
        keep(tmp_path, (X, Y)),
        keep(tmp_path, (other_x, Y)),
        keep(tmp_path, (X, other_y)),
        keep(tmp_path, (X[:-1], Y[:-1])),
        keep(tmp_path, (X[:20], Y[:20]), None, (X[20:], Y[20:])),
        keep(tmp_path, (X[:20], Y[:20]), (X[20:25], Y[20:25]), (X[25:], Y[25:])),
        keep(tmp_path, (X, Y), None, None, names),
        keep(tmp_path, (FRAMES, Y), time_steps=2),
        keep(tmp_path, (FRAMES, Y), time_steps=4),
    ]
    assert len(set(keys)) == len(keys)


def test_arrays_that_were_read_are_not_read_again_and_the_users_stay_as_they_were(tmp_path: Path) -> None:
    before = X.copy()
    key = keep(tmp_path, (X, Y))
    times = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert keep(tmp_path, (X.copy(), Y.copy())) == key
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == times
    assert np.array_equal(X, before)
    assert not [file for file in times if file.name.startswith("python-samples")], "nothing half-made is kept"


def test_samples_that_the_cache_has_lost_are_told_with_the_remedy_and_come_back(tmp_path: Path) -> None:
    key = keep(tmp_path, (X, Y))
    for file in tmp_path.glob("given-samples-*"):
        file.unlink()
    with pytest.raises(UserError, match=rf"data\.samples: the samples {key}, which were given in Python, are not in "):
        load(tmp_path, key)
    assert keep(tmp_path, (X, Y)) == key
    assert all_frames(load(tmp_path, key)) == expected(X, Y)


def test_a_damaged_file_is_not_taken_for_the_samples(tmp_path: Path) -> None:
    key = keep(tmp_path, (X, Y))
    (file,) = tmp_path.glob("given-samples-*.npy")
    content = bytearray(file.read_bytes())
    content[-40] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="are not in the cache"):
        given_samples(key, tmp_path)


WRONG: list[tuple[tuple[Any, ...], str]] = [
    ((X,), "search(): train is an object of type ndarray, inputs without labels; give both: (inputs, labels)"),
    (((X, Y[:5]),), "search(): train has 30 inputs and 5 labels; give one for each"),
    (((X[:0], Y[:0]),), "search(): train is empty"),
    (((X, Y), None, (X[:0], Y[:0])), "search(): test is empty"),
    (((X, Y), (X[:3], Y[:3]), None), "test is None, and may be only where validation is, too"),
    (((X[:, 0, 0], Y),), "sample 0 of train has the shape [7]; images are [channel, height, width]"),
    (((X.transpose(0, 2, 3, 1), Y),), "sample 0 of train has the shape [9, 7, 3], which looks like [height, width, ch"),
    (((FRAMES[:, :3], Y),), "sample 0 of train has the shape [3, 2, 9, 7]: 3 time steps, where 2 or a multiple of it"),
    (((FRAMES - 1, Y),), "sample 0 of train has counts from -1"),
    (((FRAMES * 1.5, Y),), "sample 0 of train has a count of "),
    (((np.where(X > 250, np.nan, X / 255), Y),), "values that are no finite numbers (NaN or infinite)"),
    (((X.astype(np.int32) * 300, Y),), "bring them to 0 to 255"),
    (((X, Y + 1),), "gives the labels 1, 2, 3, none of them 0"),
    (((X, np.eye(3)[Y]),), "has a label of 3 numbers, one of them 1; give its place, label.argmax()"),
    (((X, Y * 0),), "gives the label 0 alone; two classes or more are needed"),
    (((X, Y), None, None, ["a", "b"]), "has the label 2, and there are 2 classes, 0 to 1"),
    (((X.astype(str), Y),), "holds no numbers but <U"),
]


@pytest.mark.parametrize(("given", "words"), WRONG, ids=[words[:40] for _, words in WRONG])
def test_what_cannot_be_taken_is_told_with_its_place(tmp_path: Path, given: tuple[Any, ...], words: str) -> None:
    with pytest.raises(UserError) as caught:
        keep(tmp_path, *given)
    assert words in str(caught.value)
    assert "return" not in str(caught.value), "nobody returned anything"
    assert not [file for file in tmp_path.glob("*") if not file.name.startswith(".")]


def test_time_steps_are_those_of_frames() -> None:
    assert given_time_steps((FRAMES, Y)) == 4
    assert given_time_steps(TensorDataset(torch.from_numpy(FRAMES), torch.from_numpy(Y))) == 4
    assert given_time_steps((X, Y)) is None
    assert given_time_steps("nothing of the kind") is None


def test_a_key_belongs_to_python_and_not_beside_a_function() -> None:
    for values in ({"name": "nmnist", "samples": "0" * 16}, {"name": "python", "samples": "0" * 16, "build": "a:b"}):
        with pytest.raises(OptionError, match=r"^samples: "):
            describe(values["name"], DataSpace(**values))


def test_what_is_said_of_their_time_speaks_of_no_function(tmp_path: Path) -> None:
    kept = keep(tmp_path, (FRAMES, Y), time_steps=4)
    loaded = load(tmp_path, kept, time_steps=4)
    given = DataSpace(name="python", samples=kept)
    rules = frame_rules(loaded, given, time_steps=2, made=4)
    assert rules.sentences[1].startswith("Time: one frame for each of 4 time steps; where there are a multiple of ")
    assert not any("function" in sentence for sentence in rules.sentences)
