"""What trainers do on a GPU, without one: nothing is mixed, and no more is asked for than written down.

figures.txt holds what the scenarios of a space may ask for: launches and MiB at most, waits exactly, so that one that
is gone is written down as well. A scenario that is not in it must run. What is asked for now, in the same form and with
the place of every wait, is printed by

    PYTHONPATH=.:tests .venv/bin/python -m fake_gpu SPACE --waits
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from fake_gpu.figures import MIB, read, violations
from fake_gpu.loading import build
from fake_gpu.measuring import FoundByScenario, Run, measured, why_not
from fake_gpu.mutants import MUTANTS
from fake_gpu.own_network import NAMES
from fake_gpu.spaces import FORMS, OWN, STILLS, prepared_space
from long_forms import LONG

from spquant_search.space.shipped import shipped_spaces
from spquant_search.training.device_memory import (
    CONTEXT_BYTES,
    batch_sizes,
    evaluated_bytes,
    step_bytes,
    trainer_bytes,
)

WRITTEN_DOWN = read(Path(__file__).with_name("figures.txt").read_text(encoding="utf-8"))

needs_compiler = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

Measure = Callable[[Sequence[Run]], list[FoundByScenario]]


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> Measure:
    library = tmp_path_factory.mktemp("fake_gpu") / "fake_cuda.so"
    build(library)
    return lambda runs: measured(runs, library)


def check(measure: Measure, *runs: Run) -> None:
    """Check that runs ask for what is written down."""
    said = {
        f"{run.space} on {run.device}": violations(run.space, found, WRITTEN_DOWN)
        for run, found in zip(runs, measure(runs), strict=True)
    }
    assert {name: sentences for name, sentences in said.items() if sentences} == {}


# Augmented batches from host memory, several configurations, all counts; the rest runs with the slow tests.
AT_ONCE = ("float step", "supernet step", "evaluated batch")


@needs_compiler
def test_trainers_ask_for_what_is_written_down(measure: Measure) -> None:
    check(
        measure,
        Run(space=OWN, scenarios=AT_ONCE, device="cuda:1"),
        Run(space="vgg9", scenarios=("bf16 step",)),
        Run(space=FORMS, scenarios=("evaluated batch",)),
    )


ALL_SPACES = (OWN, FORMS, STILLS, *shipped_spaces())
# All scenarios of all spaces take ten minutes of a core.
ALL_OF_THEM = (OWN, "vgg9") if LONG else (OWN,)
FEW_SCENARIOS = ("bf16 step", "supernet step", "evaluated batch")
OF_EVERY_SPACE = () if LONG else FEW_SCENARIOS
# Of the shipped ones, one of each network.
NETWORKS = ("vgg9", "vgg5-images", "resnet19-cifar10", "resnet34-imagenet100", "spikformer4-256-cifar10")
SOME_SPACES = (OWN, FORMS, STILLS, *NETWORKS, "mobilenet-cifar10dvs")


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("space", ALL_SPACES if LONG else SOME_SPACES)
def test_a_space(measure: Measure, space: str) -> None:
    check(measure, Run(space=space, scenarios=() if space in ALL_OF_THEM else OF_EVERY_SPACE))


@needs_compiler
@pytest.mark.slow
def test_the_second_gpu(measure: Measure) -> None:
    scenarios = ("float step", "supernet step", "subnet")
    check(measure, *(Run(space=space, device="cuda:1", scenarios=scenarios) for space in ("vgg9", FORMS, STILLS)))


# ---------------------------------------------------------------- memory, from shapes


def test_every_space_is_written_down() -> None:
    assert {space for space, _ in WRITTEN_DOWN} == set(ALL_SPACES)


@pytest.mark.parametrize("space", ALL_SPACES)
def test_memory_is_known_from_shapes(space: str) -> None:
    prepared = prepared_space(space)
    peaks = {scenario: one.mib * MIB for (of, scenario), one in WRITTEN_DOWN.items() if of == space}
    step, evaluation = peaks["bf16 step"], peaks["evaluated batch"]
    assert evaluation <= 2 * step
    # In networks of few layers, what one of them works in weighs more.
    most = 1.8 if space in NAMES else 1.5
    assert step / most <= step_bytes(prepared) <= most * step
    together = batch_sizes(prepared, on_gpu=True).evaluation
    # Of small networks, what is as large whatever the batch is weighs more.
    assert evaluation / 1.25 <= together * evaluated_bytes(prepared) <= 2.5 * evaluation
    peaks.pop("fp32 step", None)  # which the space does not ask for
    taken = CONTEXT_BYTES + max(peaks.values())
    assert taken / 1.25 <= trainer_bytes(prepared, split_bytes=0) <= 2 * taken


# ---------------------------------------------------------------- does it notice?


def check_noticed(measure: Measure, names: Sequence[str]) -> None:
    """Check that each of the mutants is noticed, and for what it does."""
    mutants = [MUTANTS[name] for name in names]
    runs = [Run(space=one.space, device=one.device, scenarios=(one.scenario,), edit=one.edit) for one in mutants]
    said = {
        name: violations(MUTANTS[name].space, found, WRITTEN_DOWN)
        for name, found in zip(names, measure(runs), strict=True)
    }
    assert {
        name: sentences
        for name, sentences in said.items()
        if not any(MUTANTS[name].said in sentence for sentence in sentences)
    } == {}


FEW = ("correct samples are counted on the host",)


@needs_compiler
def test_changes_of_a_line_are_noticed(measure: Measure) -> None:
    check_noticed(measure, FEW)


@needs_compiler
@pytest.mark.slow
def test_more_changes_of_a_line_are_noticed(measure: Measure) -> None:
    others = [name for name in MUTANTS if name not in FEW]
    check_noticed(measure, others if LONG else others[::2])
