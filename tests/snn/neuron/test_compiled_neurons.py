"""Compiled neurons: the plain ones, compiled once, or run as they are where no compiler works."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
import torch._inductor.config
from neurons import (
    SETTINGS,
    Setting,
    Sums,
    assert_fired,
    currents,
    fired_all_at_once,
    fired_step_by_step,
    parameters,
    spikes_and_gradient,
)
from torch import Tensor
from torch._dynamo.utils import counters
from torch.fx.interpreter import Interpreter

from spquant_search.snn.kernels.compile import Compiled, uncompiled
from spquant_search.snn.neuron import training
from spquant_search.snn.neuron.rule import ABOVE_TO_ZERO
from spquant_search.snn.neuron.training import compile_backward, fire, skipped


@pytest.fixture(scope="session")
def compiled() -> Callable[[Setting, Tensor], tuple[Tensor, Tensor]]:
    """Fires compiled: spikes and gradient by all ones. Compiled once, by the first call."""

    def run(setting: Setting, current: Tensor) -> tuple[Tensor, Tensor]:
        return spikes_and_gradient(fired_all_at_once(setting), current, torch.ones_like(current))

    Compiled.enabled = True
    with warnings.catch_warnings():
        # The compiler's own deprecations; a failure of ours would show in Compiled.failed.
        warnings.simplefilter("ignore")
        run((3, None, 0.5), currents(4, 96))
        skipped(currents(4, 96), parameters((3, None, 0.5)))
        Sums.drawn(positions=25, groups=1, channels=8).fired((3, None, 0.5))
    return run


def graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def test_compiled_neurons_are_the_plain_ones_and_are_compiled_once(
    compiled: Callable[[Setting, Tensor], tuple[Tensor, Tensor]],
) -> None:
    before = graphs()
    assert before >= 4, "forward, backward, the skip mask and evaluation"
    for number, setting in enumerate(SETTINGS):
        current = currents(4, 64 * (number + 2) + number, seed=number)  # every layer and batch has its own size
        spikes, gradient = compiled(setting, current)
        missed = skipped(current, parameters(setting))
        drawn = Sums.drawn(positions=9 + number, groups=1, channels=5 + 3 * number, seed=number)
        fired = drawn.fired(setting)
        with uncompiled():
            assert_fired(fired, drawn.fired_one_after_the_other(setting, residual=False))
            expected, expected_gradient = spikes_and_gradient(
                fired_all_at_once(setting), current, torch.ones_like(current)
            )
            expected_missed = skipped(current, parameters(setting))
        assert torch.equal(spikes, expected)
        assert torch.equal(missed, expected_missed)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5)
    assert graphs() == before, "a change of precision or size is a change of data"
    assert not counters["graph_break"]
    assert not Compiled.failed


def test_compiled_in_bf16_the_potential_is_rounded_before_anything_is_decided(
    compiled: Callable[[Setting, Tensor], tuple[Tensor, Tensor]],
) -> None:
    # Left to itself the compiler decides on the unrounded value: about two spikes in ten thousand would differ.
    current = currents(4, 40_000).bfloat16()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spikes, _ = compiled((3, None, 0.5), current)
    with uncompiled():
        expected, potentials = fire(current, parameters((3, None, 0.5)))
    assert torch.equal(spikes, expected)
    assert torch.equal(spikes > 0, potentials > 1)


def test_a_failing_compiler_is_said_once_and_then_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def broken(function: Any, **_options: Any) -> Any:
        calls.append(function)
        raise RuntimeError("no C++ compiler found\nand a long story")

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setitem(training._compiled_forward, ABOVE_TO_ZERO, Compiled(training._forward))
    monkeypatch.setitem(training._compiled_backward, ABOVE_TO_ZERO, Compiled(training._backward))
    monkeypatch.setattr(Compiled, "failed", False)
    setting, current = (3, None, 0.5), currents(4, 50)
    with pytest.warns(UserWarning, match=r"^neurons run uncompiled, 2 to 3 times slower: no C\+\+ compiler found$"):
        spikes, gradient = spikes_and_gradient(fired_all_at_once(setting), current, torch.ones_like(current))
    again, _ = spikes_and_gradient(fired_all_at_once(setting), current, torch.ones_like(current))
    assert len(calls) == 1
    assert Compiled.failed
    expected, expected_gradient = spikes_and_gradient(fired_step_by_step(setting), current, torch.ones_like(current))
    assert torch.equal(spikes, expected)
    assert torch.equal(again, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_every_number_of_time_steps_is_a_graph_of_its_own_and_none_falls_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Torch makes a few graphs of a function (8 by default), and then runs it as it is without a word.

    Graphs are made by torch's tracer; what C++ is made of them does not matter here, and takes long.
    """
    plain, backend = torch.compile, "eager"
    monkeypatch.setattr(torch, "compile", lambda function, **_options: plain(function, dynamic=True, backend=backend))
    monkeypatch.setattr(Compiled, "enabled", True)
    unrolled, p = Compiled(training._potentials, unrolled=True), parameters((3, None, 0.5))
    for number in range(1, 10):
        before = graphs()
        for size in (96, 160):
            found = unrolled(currents(number, size), p)
            torch.testing.assert_close(found, training._potentials(currents(number, size), p))
            assert graphs() == before + 1, f"{number} steps"
    assert not counters["graph_break"]
    assert not Compiled.failed
    # Without copies torch gives up on the ninth: the count above does notice.
    single = Compiled(training._potentials)
    before = graphs()
    for number in range(1, 10):
        single(currents(number, 96), p)
    assert graphs() < before + 9


@pytest.mark.slow
def test_the_compiler_writes_nothing_twice() -> None:
    """What one time step hands to the next is named, or the work would double with every use of it."""
    steps, run_node = 0, Interpreter.run_node

    def counted(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        return run_node(*arguments)

    uncached = torch._inductor.config.patch(force_disable_caches=True)
    with mock.patch.object(Interpreter, "run_node", counted), uncached, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compile_backward(2, torch.bfloat16, torch.device("cpu"))
    assert 5_000 < steps < 40_000  # 19,576; without a name 112,329
    assert Compiled.works()
