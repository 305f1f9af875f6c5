"""A library on emulated processors: that it computes what numpy does, and that what is measured is what it takes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deploy.agreement import exported
from deploy.emulated import (
    CLASSES,
    LAYERS,
    M4,
    STEPS,
    Small,
    emulated,
    library,
    needs_emulator,
    small_network,
    with_library,
)
from deploy.networks import TIME, a_network, loaded, mixed, written
from numpy.typing import NDArray

from spquant_search.deploy.c_names import CNames
from spquant_search.deploy.c_source import c_source
from spquant_search.deploy.comparison import compare
from spquant_search.deploy.emulator import emulate as module
from spquant_search.deploy.emulator.building import build
from spquant_search.deploy.emulator.targets import TARGETS
from spquant_search.deploy.emulator.tools import find_tools
from spquant_search.deploy.export import Export
from spquant_search.deploy.reference import Model
from spquant_search.deploy.weights_file import WEIGHTS_FILE
from spquant_search.errors import UserError


@needs_emulator
def test_all_that_numpy_gives_is_compared_and_equal(small: Small, tmp_path: Path) -> None:
    made, frames = small
    shown: list[tuple[int, int]] = []
    folder = written(made, tmp_path / "deployed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH", 3)  # of four samples: a whole portion and a part of one
        labels = loaded(made).run(frames).predictions.copy()
        labels[3] = CLASSES - 1 - labels[3]
        tools = find_tools(M4)
        found = module.emulate(folder, M4, frames, labels, tools=tools, progress=lambda *how: shown.append(how))
    assert found.holds
    assert found.failure is None
    assert found.compared == {"checksums": 4 * STEPS * LAYERS, "logits": 2 * 4 * CLASSES, "classes": 2 * 4}
    assert (found.samples, len(found.instructions), found.accuracy) == (4, 4, 0.75)
    assert shown == sorted(shown)
    assert shown[-1] == (8, 8)
    names = [step["name"] for step in loaded(made).steps if "neuron" in step]
    assert list(found.layers) == names
    traced = sum(found.layers.values()) + found.rest
    assert found.mean_instructions == pytest.approx(traced, rel=0.1)


@needs_emulator
def test_a_sample_of_one_frame_is_shown_it_in_every_step(small: Small, tmp_path: Path) -> None:
    made, frames = small
    found = emulated(written(made, tmp_path / "deployed"), frames[:, :1])
    assert found.holds, (found.failure, found.first)
    assert found.compared["checksums"] == 4 * STEPS * LAYERS


@needs_emulator
def test_a_library_with_a_prefix_is_emulated(tmp_path: Path, plain_neurons: None) -> None:
    made, frames = small_network("wake")
    found = emulated(written(made, tmp_path / "deployed"), frames)
    assert found.holds, (found.failure, found.first)


@pytest.mark.slow
@needs_emulator
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["vgg9", "resnet19", "spikformer4-256", "mixed"])
def test_every_target_computes_what_numpy_does(name: str, target: str, tmp_path: Path, plain_neurons: None) -> None:
    if name == "mixed":
        network, shape, frames = mixed(7)
    else:
        network, shape, frames = a_network(name, seed=6, size=16 if name == "vgg9" else 8, width=1 / 32)
    found = emulated(written(exported(network, shape, frames), tmp_path / "deployed"), frames, TARGETS[target])
    assert found.holds, (found.failure, found.first)
    assert found.compared["checksums"] == len(frames) * TIME * len(found.layer_names)


# ---------------------------------------------------------------- differences


@needs_emulator
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 9))])
def test_a_changed_weight_is_found_where_numpy_finds_it(seed: int, small: Small, tmp_path: Path) -> None:
    """C of other weights differs from numpy with the right ones where numpy with the other ones does."""
    made, frames = small
    other, weights = with_a_changed_weight(made, np.random.default_rng(seed), frames)
    source = c_source(other, weights).source
    found = emulated(with_library(made, tmp_path / "deployed", source), frames)
    assert not found.holds
    assert found.failure is None
    assert found.first is not None
    expected, given = loaded(made).run(frames), other.run(frames)
    assert found.mismatches["logits"] == 2 * int((expected.logits != given.logits).sum())
    assert found.mismatches["classes"] == 2 * int((expected.predictions != given.predictions).sum())
    wrong = np.stack([(fired != given.spikes[name]).any(axis=(2, 3, 4)) for name, fired in expected.spikes.items()])
    assert found.mismatches["checksums"] == int(wrong.sum())
    if not wrong.any():
        assert found.first.layer == "logits"
        return
    sample, t, layer = np.argwhere(wrong.transpose(1, 2, 0))[0]
    assert (found.first.sample, found.first.layer) == (sample, list(expected.spikes)[layer])
    assert found.first.where == f"time step {t}"


def with_a_changed_weight(
    made: Export, generator: np.random.Generator, frames: NDArray[np.uint8]
) -> tuple[Model, bytes]:
    """Return the network, and its weights, with one that is another and changes what these samples give."""
    expected = loaded(made).run(frames)
    segments = [segment for segment in made.manifest["segments"] if segment["role"] == "weights"]
    while True:
        segment = segments[generator.integers(len(segments))]
        changed = bytearray(made.files[WEIGHTS_FILE])
        changed[segment["offset"] + generator.integers(segment["bytes"])] ^= 1
        other = Model.of(made.manifest, bytes(changed))
        given = other.run(frames)
        if compare("", expected, given.spikes, given.logits).wrong:
            return other, bytes(changed)


# ---------------------------------------------------------------- what is measured


TURNS = 2000
LOOP = '{ uint32_t n = @TURNS@; __asm__ volatile(".syntax unified\\n1: subs %0, #1\\n bne 1b" : "+l"(n) : : "cc"); }'


def loop(turns: int) -> str:
    """Return a loop of two instructions a turn."""
    return LOOP.replace("@TURNS@", str(turns))


@needs_emulator
@pytest.mark.parametrize("name", TARGETS)
def test_instructions_of_loops_of_known_length(name: str, small: Small, tmp_path: Path) -> None:
    """The reset, the steps and the choice of the class are counted, and a layer's own from the one before."""
    made, frames = small
    trace = f"{loop(5 * TURNS)} spq_trace(0, spikes, 1); {loop(7 * TURNS)} spq_trace(1, spikes, 1); {loop(3 * TURNS)}"
    source = library(
        reset=loop(TURNS), step=loop(10 * TURNS), trace=trace, **{"class": f"{loop(20 * TURNS)} return 0;"}
    )
    found = emulated(with_library(made, tmp_path / "deployed", source), frames[:2], TARGETS[name])
    assert found.failure is None
    tick = found.target.timer.instructions_per_tick
    off = STEPS * (60 + 2 * tick)  # calls, and less than a tick at either end of each part
    assert found.instructions == pytest.approx([2 * TURNS * (1 + 20 + 10 * STEPS)] * 2, abs=off)
    traced = [*found.layers.values(), found.rest]
    assert traced == pytest.approx([2 * TURNS * STEPS * turns for turns in (10 + 5, 7, 3)], abs=off)


@needs_emulator
@pytest.mark.parametrize("size", [400, 3000])
def test_the_stack_is_measured_at_its_deepest(size: int, small: Small, tmp_path: Path) -> None:
    made, frames = small
    deep = (
        "static __attribute__((noinline)) void deep(const uint8_t *frame)"
        f"{{ volatile uint8_t own[{size}]; uint32_t i; if (frame[0] == 255) return;"
        f" for (i = 0; i < {size}; ++i) own[i] = 1; }}"
    )
    source = library(helpers=deep, step="deep(frame);")
    found = emulated(with_library(made, tmp_path / "deployed", source), frames)
    assert found.failure is None
    assert size <= found.stack <= size + 64


@needs_emulator
def test_flash_and_ram_are_those_of_the_library(small: Small, tmp_path: Path) -> None:
    made, frames = small
    sizes = []
    for number, (flash, ram) in enumerate([(0, 0), (4000, 0), (0, 8000)]):
        helpers = f"const uint8_t more_flash[{flash + 4}] = {{1}}; uint8_t more_ram[{ram + 4}];"
        found = emulated(with_library(made, tmp_path / str(number), library(helpers=helpers)), frames[:1])
        assert found.failure is None
        sizes.append((found.flash, found.ram))
    (flash, ram), *more = sizes
    assert more == [(flash + 4000, ram), (flash, ram + 8000)]


@needs_emulator
def test_a_program_that_does_not_fit_is_told_what_it_needs_to_the_byte(small: Small, tmp_path: Path) -> None:
    made, frames = small
    folder = with_library(made, tmp_path / "deployed", library())
    tight = replace(M4, flash=replace(M4.flash, bytes=1024), ram=replace(M4.ram, bytes=2048))
    with pytest.raises(UserError) as caught:
        emulated(folder, frames, tight)
    words = str(caught.value)
    assert words.startswith("--emulate cortex-m4: the program does not fit: it needs ")
    flash, ram = (
        int(re.search(rf"([\d,]+) bytes of {name}, and it has", words)[1].replace(",", ""))  # type: ignore[index]
        for name in ("flash", "RAM")
    )

    def fits(flash: int, ram: int) -> bool:
        target = replace(M4, flash=replace(M4.flash, bytes=flash), ram=replace(M4.ram, bytes=ram))
        try:
            build(folder, CNames(), target, find_tools(target), work=tmp_path / f"{flash}-{ram}")
        except UserError:
            return False
        return True

    assert [fits(flash, ram), fits(flash - 1, ram), fits(flash, ram - 1)] == [True, False, False]
