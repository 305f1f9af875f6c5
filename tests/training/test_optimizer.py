"""The optimizer: which parameters decay and at which rate they learn; clipped and scaled gradients."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from small_training import RECIPE, SCHEDULE, network, recordings, trained
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from spquant_search.snn.readout import Readout
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.training import loop
from spquant_search.training import optimizer as optimizer_module
from spquant_search.training.loop import TrainingRun
from spquant_search.training.optimizer import GATE_RATE, new_optimizer, set_rate
from spquant_search.training.schedule import Schedule


@pytest.mark.parametrize(
    ("changes", "kind", "expected"),
    [
        ({}, torch.optim.AdamW, {"betas": (0.9, 0.999)}),
        ({"optimizer": "adam"}, torch.optim.Adam, {"decoupled_weight_decay": False}),
        ({"optimizer": "sgd"}, torch.optim.SGD, {"momentum": 0.9, "nesterov": False, "dampening": 0}),
        (
            {"optimizer": "sgd", "momentum": 0.8, "nesterov": True},
            torch.optim.SGD,
            {"momentum": 0.8, "nesterov": True},
        ),
    ],
)
def test_the_recipe_chooses_the_optimizer(
    changes: dict[str, object], kind: type, expected: dict[str, object], plain_neurons: None
) -> None:
    optimizer = new_optimizer(network(), replace(RECIPE, weight_decay=4e-5, **changes), SCHEDULE)
    assert type(optimizer) is kind
    for group, decay in zip(optimizer.param_groups, (4e-5, 0.0, 0.0), strict=True):
        assert group["lr"] == SCHEDULE.learning_rate
        assert group["weight_decay"] == decay
        assert {key: group[key] for key in expected} == expected


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_other_optimizers_learn_too(optimizer: str, plain_neurons: None) -> None:
    rate = {"adam": 5e-3, "sgd": 0.05}[optimizer]
    recipe = replace(RECIPE, optimizer=optimizer, max_grad_norm=5.0, label_smoothing=0.1)
    curve, _ = trained(recipe=recipe, schedule=Schedule(epochs=5, learning_rate=rate), samples=64)
    assert curve[-1][0].loss < 0.9 * curve[0][0].loss  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "changes", [{"optimizer": "sgd"}, {"optimizer": "sgd", "nesterov": True}, {"optimizer": "adam"}]
)
def test_fused_optimizers_take_gradients_that_come_later(
    changes: dict[str, object], monkeypatch: pytest.MonkeyPatch, plain_neurons: None
) -> None:
    """Gates that are off have no gradient: as one kernel, as on a GPU, a step is what it is without."""

    def learned(*, fused: bool) -> Tensor:
        monkeypatch.setattr(optimizer_module, "_is_fused", lambda _network: fused)
        subject = network()
        optimizer = new_optimizer(subject, replace(RECIPE, **changes), SCHEDULE)
        generator = torch.Generator().manual_seed(0)
        for step in range(6):
            if step == 4:  # goes on from a checkpoint, of a processor, in another process
                saved = optimizer.state_dict()
                optimizer = new_optimizer(subject, replace(RECIPE, **changes), SCHEDULE)
                optimizer.load_state_dict(saved)
            for number, parameter in enumerate(subject.parameters()):
                values = torch.randn(parameter.shape, generator=generator)
                parameter.grad = values if number % 3 <= step else None
                if number % 3 == 2 and step < 5:  # of some the first one comes after the checkpoint
                    parameter.grad = None
            optimizer.step()
        return torch.cat([parameter.detach().flatten() for parameter in subject.parameters()])

    torch.testing.assert_close(learned(fused=True), learned(fused=False), rtol=1e-5, atol=1e-7)


def test_a_fused_optimizer_goes_on_from_the_checkpoint_of_another(
    monkeypatch: pytest.MonkeyPatch, plain_neurons: None
) -> None:
    subject, recipe = network(), replace(RECIPE, optimizer="sgd")
    first, *later = subject.parameters()
    monkeypatch.setattr(optimizer_module, "_is_fused", lambda _network: False)
    plain = new_optimizer(subject, recipe, SCHEDULE)
    first.grad = torch.ones_like(first)
    plain.step()
    monkeypatch.setattr(optimizer_module, "_is_fused", lambda _network: True)
    fused = new_optimizer(subject, recipe, SCHEDULE)
    fused.load_state_dict(plain.state_dict())
    for parameter in later:
        parameter.grad = torch.ones_like(parameter)
    fused.step()
    assert torch.equal(fused.state[later[0]]["momentum_buffer"], torch.ones_like(later[0]))
    assert float(fused.state[first]["momentum_buffer"].flatten()[0]) == pytest.approx(1 + recipe.momentum, rel=1e-3)


def descended(loss_factor: float, max_norm: float | None, *, scaler: GradScaler | None = None) -> Tensor:
    """What a step of plain gradient descent of rate 1 takes off two weights whose gradient is factor * (3, 4)."""
    subject = nn.Linear(2, 1, bias=False)
    before = subject.weight.detach().clone()
    optimizer = torch.optim.SGD(subject.parameters(), lr=1.0)
    loss = loss_factor * subject(torch.tensor([3.0, 4.0])).sum()
    loop._descend(subject, loss, optimizer, scaler, max_grad_norm=max_norm)
    return (before - subject.weight.detach()).flatten()


@pytest.mark.parametrize(
    ("factor", "max_norm", "expected"),
    [(1.0, None, [3.0, 4.0]), (1.0, 1.0, [0.6, 0.8]), (0.1, 1.0, [0.3, 0.4]), (10.0, 5.0, [3.0, 4.0])],
)
@pytest.mark.parametrize("scaled", [False, True])
def test_gradients_are_clipped_to_their_norm(
    factor: float, max_norm: float | None, expected: list[float], scaled: bool
) -> None:
    scaler = GradScaler("cpu") if scaled else None
    assert descended(factor, max_norm, scaler=scaler).tolist() == pytest.approx(expected, rel=1e-5)


def test_clipping_is_by_the_norm_over_all_parameters(plain_neurons: None) -> None:
    def gradients(max_norm: float | None) -> list[Tensor]:
        subject = network().train()
        optimizer = torch.optim.SGD(subject.parameters(), lr=0.0)
        loop.train_step(subject, recordings(8), replace(RECIPE, max_grad_norm=max_norm), optimizer)
        return [parameter.grad for parameter in subject.parameters() if parameter.grad is not None]

    def norm(values: list[Tensor]) -> float:
        return torch.cat([value.flatten() for value in values]).double().norm().item()

    free, clipped = gradients(None), gradients(0.01)
    assert norm(free) > 0.02
    assert norm(clipped) == pytest.approx(0.01, rel=1e-3)
    for mine, whole in zip(clipped, free, strict=True):
        torch.testing.assert_close(mine, whole * (0.01 / norm(free)), rtol=1e-3, atol=1e-8)
    for mine, whole in zip(gradients(2 * norm(free)), free, strict=True):
        assert torch.equal(mine, whole)


@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_a_step_whose_gradients_overflow_is_left_out_and_the_scale_halved(max_norm: float | None) -> None:
    scaler = GradScaler("cpu", init_scale=1024.0)
    assert descended(math.inf, max_norm, scaler=scaler).tolist() == [0.0, 0.0]
    assert scaler.get_scale() == 512.0


def test_only_kernels_and_matrices_decay(plain_neurons: None) -> None:
    subject = network()
    names = {parameter: name for name, parameter in subject.named_parameters()}
    groups = new_optimizer(subject, replace(RECIPE, weight_decay=0.3), SCHEDULE).param_groups
    decayed, kept, gates = groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0, 0.0]
    expected = {*(f"conv{index}.weight" for index in range(1, 9)), "readout.linear.weight"}
    assert {names[parameter] for parameter in decayed["params"]} == expected
    gated = {name for name in names.values() if ".gate." in name}
    assert {names[parameter] for parameter in gates["params"]} == gated
    assert {names[parameter] for parameter in kept["params"]} == set(names.values()) - expected - gated


class Gated(nn.Module):
    """A user's network with layers called gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.ModuleDict({"conv": SpikingConv2d(2, 4), "gate": nn.Linear(3, 2)})
        self.readout = Readout(4, 4, 2)


def test_a_layer_called_gate_is_none() -> None:
    subject = Gated()
    names = {parameter: name for name, parameter in subject.named_parameters()}
    decayed, kept, gates = new_optimizer(subject, RECIPE, SCHEDULE).param_groups
    predictor = subject.gate["conv"].gate
    assert {names[parameter] for parameter in gates["params"]} == {
        f"gate.conv.gate.{name}" for name, _ in predictor.named_parameters()
    }
    assert {"gate.conv.weight", "gate.gate.weight"} <= {names[parameter] for parameter in decayed["params"]}
    assert "gate.gate.bias" in {names[parameter] for parameter in kept["params"]}
    epochs = loop.epoch_losses(
        TrainingRun(
            network=subject,
            training=recordings(8),
            recipe=RECIPE,
            schedule=replace(SCHEDULE, trains_gates=False),
            seed=0,
        )
    )
    with pytest.raises(NotImplementedError):  # it has no forward; what is trained is chosen before
        next(epochs)
    trained = {name for name, parameter in subject.named_parameters() if parameter.requires_grad}
    assert trained == {name for name in names.values() if not name.startswith("gate.conv.gate.")}


def test_gates_learn_at_a_rate_of_their_own() -> None:
    optimizer = new_optimizer(network(), RECIPE, SCHEDULE)
    set_rate(optimizer, 0.01)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([0.01, 0.01, 0.01 * GATE_RATE])
