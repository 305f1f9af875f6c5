"""Networks of fewer time steps than their search: all three implementations see and compute what the search did."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from deploy.networks import Choices, drawn_config, lively, needs_compiler
from examples import trial
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spquant_search.deploy import export as export_module
from spquant_search.deploy import verify as verify_module
from spquant_search.deploy.artifact import Artifact, read_artifact, write_artifact
from spquant_search.deploy.device_facts import device_facts
from spquant_search.deploy.reference import check_vectors
from spquant_search.deploy.vectors import Vectors, at_time_steps, made_up_vectors
from spquant_search.deploy.verify import verify
from spquant_search.deploy.weights_file import read_manifest
from spquant_search.runs.folder import RunFolder
from spquant_search.snn.spikes import spikes_from_frames
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.reading import parse_space
from spquant_search.space.schema import SpaceFile
from spquant_search.space.shapes import InputShape
from spquant_search.training.network import configured_network, new_network, write_weights

MOST = 4
SPACE = """\
data: {data}
time_steps: [1, 2, 4]
model: {{network: vgg5, width: 0.06}}
neuron: {{learn_threshold: true}}
layers: {{all: {{weight_bits: [2, 4]}}}}
"""
EVENTS = "{name: event-folder, sensor: [16, 17], classes: 5}"
IMAGES = "{name: image-folder, size: [16, 17], classes: 5}"


def test_sums_by_hand() -> None:
    frames = np.array([[[1], [2], [250], [9]], [[0], [0], [3], [4]]], np.uint8)[..., None, None]
    by_steps = {steps: at_time_steps(frames, steps)[..., 0, 0, 0].tolist() for steps in (1, 2, 4)}
    assert by_steps == {1: [[255], [7]], 2: [[3, 255], [0, 7]], 4: [[1, 2, 250, 9], [0, 0, 3, 4]]}
    assert at_time_steps(frames, 2).dtype == np.uint8
    still = frames[:, :1]
    assert at_time_steps(still, 2) is still


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([(4, 1), (4, 2), (4, 4), (6, 3), (6, 2), (1, 1), (1, 4)]), st.integers(1, 255), st.data())
def test_a_device_is_shown_what_the_search_was(steps: tuple[int, int], largest: int, data: st.DataObject) -> None:
    """The search adds and clamps what it keeps; a device makes the sums, which end at 255, and clamps them."""
    made, shown = steps
    values = data.draw(st.lists(st.integers(0, 255), min_size=2 * made, max_size=2 * made))
    frames = np.array(values, np.uint8).reshape(2, made, 1, 1, 1)
    searched, device = (
        spikes_from_frames(torch.from_numpy(of), largest=largest, dtype=torch.float32, time_steps=shown)
        for of in (frames, at_time_steps(frames, shown))
    )
    assert torch.equal(searched.repeated().values, device.repeated().values)


@pytest.mark.parametrize(("frames", "steps", "expected"), [(4, 2, 2), (4, 1, 1), (1, 2, 1), (4, 4, 4)])
def test_made_up_vectors_have_the_steps_of_the_network(frames: int, steps: int, expected: int) -> None:
    shape = InputShape(channels=2, height=5, width=6, classes=3, largest=15)
    made = made_up_vectors(shape, frames=frames, time_steps=steps).frames
    assert made.shape[:2] == (8, expected)
    if frames == 4:
        assert abs(made.mean() - 0.5 * frames / expected) < 0.1


def a_space(data: str) -> SpaceFile:
    return parse_space(SPACE.format(data=data), source="s.yaml")


def shape_of(space: SpaceFile) -> InputShape:
    still = space.data.name == "image-folder"
    return InputShape(channels=3 if still else 2, height=16, width=17, classes=5, largest=255 if still else 15)


@dataclass(frozen=True, kw_only=True)
class Member:
    """A trained network of a space at its number of time steps, and the frames of the whole space's search."""

    space: SpaceFile
    config: NetworkConfig
    run: RunFolder
    frames: NDArray[np.uint8]

    def pick(self, out: Path) -> Artifact:
        steps = self.config.time_steps
        return write_artifact(
            self.run,
            self.space,
            trial(7, of=self.config),
            out,
            test_accuracy=None,
            shape=shape_of(self.space),
            vectors=Vectors(frames=at_time_steps(self.frames[:2], steps)),
            facts=device_facts(self.space, "abcde", time_steps=steps),
        )


def a_member(data: str, steps: int, folder: Path) -> Member:
    """Frames of events hold counts far above the largest that is shown, which sums reach from below, too."""
    space, generator = a_space(data), np.random.default_rng(steps)
    shape, still = shape_of(space), data == IMAGES
    size = (70, 1 if still else MOST, shape.channels, 16, 17)
    frames = (generator.integers(0, 256, size) if still else generator.negative_binomial(0.4, 0.08, size)).clip(max=255)
    frames = frames.astype(np.uint8)
    torch.manual_seed(steps)
    network = new_network(space, shape, seed=0, device=torch.device("cpu"))
    drawn = replace(drawn_config(network, generator, Choices()), time_steps=steps)
    if steps == 1:  # as the search has it: there is nothing to store
        layers = tuple((name, replace(layer, membrane_levels=None, skip_below=None)) for name, layer in drawn.layers)
        drawn = replace(drawn, layers=layers)
    network = configured_network(space, shape, drawn, weights=(), device=torch.device("cpu"))
    lively(network, np.repeat(frames[:4], steps, axis=1) if still else at_time_steps(frames[:4], steps), shape.largest)
    run = RunFolder(path=folder / "run")
    run.weights_file(7).parent.mkdir(parents=True)
    write_weights(network, run.weights_file(7))
    return Member(space=space, config=drawn, run=run, frames=frames)


@needs_compiler
@pytest.mark.parametrize(
    ("data", "steps"), [(EVENTS, 1), (EVENTS, 2), (EVENTS, 4), (IMAGES, 2)], ids=("1", "2", "4", "still")
)
def test_all_three_agree_on_frames_of_the_search(
    data: str, steps: int, tmp_path: Path, plain_neurons: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch sums the search's frames as training does; numpy and C are shown those that a device makes."""
    monkeypatch.setattr(export_module, "compiler", lambda: None)  # the same C is compiled below
    monkeypatch.setattr(verify_module, "_sizes", lambda *_: [])
    member = a_member(data, steps, tmp_path)
    out = tmp_path / "picked"
    written = member.pick(out)
    assert read_artifact(out) == written
    assert (written.time_steps, written.space().most_time_steps) == (steps, MOST)
    labels = np.zeros(len(member.frames), np.int64)
    found = verify(out, written, member.frames, labels, shape=shape_of(member.space), flags=("-O1",))
    assert (found.samples, found.mismatches, found.holds) == (70, {"PyTorch": 0, "C": 0}, True)
    assert found.spikes > 10_000
    assert found.correct is not None
    assert len(set(found.correct.values())) == 1
    assert check_vectors(out)[1] == 0
    with np.load(out / "test_vectors.npz") as vectors:
        assert vectors["frames"].shape[1] == (1 if data == IMAGES else steps)
        assert any(vectors[name].any() for name in vectors.files if name.startswith("spikes."))
    assert_said(out, steps, still=data == IMAGES)


def assert_said(out: Path, steps: int, *, still: bool) -> None:
    """Look for the time steps, and what a step sums, in all that a device's programmer reads."""
    manifest, header, page = read_manifest(out), (out / "model.h").read_text(), (out / "README.md").read_text()
    summed = 1 if still else MOST // steps
    frames = manifest["frames"]
    assert manifest["network"]["time_steps"] == frames["time_steps"] == steps
    assert (frames["search_time_steps"], frames["search_frames_per_step"]) == (MOST, summed)
    words = {
        (1, False): "the sum of the 4 frames that the search made",
        (2, False): "each the sum of 2 neighbouring frames of the 4 that the search made",
        (2, True): "of up to 4 in the search",
    }.get((steps, still))
    assert f"#define SPQ_TIME_STEPS {steps}{'' if words is None else f' /* {words} */'}\n" in header
    assert f"#define SPQ_FRAMES {1 if still else steps} " in header
    assert f"| time steps | {steps}{'' if words is None else f', {words}'} |" in page
    stores = [step["neuron"]["levels"] is not None for step in manifest["network"]["steps"] if "neuron" in step]
    assert f"\ntime_steps: {steps}\nmost_time_steps: {MOST}\n" in (out / "config.yaml").read_text()
    assert stores == [steps > 1] * len(stores)
    assert ("_membrane[" in (out / "model.c").read_text()) == (steps > 1)
    assert ("| membranes, packed | 0 bytes |" in page) == (steps == 1)


@needs_compiler
def test_a_difference_of_the_sums_is_found(
    tmp_path: Path, plain_neurons: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a device summed other frames than the search, verify would say so."""
    monkeypatch.setattr(export_module, "compiler", lambda: None)
    monkeypatch.setattr(verify_module, "_sizes", lambda *_: [])
    member = a_member(EVENTS, 2, tmp_path)
    written = member.pick(tmp_path / "picked")
    monkeypatch.setattr(verify_module, "at_time_steps", lambda frames, steps: np.ascontiguousarray(frames[:, ::2]))
    found = verify(tmp_path / "picked", written, member.frames[:8], None, shape=shape_of(member.space), flags=("-O0",))
    assert found.mismatches["PyTorch"] > 0
    assert found.mismatches["C"] == 0
