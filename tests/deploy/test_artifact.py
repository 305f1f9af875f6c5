"""The folder that ``pick`` writes: whole or not at all, read back equal, refused where it is damaged."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from deploy.networks import needs_compiler
from examples import config, trial
from numpy.typing import NDArray
from safetensors.numpy import load_file, save
from torch import nn

from spquant_search.deploy import artifact as module
from spquant_search.deploy import export as export_module
from spquant_search.deploy.artifact import Artifact, read_artifact, write_artifact
from spquant_search.deploy.c_library import compiler
from spquant_search.deploy.c_source import CSource, c_source
from spquant_search.deploy.device_facts import DeviceFacts
from spquant_search.deploy.pytorch_run import PytorchOutputs, run_in_pytorch
from spquant_search.deploy.reference import Model
from spquant_search.deploy.vectors import Vectors
from spquant_search.deploy.verify import verify
from spquant_search.errors import UserError
from spquant_search.runs.files import write_bytes
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.results import Outcome, TrialResult
from spquant_search.space.reading import parse_space
from spquant_search.space.schema import SpaceFile
from spquant_search.space.shapes import InputShape
from spquant_search.training.network import new_network, write_weights

SPACE = """\
data: {name: fashion-events}
time_steps: 3
model: {network: vgg9, width: 0.02, quantizer: {2: ternary-mean, 4: mean}}
neuron: {leak: 0.25, lowest_level: {24: -2}, learn_threshold: true}
layers: {all: {weight_bits: [2, 4]}}
"""
FILES = [
    *("README.md", "main.c", "manifest.json", "model.c", "model.h", "reference.py", "test_vectors.npz"),
    *("weights.bin", "sample.h", "CMakeLists.txt", "library.properties", "src", "examples"),
]
MEMBER = trial(7, 0.75, 10, 12.5, of=config("848484242", "24 3 16 24 3 16 24 3", skip=-1.0, time_steps=3))
SHAPE = InputShape(channels=2, height=16, width=16, classes=10, largest=15)
FRAMES = np.random.default_rng(0).poisson(0.5, (2, 3, 2, 16, 16)).astype(np.uint8)


VECTORS, FACTS = Vectors(frames=FRAMES), DeviceFacts()


def a_space() -> SpaceFile:
    return parse_space(SPACE, source="s.yaml")


@pytest.fixture
def folder(tmp_path: Path, plain_neurons: None, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run with the weights of one trial; its C is not compiled, which takes most of the time."""
    monkeypatch.setattr(export_module, "compiler", lambda: None)
    made = RunFolder(path=tmp_path / "runs" / "tiny")
    made.weights_file(7).parent.mkdir(parents=True)
    write_weights(new_network(a_space(), SHAPE, seed=0, device=torch.device("cpu")), made.weights_file(7))
    return made


@pytest.fixture
def checked(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """The same run, whose C is compiled and run before it is written."""
    monkeypatch.setattr(export_module, "compiler", compiler)
    return folder


def write(folder: RunFolder, out: Path, member: TrialResult = MEMBER, test_accuracy: float | None = 0.7) -> Artifact:
    return write_artifact(
        folder, a_space(), member, out, test_accuracy=test_accuracy, shape=SHAPE, vectors=VECTORS, facts=FACTS
    )


def test_what_is_written_is_read_back(folder, tmp_path):
    out = tmp_path / "deep" / "picked"
    written = write(folder, out)
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "config.yaml", "weights.safetensors"])
    read = read_artifact(out)
    assert read == written
    assert read.config == MEMBER.config
    assert (read.run, read.trial, read.data.name, read.time_steps) == ("tiny", 7, "fashion-events", 3)
    assert (read.model, read.neuron) == (a_space().model, a_space().neuron)
    assert (read.accuracy, read.test_accuracy) == (0.75, 0.7)
    assert (read.memory_bytes, read.effective_macs) == (10240, 12.5e6)
    weights = folder.weights_file(7).read_bytes()
    assert read.weights_sha256 == hashlib.sha256(weights).hexdigest()
    assert (out / "weights.safetensors").read_bytes() == weights


def test_an_untested_member_has_no_test_accuracy(folder, tmp_path):
    write(folder, tmp_path / "picked", test_accuracy=None)
    assert read_artifact(tmp_path / "picked").test_accuracy is None


def test_the_configuration_is_plain_yaml(folder, tmp_path):
    write(folder, tmp_path / "picked")
    document = yaml.safe_load((tmp_path / "picked" / "config.yaml").read_text())
    assert document["layers"]["conv1"] == {
        "weight_bits": 8,
        "membrane_levels": 24,
        "channel_mass": 1.0,
        "skip_below": -1.0,
    }
    assert document["layers"]["readout"]["membrane_levels"] is None


def test_an_empty_folder_is_taken_and_a_used_one_is_not(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    write(folder, tmp_path / "empty")
    for used in (tmp_path / "empty", folder.weights_file(7)):
        with pytest.raises(UserError) as caught:
            write(folder, used)
        assert str(caught.value) == f"{used}: exists already; give --out a new folder"


def test_missing_weights(folder, tmp_path):
    folder.weights_file(7).unlink()
    with pytest.raises(UserError, match=r"0007\.safetensors: the weights of trial 7 are missing; run the search again"):
        write(folder, tmp_path / "picked")
    assert not (tmp_path / "picked").exists()


@pytest.mark.parametrize("step", ["write_bytes", "rename"])
def test_a_write_that_fails_leaves_nothing(folder, tmp_path, monkeypatch, step):
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    owner = {"write_bytes": module, "rename": os}[step]
    monkeypatch.setattr(owner, step, full)
    with pytest.raises(UserError) as caught:
        write(folder, tmp_path / "picked")
    out = tmp_path / "picked"
    assert str(caught.value) == f"{out}: cannot be written: No space left on device; give --out another folder"
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_place_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"cannot be written: .*; give --out another folder"):
        write(folder, tmp_path / "file" / "picked")


@pytest.mark.parametrize("name", ["config.yaml", "weights.safetensors"])
def test_a_missing_file(folder, tmp_path, name):
    write(folder, tmp_path / "picked")
    (tmp_path / "picked" / name).unlink()
    with pytest.raises(UserError) as caught:
        read_artifact(tmp_path / "picked")
    assert (
        str(caught.value)
        == f"{tmp_path / 'picked' / name}: is missing; write the folder again with spquant-search pick"
    )


@pytest.mark.parametrize(
    "content", [b"", b"a: [", b"- 1", b"run: x", b"\xff\xfe", b"!!python/object/apply:os.getcwd []"]
)
def test_a_damaged_configuration(folder, tmp_path, content):
    write(folder, tmp_path / "picked")
    (tmp_path / "picked" / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml: is not what pick writes \(.*\); write the folder again"):
        read_artifact(tmp_path / "picked")


def test_weights_of_another_trial(folder, tmp_path):
    write(folder, tmp_path / "picked")
    (tmp_path / "picked" / "weights.safetensors").write_bytes(b"other weights")
    with pytest.raises(UserError, match=r"weights\.safetensors: does not match the checksum in config\.yaml"):
        read_artifact(tmp_path / "picked")


def test_a_subnet_is_written_with_the_weights_of_the_supernet(folder, tmp_path):
    shared = load_file(folder.weights_file(7))
    subnet = {"conv1.norm.running_mean": np.array([0.5], np.float32)}
    write_bytes(folder.supernet_file, save(shared))
    write_bytes(folder.weights_file(7), save(subnet))
    member = replace(MEMBER, outcome=Outcome.SUBNET)
    written = write(folder, tmp_path / "picked", member, None)
    assert read_artifact(tmp_path / "picked") == written
    found = load_file(tmp_path / "picked" / "weights.safetensors")
    assert found.keys() == shared.keys()
    assert all(np.array_equal(value, (shared | subnet)[name]) for name, value in found.items())
    folder.supernet_file.unlink()
    with pytest.raises(
        UserError, match=r"supernet\.safetensors: the weights of trial 7 are missing; run the search again"
    ):
        write(folder, tmp_path / "again", member, None)


def changed_source(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Have the C library written with another text in one place."""

    def other(model: Model, weights: bytes, facts: DeviceFacts) -> CSource:
        written = c_source(model, weights, facts)
        assert old in written.source
        return replace(written, source=written.source.replace(old, new))

    monkeypatch.setattr(export_module, "c_source", other)


@needs_compiler
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "return best;",
            "return worst;",
            r"trial 7 is not written: its C library does not compile, which is a fault of this program: [^ ]+ failed: "
            r"(.|\n)*worst",
        ),
        (
            "(u > one)",
            "(u <= one)",
            r"trial 7 is not written: [\d,]+ spikes and logits of its C library are not those of numpy, which is a "
            r"fault of this program; first between numpy and C: conv\d, sample \d, time step \d, channel \d, row",
        ),
        (
            "sizeof logits);",
            "sizeof logits);\n    ++logits[0];",
            r"trial 7 is not written: .*; first between numpy and C: logits, sample 0",
        ),
    ],
)
def test_nothing_is_written_where_c_does_not_compute_the_test_vectors(
    checked: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, words: str
) -> None:
    changed_source(monkeypatch, old, new)
    with pytest.raises(UserError, match=words):
        write(checked, tmp_path / "picked")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize("what", ["spikes", "logits"])
def test_nothing_is_written_where_pytorch_computes_something_else(
    checked: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def other(network: nn.Module, frames: NDArray[np.uint8], form: dict[str, Any]) -> PytorchOutputs:
        seen = run_in_pytorch(network, frames, form)
        if what == "logits":
            return PytorchOutputs(seen.logits + np.eye(2, 10) * form["steps"][-1]["unit"], seen.spikes)
        return PytorchOutputs(seen.logits, seen.spikes | {"conv3": ~seen.spikes["conv3"]})

    monkeypatch.setattr(export_module, "run_in_pytorch", other)
    first = {"spikes": "conv3, sample 0, time step 0", "logits": "logits, sample 0, class 0"}[what]
    with pytest.raises(UserError, match=rf"is not written: .* not those of PyTorch, first between .*: {first}"):
        write(checked, tmp_path / "picked")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def notes_of(folder: RunFolder, out: Path) -> list[str]:
    notes: list[str] = []
    write_artifact(
        folder,
        a_space(),
        MEMBER,
        out,
        test_accuracy=None,
        shape=SHAPE,
        vectors=VECTORS,
        facts=FACTS,
        note=notes.append,
    )
    assert (out / "model.c").is_file()
    return notes


def test_what_is_not_checked_in_c_is_said(checked: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiler() is not None:
        assert notes_of(checked, tmp_path / "checked") == []
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\necho no headers >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    (note,) = notes_of(checked, tmp_path / "broken")
    reason = f"the C compiler does not work here: {broken} failed: no headers"
    assert note == f"the C library was not run on the test vectors: {reason}"
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    (note,) = notes_of(checked, tmp_path / "without")
    reason = "there is no C compiler here; install one, or name it in $CC"
    assert note == f"the C library was not run on the test vectors: {reason}"


def test_verify_says_that_a_compiler_does_not_work_and_finds_no_difference(
    checked: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write(checked, tmp_path / "picked")
    monkeypatch.setenv("CC", str(shutil.which("false")))
    found = verify(tmp_path / "picked", written, FRAMES, None, shape=SHAPE)
    assert found.holds
    assert found.mismatches == {"PyTorch": 0}
    assert re.match(r"C was not run: the C compiler does not work here: .*false failed: exit code 1", found.notes[0])
