"""Weights that a search is given to begin from: read safely, checked against the network, taken as they are."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file

from spquant_search.errors import SpaceError, UserError
from spquant_search.runs.folder import RunFolder, given_weights_file
from spquant_search.runs.opening import open_run, require_same_weights
from spquant_search.runs.records import RunFacts
from spquant_search.space.reading import read_space
from spquant_search.space.shapes import InputShape
from spquant_search.training.given_weights import fitted, given_weights
from spquant_search.training.network import new_network

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"
SHAPE = InputShape(channels=2, height=34, width=34, classes=10, largest=15)
FILE = read_space(TINY, ("model.width=0.03125",))


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return new_network(FILE, SHAPE, seed=7, device=torch.device("cpu")).state_dict()


def named(path: Path) -> Any:
    return replace(FILE, model=replace(FILE.model, weights=str(path)))


def same(content: bytes | None, state: dict[str, torch.Tensor]) -> bool:
    assert content is not None
    found = load(content)
    return found.keys() == state.keys() and all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_both_kinds_of_files_give_the_same_bytes(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pt")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    expected = fitted(state, FILE, SHAPE)
    assert same(expected, state)
    for name in ("w.safetensors", "w.pt", "old.pth"):
        assert given_weights(named(tmp_path / name), SHAPE, source="x") == expected
    assert given_weights(FILE, SHAPE, source="x") is None


def test_half_precision_becomes_fp32_and_the_users_tensors_stay(state: dict[str, torch.Tensor]) -> None:
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    before = {name: tensor.clone() for name, tensor in half.items()}
    found = load(fitted(half, FILE, SHAPE))
    assert {tensor.dtype for tensor in found.values()} == {tensor.dtype for tensor in state.values()}
    assert all(torch.equal(found[name], half[name].to(found[name].dtype)) for name in half)
    assert all(torch.equal(before[name], half[name]) for name in half)


def without(state: dict[str, torch.Tensor], *names: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if name not in names}


def test_what_does_not_fit_is_named(state: dict[str, torch.Tensor]) -> None:
    name = next(key for key in state if key.endswith("weight"))
    broken = state[name].clone()
    broken[(0,) * broken.dim()] = float("nan")
    wrong: list[tuple[Any, str]] = [
        (without(state, name), f"lacks {name}; save network.state_dict()"),
        ({**state, "extra": torch.ones(1)}, "holds extra, which the network does not have"),
        ({f"module.{key}": value for key, value in state.items()}, "DataParallel"),
        ({**state, name: state[name][:1]}, f"holds tensors of other shapes: {name} is [1, "),
        ({**state, name: broken}, f"{name}: holds numbers that are not finite"),
        ({"epoch": 3, "state_dict": state}, "perhaps the state_dict is what lies in 'state_dict': save that alone"),
        ({}, "holds nothing beside tensors"),
        ([1, 2], "holds an object of type list, not tensors by name"),
    ]
    for content, words in wrong:
        with pytest.raises(UserError) as caught:
            fitted(content, FILE, SHAPE)
        assert words in str(caught.value)


class Runs:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_files_that_hold_no_weights_run_nothing(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(Runs(tmp_path / "ran"), tmp_path / "evil.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    (tmp_path / "text.pt").write_text("weights")
    (tmp_path / "empty.pt").write_bytes(b"")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "whole")
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "whole").read_bytes()[:3000])
    for name in ("evil.pt", "plain.pkl", "text.pt", "empty.pt", "half.safetensors", "absent.pt", "."):
        with pytest.raises(SpaceError) as caught:
            given_weights(named(tmp_path / name), SHAPE, source="my.yaml")
        assert str(caught.value).startswith(f"my.yaml: model.weights: {tmp_path / name}")
    assert not (tmp_path / "ran").exists()


def test_no_epochs_need_weights() -> None:
    with pytest.raises(SpaceError, match=r"train\.baseline_epochs: takes the given weights as they are, and there are"):
        read_space(TINY, ("train.baseline_epochs=0",))
    assert read_space(TINY, ("train.baseline_epochs=0", "model.weights=w.pt")).train.baseline_epochs == 0


def test_a_run_keeps_the_weights_and_goes_on_with_no_others(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path / "run")
    facts = RunFacts(source="", command="", data="", classes=("a", "b"), validation_samples=1, test_samples=1)
    open_run(folder, FILE, facts, weights=b"some")
    assert given_weights_file(folder).read_bytes() == b"some"
    open_run(folder, named(tmp_path / "elsewhere"), facts, weights=b"some")
    for others in (b"other", None):
        with pytest.raises(UserError, match="this run began from other weights"):
            require_same_weights(folder, others)
    bare = RunFolder(path=tmp_path / "bare")
    open_run(bare, FILE, facts)
    assert not given_weights_file(bare).exists()
    with pytest.raises(UserError, match="this run began from other weights"):
        open_run(bare, FILE, facts, weights=b"some")
