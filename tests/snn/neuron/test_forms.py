"""Neurons of every form in training and in evaluation: against a slow neuron, the definition, and numbers by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from neurons import currents, slow_neuron
from torch import Tensor
from torch._dynamo.utils import counters

from spquant_search.snn.kernels.compile import Compiled
from spquant_search.snn.neuron import exact, training
from spquant_search.snn.neuron.exact import fire_exactly
from spquant_search.snn.neuron.module import Neuron
from spquant_search.snn.neuron.parameters import (
    ExactParameters,
    NeuronParameters,
    leak_logit_of,
    learned_leak,
    neuron_parameters,
)
from spquant_search.snn.neuron.reference import fire_step_by_step
from spquant_search.snn.neuron.rule import ABOVE_TO_ZERO, Rule, compiled_by_rule
from spquant_search.snn.neuron.training import fire
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.grid import membrane_grid
from spquant_search.space.neuron_form import NeuronForm
from spquant_search.space.schema import NeuronSpace

RESETS = ("zero", "subtract", "delayed-subtract")
FORMS = [
    NeuronForm(leak=leak, reset=reset, spike_at_threshold=at_threshold)  # type: ignore[arg-type]
    for reset, at_threshold, leak in itertools.product(RESETS, (False, True), (0.25, 0.9, 1.0))
]
LEVELS = (0, 3, 16, 256)
forms = pytest.mark.parametrize("form", FORMS, ids=str)


def a_neuron(form: NeuronForm, levels: int) -> Neuron:
    neuron = Neuron(form)
    neuron.set_precision(LayerPrecision(membrane_levels=levels), NeuronSpace())
    return neuron


def slow(form: NeuronForm, levels: int, current: Tensor) -> tuple[Tensor, Tensor]:
    """The spikes and potentials of a slow neuron; one that is quantized has its leak and amount rounded."""
    leak = form.rounded_leak if levels else form.leak
    amount = {"zero": None, "subtract": 1.0, "delayed-subtract": 1.0 / leak}[form.reset]
    if levels and amount is not None:
        amount = round(amount * 2**20) / 2**20
    grid = membrane_grid(levels, subtracts=form.subtracts) if levels else None
    spikes, potentials = slow_neuron(
        current.double().numpy(), leak=leak, amount=amount, at_threshold=form.spike_at_threshold, grid=grid
    )
    return torch.from_numpy(spikes), torch.from_numpy(potentials)


@forms
@pytest.mark.parametrize("neurons", [1600, pytest.param(32_000, marks=pytest.mark.slow)])  # a million steps in all
def test_every_form_is_that_of_a_slow_neuron(form: NeuronForm, neurons: int, plain_neurons: None) -> None:
    for number, levels in enumerate(LEVELS):
        current = currents(8, neurons, seed=number) + 1 / 8  # multiples of 1/64: ties, and potentials on the threshold
        neuron = a_neuron(form, levels)
        expected, potentials = slow(form, levels, current)
        assert 0.1 < expected.double().mean() < 0.9
        in_evaluation, exact_potentials = neuron(current.double())
        in_training, found = neuron(current)
        if levels:
            assert torch.equal(exact_potentials, potentials)
            assert torch.equal(in_evaluation.bool(), expected)
            assert torch.equal(in_training.bool(), expected)
            assert torch.equal(found.double(), potentials), "leaks and grids are exact in fp32"
            continue
        # A float leak is rounded to fp32: neurons that come near the threshold may decide otherwise.
        clear = ((potentials - 1).abs() > 1e-5).int().cummin(dim=0).values.bool()
        assert clear.double().mean() > 0.3
        assert torch.equal(in_evaluation.bool() & clear, expected & clear)
        assert torch.equal(in_training.bool() & clear, expected & clear)


@forms
@pytest.mark.parametrize("levels", [0, 3, 16])
@pytest.mark.parametrize("pooled", [False, True])
def test_gradients_are_those_of_the_definition(
    form: NeuronForm, levels: int, pooled: bool, plain_neurons: None
) -> None:
    """By the currents and by a leak that is learned; the definition is differentiated by autograd."""
    learning = NeuronForm(leak=form.leak, reset=form.reset, spike_at_threshold=form.spike_at_threshold, learn_leak=True)
    neuron = a_neuron(learning, levels)
    leak_logit = neuron.leak_logit
    assert leak_logit is not None
    with torch.no_grad():
        leak_logit.fill_(leak_logit_of(min(form.leak, 0.97)))  # where it still has a slope
    shape = (5, 2, 4, 6, 5)
    drawn = torch.randn(5, 240, generator=torch.Generator().manual_seed(levels))
    by_spike = torch.randn(5, 60 if pooled else 240, generator=torch.Generator().manual_seed(1))

    def gradients(run: Any) -> list[Tensor]:
        current = (1.2 * drawn + 0.3).requires_grad_()
        spikes = run(current)
        if pooled and spikes.numel() == current.numel():
            blocks = spikes.view(shape).unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
            spikes = blocks.sum(dim=(3, 5))
        return list(torch.autograd.grad((spikes.reshape(by_spike.shape) * by_spike).sum(), [current, leak_logit]))

    found = gradients(lambda leaf: neuron.pooled(leaf.view(shape)) if pooled else neuron(leaf)[0])
    expected = gradients(lambda leaf: fire_step_by_step(leaf, neuron.parameters_now, neuron.rule))
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-3, atol=1e-4)
    assert found[1].item() != 0.0


def test_a_hand_worked_soft_reset(plain_neurons: None) -> None:
    # Leak 1/2. By subtraction of 1: u = 2.5 spikes, 1.5 is left; .75 + .25 is at the threshold; then .5 + .75 spikes
    # above it. By the delayed form 2 is subtracted: .5 is left; .25 + .25; .25 + .75.
    current = torch.tensor([[2.5], [0.25], [0.75]])
    spikes, potentials = fire(
        current, neuron_parameters(reset="subtract", grid=None, skip_below=None), Rule(False, True)
    )
    assert potentials.flatten().tolist() == [2.5, 1.0, 1.25]
    assert spikes.flatten().tolist() == [1.0, 0.0, 1.0]
    delayed = neuron_parameters(reset="delayed-subtract", grid=None, skip_below=None)
    spikes, potentials = fire(current, delayed, Rule(True, True))
    assert potentials.flatten().tolist() == [2.5, 0.5, 1.0]
    assert spikes.flatten().tolist() == [1.0, 0.0, 1.0], "at the threshold"


def test_a_hand_worked_leak_gradient(plain_neurons: None) -> None:
    # u = .75, then .75 leak + .5: by the leak the second spike's triangle, at leak 1/2 .875, times .75.
    neuron = a_neuron(NeuronForm(learn_leak=True), 0)
    assert neuron.leak_logit is not None
    spikes, _ = neuron(torch.tensor([[0.75], [0.5]]))
    spikes[1].sum().backward()
    assert neuron.leak_logit.grad is not None
    assert neuron.leak_logit.grad.item() == pytest.approx(0.875 * 0.75 * 0.25)  # sigmoid' at 0 is 1/4


@pytest.mark.parametrize("reset", RESETS)
def test_in_one_time_step_there_is_nothing_to_learn_of_a_leak(reset: Any, plain_neurons: None) -> None:
    neuron = a_neuron(NeuronForm(leak=0.9, reset=reset, learn_leak=True), 16)
    assert neuron.leak_logit is not None
    for run, shape in ((lambda one: neuron(one)[0], (1, 60)), (neuron.pooled, (1, 1, 6, 5, 2))):
        neuron.leak_logit.grad = None
        current = torch.ones(shape, requires_grad=True)
        run(current).sum().backward()
        assert current.grad is not None
        assert current.grad.any()
        assert neuron.leak_logit.grad is not None, "an optimizer takes it as every other"
        assert neuron.leak_logit.grad.item() == 0.0


def test_subtracting_one_step_later_is_subtracting_the_threshold_over_the_leak(plain_neurons: None) -> None:
    """snnTorch's default reset: u = leak * u' + I - s'. Nothing of its code is used."""
    for leak in (0.5, 0.8, 0.95):
        current = np.random.default_rng(0).normal(0.3, 1.0, (12, 20_000))
        before, spikes = np.zeros(20_000), []
        for frame in current:
            before = leak * before + frame - (spikes[-1] if spikes else 0.0)
            spikes.append(before > 1.0)
        neuron = a_neuron(NeuronForm(leak=leak, reset="delayed-subtract"), 0)
        found, _ = fire_exactly(torch.from_numpy(current), neuron.exact_parameters_now, neuron.rule)
        assert (found.bool().numpy() != np.stack(spikes)).sum() <= 2, "a leak in fp32 may decide at the threshold"


def test_in_bf16_the_backward_pass_decides_as_the_forward_pass_did(plain_neurons: None) -> None:
    form = NeuronForm(leak=0.9, reset="delayed-subtract", spike_at_threshold=True)
    neuron = a_neuron(form, 16)
    current = (torch.randn(5, 4000, generator=torch.Generator().manual_seed(2)) * 2).bfloat16().requires_grad_()
    spikes, potentials = neuron(current)
    assert spikes.dtype == potentials.dtype == torch.bfloat16
    assert torch.equal(spikes.bool(), potentials >= 1)
    # What the next step keeps is that of the potential as it was stored.
    p, values = neuron.parameters_now, potentials.float()
    left = torch.where(values >= 1, values - p.amount, values)
    grid = membrane_grid(16, subtracts=True)
    nearest = (left / grid.step).double()
    stored = (nearest.sign() * (nearest.abs() - 0.5).ceil() * grid.step).clamp(grid.lowest, grid.highest)
    charged = (form.rounded_leak * stored[:-1] + current[1:].double()).bfloat16()
    assert torch.equal(charged, potentials[1:])
    spikes.sum().backward()
    assert current.grad is not None
    assert current.grad.isfinite().all()


def test_quantized_neurons_leak_by_4096ths_and_float_ones_as_they_were_told() -> None:
    neuron = a_neuron(NeuronForm(leak=0.9, reset="delayed-subtract"), 16)
    assert float(neuron.parameters_now.leak) == 3686 / 4096
    assert float(neuron.parameters_now.amount) == 1165211 / 2**20
    assert float(neuron.exact_parameters_now.leaked_step) == 3686 / 4096 / 4
    neuron = a_neuron(NeuronForm(leak=0.9, reset="delayed-subtract"), 0)
    assert float(neuron.parameters_now.leak) == np.float32(0.9)
    assert float(neuron.parameters_now.amount) == np.float32(1) / np.float32(0.9)


@pytest.mark.parametrize("leak", [1 / 4096, 0.1, 0.5, 0.9, 1.0])
def test_a_learned_leak_begins_where_it_is_told_and_is_rounded(leak: float) -> None:
    logit = torch.tensor(leak_logit_of(leak))
    assert float(learned_leak(logit, torch.tensor(False))) == round(leak * 4096) / 4096
    assert float(learned_leak(logit, torch.tensor(True))) == pytest.approx(leak, abs=1e-4)
    # Far from all that can be meant it is still a leak.
    assert float(learned_leak(torch.tensor(-50.0), torch.tensor(False))) == 1 / 4096
    assert float(learned_leak(torch.tensor(50.0), torch.tensor(False))) == 1.0


def test_a_leak_is_a_weight_that_is_kept_and_that_older_weights_may_lack() -> None:
    learned, fixed = a_neuron(NeuronForm(leak=0.75, learn_leak=True), 3), a_neuron(NeuronForm(leak=0.75), 3)
    parameter = learned.leak_logit
    learned.load_state_dict({"leak_logit": torch.tensor(0.0)})
    learned.set_precision(LayerPrecision(membrane_levels=16), NeuronSpace())
    assert learned.leak_logit is parameter, "another precision keeps it"
    assert float(learned.parameters_now.leak.detach()) == 0.5
    learned.load_state_dict(fixed.state_dict())
    assert float(learned.parameters_now.leak.detach()) == 0.75
    with pytest.raises(RuntimeError, match="leak_logit"):
        fixed.load_state_dict(learned.state_dict())


def test_a_form_of_a_layer_is_taken_whole_in_place_of_the_spaces() -> None:
    space = NeuronSpace(leak=0.125, reset="subtract", spike_at_threshold=True, learn_leak=True)
    neuron = Neuron(NeuronForm(leak=0.75))
    neuron.set_precision(LayerPrecision(membrane_levels=3), space)
    assert (neuron.form, neuron.rule) == (NeuronForm(leak=0.75), ABOVE_TO_ZERO)
    other = Neuron()
    other.set_precision(LayerPrecision(membrane_levels=3), space)
    assert other.form == NeuronForm(leak=0.125, reset="subtract", spike_at_threshold=True, learn_leak=True)
    assert other.rule == Rule(at_threshold=True, subtracts=True)


@pytest.mark.parametrize(
    ("form", "levels", "silent"),
    [
        (NeuronForm(), 3, True),
        (NeuronForm(), 0, True),
        (NeuronForm(leak=1), 3, True),  # from 1 to 1, which is not above it
        (NeuronForm(leak=1, spike_at_threshold=True), 3, False),
        (NeuronForm(leak=0.9998, spike_at_threshold=True), 3, True),
        (NeuronForm(leak=0.99999, spike_at_threshold=True), 3, False),  # which is rounded to 1
        (NeuronForm(leak=1, spike_at_threshold=True), 16, True),  # whose highest level is 7/8
        (NeuronForm(leak=1, spike_at_threshold=True), 0, True),  # what would spike was reset
        (NeuronForm(learn_leak=True, spike_at_threshold=True), 3, False),
        (NeuronForm(learn_leak=True), 3, True),
        (NeuronForm(reset="subtract"), 3, True),
        (NeuronForm(reset="subtract"), 256, True),  # up to 2, of which half is left
        (NeuronForm(leak=0.51, reset="subtract"), 256, False),
        (NeuronForm(leak=0.51, reset="subtract"), 16, True),
        (NeuronForm(reset="subtract"), 0, False),  # whatever u is, u - 1 is left
    ],
    ids=str,
)
def test_what_is_known_to_be_silent_without_current_is(
    form: NeuronForm, levels: int, silent: bool, plain_neurons: None
) -> None:
    neuron = a_neuron(form, levels)
    assert neuron.is_silent_without_current is silent
    if neuron.leak_logit is not None:
        with torch.no_grad():
            neuron.leak_logit.fill_(20.0)  # the most that it could learn
    current = torch.zeros(6, 2000)
    current[0] = torch.linspace(-6, 6, 2000)
    spikes, _ = neuron(current)
    assert bool(spikes[1:].any()) is not silent


def test_what_a_form_cannot_be_is_said() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"leak": 0}, "leak must be a number from 1/4096 to 1; got 0"),
        ({"leak": 1.01}, "leak must be a number from 1/4096 to 1; got 1.01"),
        ({"leak": math.nan}, "leak must be a number from 1/4096 to 1; got nan"),
        ({"leak": "half"}, "leak must be a number from 1/4096 to 1; got 'half'"),
        ({"leak": True}, "leak must be a number from 1/4096 to 1; got True"),
        ({"reset": "soft"}, 'reset must be one of "zero", "subtract", "delayed-subtract"; got \'soft\''),
        ({"learn_leak": 1}, "learn_leak must be True or False; got 1"),
        ({"spike_at_threshold": None}, "spike_at_threshold must be True or False; got None"),
    ]
    for options, words in wrong:
        with pytest.raises(ValueError, match=r"must be") as error:
            NeuronForm(**options)
        assert str(error.value) == words


def test_every_rule_is_one_graph_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are made by torch's tracer; what C++ is made of them does not matter here, and takes long."""
    plain = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function, **_options: plain(function, dynamic=True, fullgraph=True, backend="eager")
    )
    monkeypatch.setattr(Compiled, "enabled", True)
    monkeypatch.setattr(Compiled, "failed", False)
    p = neuron_parameters(leak=0.75, reset="subtract", grid=membrane_grid(16), skip_below=None)
    current = currents(4, 96) + 1 / 64
    before = int(counters["stats"]["unique_graphs"])
    for number, (rule, compiled) in enumerate(compiled_by_rule(training._potentials, unrolled=True).items(), start=1):
        for size in (96, 160):
            wide = current.repeat(1, 2)[:, :size].clone()
            potentials = compiled(wide, p)
            assert torch.equal(potentials, training._potentials(wide, p, rule=rule))
        assert int(counters["stats"]["unique_graphs"]) == before + number, rule
    to_leak = compiled_by_rule(training._backward_to_leak, unrolled=True)[rule]
    found, expected = to_leak(wide, potentials, p), training._backward_to_leak(wide, potentials, p, rule=rule)
    assert all(map(torch.equal, found, expected))
    assert int(counters["stats"]["unique_graphs"]) == before + 5
    assert not counters["graph_break"]


def test_parameters_that_a_rule_does_not_read_are_no_arguments_of_its_code() -> None:
    """What most networks have is compiled as if there were no other form."""
    assert exact._compiled_fire_sums[ABOVE_TO_ZERO]._plain is exact._fire_sums
    assert training._compiled_forward[ABOVE_TO_ZERO]._plain is training._forward
    names: list[str] = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Any:
        names.extend(node.name for node in graph.graph.nodes if node.op == "placeholder")
        return graph.forward

    p = neuron_parameters(grid=None, skip_below=None)
    torch._dynamo.reset()
    torch.compile(training._forward, dynamic=True, fullgraph=True, backend=backend)(torch.zeros(2, 5), p)
    assert not [name for name in names if "amount" in name]
    assert "amount" in NeuronParameters._fields
    assert "amount" in ExactParameters._fields
