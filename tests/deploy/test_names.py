"""Layers may be called anything: identifiers in C, comments, and whole networks that are picked and verified."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from deploy import named_networks
from deploy.named_networks import BUILDERS, UNSAFE, drawn_names
from deploy.networks import needs_compiler
from examples import trial
from hypothesis import example, given
from hypothesis import strategies as st
from long_forms import LONG

from spquant_search.deploy import c_library, export, verify
from spquant_search.deploy.artifact import read_artifact, write_artifact
from spquant_search.deploy.device_facts import DeviceFacts
from spquant_search.deploy.names import identifier, in_comment
from spquant_search.deploy.vectors import Vectors
from spquant_search.runs.folder import RunFolder
from spquant_search.snn.layers import searchable_layers
from spquant_search.snn.networks.catalog import build
from spquant_search.space.reading import parse_space
from spquant_search.space.schema import SpaceFile
from spquant_search.space.shapes import InputShape
from spquant_search.training.network import write_weights

NAMES = st.text(max_size=80) | st.sampled_from(UNSAFE)
DRAWS, MANY = 20, 100 if LONG else 45
SHAPE = InputShape(channels=2, height=8, width=9, classes=3, largest=15)
SPACE = """\
data: {{name: fashion-events}}
time_steps: 2
model: {{build: "deploy.named_networks:{builder}", network: named}}
layers: {{all: {{weight_bits: [2, 4]}}}}
"""


@given(st.lists(NAMES, max_size=12))
def test_identifiers_are_of_c_and_no_two_are_alike(names: list[str]) -> None:
    made = [identifier(number, name) for number, name in enumerate(names)]
    assert len({one.lower() for one in made}) == len(names)
    for one in made:
        assert re.fullmatch(r"step[0-9]+(_[0-9A-Za-z]+)*", one)
        assert len(f"{one}_gate_at_rest") <= 63, "C99 tells no more letters apart"


def test_what_can_be_read_of_a_name_is_kept() -> None:
    assert identifier(3, "features.0.conv") == "step3_features_0_conv"
    assert identifier(1, "Größe ½") == "step1_Groe_12"
    assert identifier(2, "*/ 中") == "step2"


@given(NAMES)
@example("*/ int x; /*")
@example("??/")
@example("\\")
def test_a_comment_holds_a_name_and_ends_after_it(name: str) -> None:
    shown = in_comment(name)
    assert shown.isascii()
    assert shown.isprintable()
    inner = shown.removesuffix("...")[1:-1]
    for never in ("*", "?", '"'):
        assert never not in inner
    if len(name) <= 120:
        assert inner.encode().decode("unicode_escape") == name, "nothing is lost"


@cache
def space_of(builder: str) -> SpaceFile:
    return parse_space(SPACE.format(builder=builder), source="s.yaml")


def pick_and_verify(builder: str, names: list[str], seed: int, tmp_path: Path) -> None:
    named_networks.NAMES[:] = names
    space = space_of(builder)
    network, frames, config = named_networks.a_named_network(build(space.model, SHAPE, source="s.yaml"), SHAPE, seed)
    assert {part for name in searchable_layers(network) for part in name.split(".")} <= set(names)
    folder = RunFolder(path=tmp_path / "run")
    folder.weights_file(7).parent.mkdir(parents=True)
    write_weights(network, folder.weights_file(7))
    member = trial(7, of=replace(config, time_steps=space.most_time_steps))
    out = tmp_path / "picked"
    facts, vectors = DeviceFacts(), Vectors(frames=frames[:2])
    write_artifact(folder, space, member, out, test_accuracy=None, shape=SHAPE, vectors=vectors, facts=facts)
    found = verify.verify(out, read_artifact(out), frames, None, shape=SHAPE, flags=export.QUICK)
    assert (found.holds, found.samples, found.mismatches) == (True, 64, {"PyTorch": 0, "C": 0})
    assert found.spikes > 10_000


@pytest.fixture
def few_compilations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile quickly, not for size, and what was picked and is verified only once: compiling is what takes long."""
    built: dict[tuple[object, ...], bytes] = {}

    def compile_once(arguments: Sequence[str]) -> None:
        files = [Path(argument) for argument in arguments if argument.endswith(".c")]
        inputs = [file.read_bytes() for file in (*files, files[0].with_name("model.h"))]
        key = (*inputs, *(argument for argument in arguments if "/" not in argument))
        target = Path(arguments[arguments.index("-o") + 1])
        if key not in built:
            compile_c(arguments)
            built[key] = target.read_bytes()
        target.write_bytes(built[key])

    compile_c = c_library._compile
    monkeypatch.setattr(c_library, "_compile", compile_once)
    monkeypatch.setattr(export, "QUICK", ("-O0",))
    monkeypatch.setattr(verify, "_sizes", lambda *_: [])


@needs_compiler
@pytest.mark.parametrize("builder", BUILDERS)
def test_networks_with_any_names_are_picked_and_verified(
    builder: str, tmp_path: Path, plain_neurons: None, few_compilations: None
) -> None:
    for draw in range(DRAWS):
        names = drawn_names(np.random.default_rng(draw), 8)
        (tmp_path / f"{draw}").mkdir()
        pick_and_verify(builder, names, draw, tmp_path / f"{draw}")


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("builder", BUILDERS)
def test_networks_with_many_more_names_are_picked_and_verified(
    builder: str, tmp_path: Path, plain_neurons: None, few_compilations: None
) -> None:
    for draw in range(DRAWS, MANY):
        names = drawn_names(np.random.default_rng(draw), 8)
        (tmp_path / f"{draw}").mkdir()
        pick_and_verify(builder, names, draw, tmp_path / f"{draw}")
