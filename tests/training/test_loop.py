"""The loss, the schedule, and training: what it repeats, what it stops at, and what it leaves alone."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from itertools import chain, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from spquant_search.errors import UserError
from spquant_search.snn.layers import configure
from spquant_search.snn.networks.vgg import Vgg9
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.schema import Augmentation, Final, NeuronSpace, Training
from spquant_search.training import evaluation, loop
from spquant_search.training.augmentation import augmented
from spquant_search.training.evaluation import Evaluation, accuracy, evaluate
from spquant_search.training.loader import DeviceSplit, HostSplit, LoadedSplit
from spquant_search.training.loop import Diverged, Progress, TrainingRun, epoch_losses, train
from spquant_search.training.losses import tet_loss
from spquant_search.training.optimizer import GATE_RATE, new_optimizer, set_rate
from spquant_search.training.precision import loss_scaler, training_dtype
from spquant_search.training.schedule import Schedule, rate_at

RECIPE = Training(batch_size=8, precision="fp32")
SCHEDULE = Schedule(epochs=2, learning_rate=2e-3)


def recordings(samples: int, *, seed: int = 0) -> DeviceSplit:
    """Two classes that differ in the half of the image that is bright; 3 frames of 2 channels."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 3, (samples, 3, 2, 16, 16), generator=generator, dtype=torch.uint8)
    labels = torch.arange(samples) % 2
    frames[labels == 0, :, :, :, :8] += 5
    frames[labels == 1, :, :, :, 8:] += 5
    return DeviceSplit(frames=frames, labels=labels, time_steps=frames.shape[1], largest=15)


def network(*, seed: int = 0, mass: float = 0.8) -> Vgg9:
    torch.manual_seed(seed)
    built = Vgg9(in_channels=2, height=16, width=16, classes=2, width_factor=1 / 16, pool="before")
    precision = LayerPrecision(weight_bits=4, membrane_levels=16)
    layers = [("conv1", precision)]
    layers += [(f"conv{index}", replace(precision, channel_mass=mass, skip_below=0.0)) for index in range(2, 9)]
    layers += [("readout", LayerPrecision(weight_bits=4, membrane_levels=None))]
    configure(built, NetworkConfig(layers=tuple(layers)), NeuronSpace())
    return built


def trained(
    *, seed: int = 0, recipe: Training = RECIPE, schedule: Schedule = SCHEDULE, samples: int = 24
) -> tuple[list[tuple[object, ...]], dict[str, Tensor]]:
    """What every epoch says, but for its seconds, and the weights in the end."""
    subject = network()
    epochs = train(
        TrainingRun(network=subject, training=recordings(samples), recipe=recipe, schedule=schedule, seed=seed),
        recordings(10, seed=1),
    )
    curve = [(replace(metrics, seconds=0.0), evaluation) for metrics, evaluation in epochs]
    return curve, subject.state_dict()


def is_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


# The loss


def test_the_tet_loss_by_hand() -> None:
    # Two steps, one sample, two classes. exp(log 3) against exp(0): probabilities 3/4 and 1/4, then 1/2 each.
    logits = torch.tensor([[[math.log(3), 0.0]], [[2.0, 2.0]]])
    labels = torch.tensor([1])
    entropy = (math.log(4) + math.log(2)) / 2
    assert tet_loss(logits, labels, tet_lambda=0.0, tet_mean=1.0).item() == pytest.approx(entropy)
    spread = ((math.log(3) - 1.5) ** 2 + 1.5**2 + 0.5**2 + 0.5**2) / 4
    loss = tet_loss(logits, labels, tet_lambda=0.3, tet_mean=1.5).item()
    assert loss == pytest.approx(0.7 * entropy + 0.3 * spread)
    assert tet_loss(logits, labels, tet_lambda=1.0, tet_mean=1.5).item() == pytest.approx(spread)


def test_every_step_of_a_sample_is_held_against_its_own_label() -> None:
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([4, 0, 2, 1])
    terms = [-logits[time, sample].log_softmax(0)[labels[sample]] for time in range(3) for sample in range(4)]
    loss = tet_loss(logits, labels, tet_lambda=0.0, tet_mean=0.0)
    torch.testing.assert_close(loss, torch.stack(terms).mean())


def test_smoothed_labels_by_hand() -> None:
    # Probabilities 3/4 and 1/4, smoothing 0.2: targets 0.1 for class 0 and 0.9 for class 1, the label.
    logits = torch.tensor([[[math.log(3), 0.0]]])
    entropy = 0.1 * math.log(4 / 3) + 0.9 * math.log(4)
    loss = tet_loss(logits, torch.tensor([1]), tet_lambda=0.0, tet_mean=1.0, label_smoothing=0.2)
    assert loss.item() == pytest.approx(entropy)
    mixed = tet_loss(logits, torch.tensor([1]), tet_lambda=0.5, tet_mean=0.0, label_smoothing=0.2)
    assert mixed.item() == pytest.approx(0.5 * entropy + 0.5 * math.log(3) ** 2 / 2)


def test_the_recipes_smoothing_reaches_the_loss(plain_neurons: None) -> None:
    subject, batch = network(mass=1.0).train(), recordings(8)
    logits = subject(batch.spikes(torch.float32)).detach()
    optimizer = torch.optim.SGD(subject.parameters(), lr=0.0)
    loss = loop._train_step(subject, batch, replace(RECIPE, label_smoothing=0.3), optimizer)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.repeat(3), label_smoothing=0.3)
    torch.testing.assert_close(loss, expected)


# The schedule


def test_the_learning_rate_by_hand() -> None:
    # 10 steps, 20 % warm-up: a third, two thirds, then half a cosine over the other 8.
    rates = [rate_at(step, steps=10, warm_up=0.2) for step in range(10)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rates[6] == pytest.approx(0.5)
    assert rates[9] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))
    assert rate_at(10, steps=10, warm_up=0.2) == pytest.approx(0.0)


@pytest.mark.parametrize("warm_up", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_the_learning_rate_rises_and_falls_between_0_and_1(steps: int, warm_up: float) -> None:
    rates = [rate_at(step, steps=steps, warm_up=warm_up) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    top = rates.index(max(rates))
    assert all(earlier < later for earlier, later in pairwise(rates[: top + 1]))
    assert all(earlier > later for earlier, later in pairwise(rates[top:]))


def test_training_follows_the_schedule_over_all_epochs(monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    rates: list[float] = []
    monkeypatch.setattr(loop, "set_rate", lambda optimizer, rate: (rates.append(rate), set_rate(optimizer, rate)))
    trained(schedule=Schedule(epochs=2, learning_rate=0.01))
    assert rates == pytest.approx([0.01 * rate_at(step, steps=6, warm_up=0.1) for step in range(6)])


def hand_worked_cycle() -> list[float]:
    # 10 steps, 40 % warm-up: a half cosine from 1/25 up to step 3, by thirds, and one down to step 9, by sixths.
    up = [0.04 + 0.96 * share for share in (0.0, 0.25, 0.75, 1.0)]
    low = 1 / 250_000
    cosines = [3**0.5 / 2, 0.5, 0.0, -0.5, -(3**0.5) / 2, -1.0]
    return up + [low + (1 - low) * (1 + cosine) / 2 for cosine in cosines]


def test_one_cycle_by_hand() -> None:
    rates = [rate_at(step, steps=10, warm_up=0.4, schedule="one-cycle") for step in range(10)]
    assert rates == pytest.approx(hand_worked_cycle(), rel=1e-12)


@pytest.mark.parametrize("warm_up", [0.1, 0.3, 0.45, 1.0])
@pytest.mark.parametrize("steps", [7, 30, 101])
def test_one_cycle_is_torchs(steps: int, warm_up: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.3, total_steps=steps, pct_start=warm_up, cycle_momentum=False
    )
    for step in range(steps):
        rate = 0.3 * rate_at(step, steps=steps, warm_up=warm_up, schedule="one-cycle")
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        if step < steps - 1:
            theirs.step()


@pytest.mark.parametrize("warm_up", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_one_cycle_of_any_length(steps: int, warm_up: float) -> None:
    rates = [rate_at(step, steps=steps, warm_up=warm_up, schedule="one-cycle") for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)


def test_a_constant_rate_follows_its_warm_up() -> None:
    rates = [rate_at(step, steps=10, warm_up=0.2, schedule="constant") for step in range(10)]
    assert rates == pytest.approx([1 / 3, 2 / 3] + [1.0] * 8)


def test_training_follows_the_recipes_schedule(monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    rates: list[float] = []
    monkeypatch.setattr(loop, "set_rate", lambda optimizer, rate: (rates.append(rate), set_rate(optimizer, rate)))
    recipe = replace(RECIPE, schedule="one-cycle", warm_up=0.5)
    trained(recipe=recipe, schedule=Schedule(epochs=2, learning_rate=0.01))
    expected = [0.01 * rate_at(step, steps=6, warm_up=0.5, schedule="one-cycle") for step in range(6)]
    assert rates == pytest.approx(expected)


# The optimizer


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


# Clipping, and the scale of the loss


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
        loop._train_step(subject, recordings(8), replace(RECIPE, max_grad_norm=max_norm), optimizer)
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


def test_gradients_that_overflow_at_any_scale_diverge(plain_neurons: None) -> None:
    subject = network()
    loop._raise_if_diverged(subject, 3, 1.0, GradScaler("cpu", init_scale=1.0))
    with pytest.raises(Diverged, match=r"^in epoch 3, gradients were not finite in fp16 at any scale of the loss$"):
        loop._raise_if_diverged(subject, 3, 1.0, GradScaler("cpu", init_scale=0.5))


# Augmentation


def test_every_batch_is_augmented_by_its_own_seed_and_evaluation_never(
    monkeypatch: pytest.MonkeyPatch, plain_neurons: None
) -> None:
    trained_on: list[Tensor] = []
    evaluated: list[Tensor] = []

    def step(_network: object, batch: DeviceSplit, *_rest: object, **_named: object) -> Tensor:
        trained_on.append(batch.frames)
        return torch.zeros(())

    def look(_network: object, split: DeviceSplit) -> Evaluation:
        evaluated.append(split.frames.clone())
        return Evaluation(accuracy=0.0, layers=(), neurons=())

    monkeypatch.setattr(loop, "_train_step", step)
    monkeypatch.setattr(loop, "evaluate", look)

    def run(augment: Augmentation) -> list[Tensor]:
        trained_on.clear()
        data = recordings(24)
        recipe = replace(RECIPE, augment=augment)
        list(train(TrainingRun(network=network(), training=data, recipe=recipe, schedule=SCHEDULE, seed=5), data))
        assert torch.equal(data.frames, recordings(24).frames)
        return list(trained_on)

    options = Augmentation(flip=True, roll=3, crop=2, event_drop=0.75)
    plain, varied = run(Augmentation()), run(options)
    assert len(plain) == len(varied) == 6
    for position, (before, after) in enumerate(zip(plain, varied, strict=True)):
        seed = (5, position // 3, position % 3)
        assert torch.equal(after, augmented(before, options, seed=seed))
        assert not torch.equal(after, before)
    assert len(evaluated) == 4
    assert all(torch.equal(frames, recordings(24).frames) for frames in evaluated)


def test_augmented_training_repeats(plain_neurons: None) -> None:
    recipe = replace(RECIPE, augment=Augmentation(flip=True, roll=2, event_drop=0.5))
    (curve, weights), (again, same) = trained(recipe=recipe, seed=2), trained(recipe=recipe, seed=2)
    assert curve == again
    assert is_equal(weights, same)
    assert not is_equal(weights, trained(seed=2)[1])


# Repeating


def test_training_from_host_memory_is_the_same_training(plain_neurons: None) -> None:
    def run(training: LoadedSplit, validation: LoadedSplit) -> tuple[list[object], dict[str, Tensor]]:
        subject = network()
        recipe = replace(RECIPE, augment=Augmentation(roll=2))
        epochs = train(
            TrainingRun(network=subject, training=training, recipe=recipe, schedule=SCHEDULE, seed=1), validation
        )
        return [(replace(metrics, seconds=0.0), found) for metrics, found in epochs], subject.state_dict()

    def on_host(split: DeviceSplit) -> HostSplit:
        return HostSplit(
            frames=split.frames,
            labels=split.labels,
            time_steps=split.time_steps,
            largest=split.largest,
            device=split.device,
        )

    training, validation = recordings(28), recordings(10, seed=1)
    curve, weights = run(training, validation)
    streamed, same_weights = run(on_host(training), on_host(validation))
    assert streamed == curve
    assert is_equal(weights, same_weights)


def test_equal_seeds_give_equal_results_and_other_seeds_do_not(plain_neurons: None) -> None:
    curve, weights = trained(seed=3)
    again, same_weights = trained(seed=3)
    assert again == curve
    assert is_equal(weights, same_weights)
    assert not is_equal(weights, trained(seed=4)[1])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_training_that_goes_on_is_one_that_was_never_interrupted(optimizer: Any, plain_neurons: None) -> None:
    recipe = replace(RECIPE, optimizer=optimizer, augment=Augmentation(roll=2))
    schedule = Schedule(epochs=4, learning_rate=2e-3)
    curve, weights = trained(seed=3, recipe=recipe, schedule=schedule)
    validation = recordings(10, seed=1)
    options: dict[str, Any] = {
        "training": recordings(24),
        "recipe": recipe,
        "schedule": schedule,
        "seed": 3,
    }
    interrupted, progress = network(), Progress()
    epochs = train(TrainingRun(network=interrupted, progress=progress, **options), validation)
    begun = [next(epochs), next(epochs)]
    assert progress.epochs == 2
    kept = io.BytesIO()
    torch.save((interrupted.state_dict(), progress.optimizer), kept)
    next(epochs)  # what goes on after a checkpoint does not reach into it
    kept.seek(0)
    state, optimizer_state = torch.load(kept, weights_only=True)
    resumed = network(seed=9)
    resumed.load_state_dict(state)
    rest = list(
        train(
            TrainingRun(network=resumed, progress=Progress(epochs=2, optimizer=optimizer_state), **options), validation
        )
    )
    assert [(replace(metrics, seconds=0.0), evaluation) for metrics, evaluation in [*begun, *rest]] == curve
    assert is_equal(weights, resumed.state_dict())


class WithDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.dropout = network(), nn.Dropout(0.5)

    def forward(self, spikes: Spikes) -> Tensor:
        return self.dropout(self.inner(spikes))


def test_what_a_network_itself_draws_depends_on_the_seed_and_the_epoch_alone(plain_neurons: None) -> None:
    def losses(state: int, *, seed: int = 3) -> list[float]:
        subject, progress, found = WithDropout(), Progress(), []
        for _ in range(2):  # the second time as if it had been interrupted
            torch.manual_seed(state)
            epochs = epoch_losses(
                TrainingRun(
                    network=subject,
                    training=recordings(24),
                    recipe=RECIPE,
                    schedule=Schedule(epochs=2, learning_rate=1e-9),
                    seed=seed,
                    progress=progress,
                )
            )
            found.append(next(epochs))
        return found

    assert losses(0) == losses(1)
    assert losses(0) != losses(0, seed=4)
    first, second = losses(0)
    assert abs(first - second) > 1e-6


def test_training_leaves_the_global_generator_alone(plain_neurons: None) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    subject = network()
    torch.manual_seed(0)
    next(
        train(
            TrainingRun(
                network=subject,
                training=recordings(8),
                recipe=RECIPE,
                schedule=Schedule(epochs=1, learning_rate=1e-3),
                seed=7,
            ),
            recordings(4),
        )
    )
    assert torch.equal(torch.rand(3), expected)


def test_each_epoch_draws_every_sample_once_in_another_order(
    monkeypatch: pytest.MonkeyPatch, plain_neurons: None
) -> None:
    drawn: list[list[int]] = []

    def step(_network: object, batch: DeviceSplit, *_rest: object, **_named: object) -> Tensor:
        drawn.append(batch.labels.tolist())
        return torch.zeros(())

    monkeypatch.setattr(loop, "_train_step", step)
    numbered = replace(recordings(24), labels=torch.arange(24))
    epochs = train(
        TrainingRun(network=network(), training=numbered, recipe=RECIPE, schedule=SCHEDULE, seed=0), recordings(4)
    )
    assert [metrics.epoch for metrics, _ in epochs] == [1, 2]
    first, second = drawn[:3], drawn[3:]
    assert [len(batch) for batch in drawn] == [8] * 6
    for batches in (first, second):
        assert sorted(chain(*batches)) == list(range(24))
    assert first != second


# Learning


def test_the_loss_goes_down_and_the_task_is_learned(plain_neurons: None) -> None:
    recipe = replace(RECIPE, tet_lambda=0.05)
    curve, _ = trained(recipe=recipe, schedule=Schedule(epochs=5, learning_rate=5e-3), samples=64)
    metrics = [one for one, _ in curve]
    assert metrics[-1].loss < 0.8 * metrics[0].loss  # type: ignore[attr-defined]
    assert metrics[-1].accuracy > 0.8  # type: ignore[attr-defined]


def test_a_split_smaller_than_a_batch_is_one_batch(plain_neurons: None) -> None:
    _, weights = trained(samples=5, schedule=Schedule(epochs=1, learning_rate=1e-2))
    assert not is_equal(weights, network().state_dict())


def test_gates_learn_beside_the_task_by_their_weight_in_the_loss(plain_neurons: None) -> None:
    start = network().state_dict()
    gates = [name for name in start if ".gate.weight" in name]
    _, moved = trained(recipe=replace(RECIPE, gate_loss_weight=1.0))
    _, still = trained(recipe=replace(RECIPE, gate_loss_weight=0.0))
    assert any(not torch.equal(moved[name], start[name]) for name in gates)
    assert all(torch.equal(still[name], start[name]) for name in gates)


def test_finalists_keep_their_gates_and_train_all_else(plain_neurons: None) -> None:
    start = network().state_dict()
    schedule = Schedule.of_finalists(Final(epochs=2, learning_rate=1e-2))
    assert schedule == Schedule(epochs=2, learning_rate=1e-2, trains_gates=False)
    assert Schedule.of_finalists(Final(epochs=2), epochs=6).epochs == 6
    assert Schedule.of_finalists(Final(train_gates=True)).trains_gates
    subject = network()

    def kept(schedule: Schedule) -> set[str]:
        before = {name: values.clone() for name, values in subject.state_dict().items()}
        list(
            train(
                TrainingRun(network=subject, training=recordings(24), recipe=RECIPE, schedule=schedule, seed=0),
                recordings(10, seed=1),
            )
        )
        return {name for name, values in subject.state_dict().items() if torch.equal(values, before[name])}

    gates = {name for name in start if ".gate." in name}
    weights = {name for name in start if name.endswith("weight")}
    still = kept(schedule)
    assert gates <= still
    assert not still & (weights - gates)
    assert not kept(SCHEDULE) & gates & weights, "the same network trains its gates where a schedule says so"


def test_the_loss_of_a_step_is_the_tasks_and_the_mean_of_the_gates(plain_neurons: None) -> None:
    def loss(weight: float) -> float:
        subject, batch = network().train(), recordings(8)
        recipe = replace(RECIPE, gate_loss_weight=weight)
        optimizer = torch.optim.SGD(subject.parameters(), lr=0.0)
        return loop._train_step(subject, batch, recipe, optimizer).item()

    subject = network().train()
    subject(recordings(8).spikes(torch.float32))
    gates = [layer.gate_loss for layer in subject.modules() if isinstance(layer, SpikingConv2d)]
    losses = [value.item() for value in gates if value is not None]
    assert len(losses) == 7
    assert loss(2.0) - loss(0.0) == pytest.approx(2.0 * sum(losses) / 7, rel=1e-4)


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


def test_gates_learn_at_a_rate_of_their_own() -> None:
    optimizer = new_optimizer(network(), RECIPE, SCHEDULE)
    set_rate(optimizer, 0.01)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == pytest.approx([0.01, 0.01, 0.01 * GATE_RATE])


# Stopping


def test_nothing_happens_before_the_next_epoch_is_asked_for(plain_neurons: None) -> None:
    subject = network()
    start = {name: value.clone() for name, value in subject.state_dict().items()}
    epochs = train(
        TrainingRun(
            network=subject,
            training=recordings(16),
            recipe=RECIPE,
            schedule=Schedule(epochs=100, learning_rate=1e-3),
            seed=0,
        ),
        recordings(4),
    )
    assert is_equal(subject.state_dict(), start)
    metrics, _ = next(epochs)
    assert metrics.epoch == 1
    after_one = {name: value.clone() for name, value in subject.state_dict().items()}
    assert not is_equal(after_one, start)
    epochs.close()  # type: ignore[attr-defined]
    assert is_equal(subject.state_dict(), after_one)


@pytest.mark.parametrize("broken", ["conv1.weight", "conv4.norm.bias", "readout.linear.weight", "conv3.gate.bias"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_diverges(broken: str, value: float, plain_neurons: None) -> None:
    subject = network()
    with torch.no_grad():
        subject.get_parameter(broken).view(-1)[0] = value
    epochs = train(
        TrainingRun(network=subject, training=recordings(16), recipe=RECIPE, schedule=SCHEDULE, seed=0), recordings(4)
    )
    with pytest.raises(Diverged, match="epoch 1"):
        next(epochs)


@pytest.mark.parametrize("broken", ["conv1.weight", "readout.linear.weight"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_clipping_does_not_hide_what_is_not_finite(broken: str, value: float, plain_neurons: None) -> None:
    subject, recipe = network(), replace(RECIPE, max_grad_norm=1.0)
    with torch.no_grad():
        subject.get_parameter(broken).view(-1)[0] = value
    epochs = train(
        TrainingRun(network=subject, training=recordings(16), recipe=recipe, schedule=SCHEDULE, seed=0), recordings(4)
    )
    with pytest.raises(Diverged, match="epoch 1"):
        next(epochs)


def test_divergence_names_the_epoch_and_the_loss(monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    losses = iter([1.0, 2.0, 3.0, math.inf])
    monkeypatch.setattr(loop, "_train_step", lambda *_rest, **_named: torch.tensor(next(losses)))
    epochs = train(
        TrainingRun(network=network(), training=recordings(16), recipe=RECIPE, schedule=SCHEDULE, seed=0), recordings(4)
    )
    assert next(epochs)[0].loss == 1.5
    with pytest.raises(Diverged, match=r"^the mean loss of epoch 2 is inf$"):
        next(epochs)


def test_divergence_behind_a_finite_loss_names_the_weight(plain_neurons: None) -> None:
    subject = network()
    with torch.no_grad():
        subject.conv8.norm.bias[0] = math.nan
    epochs = train(
        TrainingRun(network=subject, training=recordings(16), recipe=RECIPE, schedule=SCHEDULE, seed=0), recordings(4)
    )
    with pytest.raises(Diverged, match=r"^after epoch 1, conv\d\.[a-z_.]+ is not finite$"):
        next(epochs)


# Precision


def test_the_recipe_chooses_the_type_of_training() -> None:
    cpu = torch.device("cpu")
    assert training_dtype(replace(RECIPE, precision="bf16"), cpu) is torch.bfloat16
    assert training_dtype(replace(RECIPE, precision="fp32"), cpu) is torch.float32


def test_fp16_is_refused_without_a_gpu_and_alone_needs_a_scale() -> None:
    recipe, cpu = replace(RECIPE, precision="fp16"), torch.device("cpu")
    with pytest.raises(UserError) as caught:
        training_dtype(recipe, cpu)
    assert str(caught.value) == (
        "train.precision: fp16 needs a GPU, and this training is on device cpu; take auto, bf16 or fp32"
    )
    assert training_dtype(recipe, torch.device("cuda")) is torch.float16
    for precision in ("auto", "bf16", "fp32"):
        assert loss_scaler(replace(RECIPE, precision=precision), cpu) is None


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, torch.bfloat16), ({"amx_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)],
)
def test_auto_is_bf16_where_the_processor_multiplies_it(
    capabilities: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert training_dtype(replace(RECIPE, precision="auto"), torch.device("cpu")) is expected


def test_bf16_is_for_training_alone(plain_neurons: None) -> None:
    seen: list[tuple[bool, torch.dtype]] = []
    subject = network()
    subject.conv4.register_forward_hook(lambda module, _inputs, out: seen.append((module.training, out.values.dtype)))
    epochs = train(
        TrainingRun(
            network=subject,
            training=recordings(8),
            recipe=replace(RECIPE, precision="bf16"),
            schedule=Schedule(epochs=1, learning_rate=1e-3),
            seed=0,
        ),
        recordings(4),
    )
    next(epochs)
    assert seen == [(True, torch.bfloat16), (False, torch.float32)]
    assert all(parameter.dtype == torch.float32 for parameter in subject.parameters())


# Evaluation


class Answers(nn.Module):
    """Says what it is told: logits [time, sample, class], whatever it sees."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits
        self.seen = 0

    def forward(self, spikes: Spikes) -> Tensor:
        batch = len(spikes.values) // spikes.time_steps
        self.seen += batch
        return self.logits[:, self.seen - batch : self.seen]


def test_the_prediction_is_the_mean_over_time_and_the_lowest_class_wins_a_tie() -> None:
    logits = torch.tensor(
        [
            [[3.0, 0.0, 0.0], [1.0, 2.0, 2.0], [0.0, 0.0, 1.0], [0.0, 5.0, 0.0]],
            [[0.0, 4.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 4.0]],
        ]
    )
    # Sums: (3, 4, 0) -> 1; (2, 2, 2) -> 0, the lowest; (0, 0, 2) -> 2; (0, 5, 4) -> 1.
    frames = torch.zeros(4, 2, 1, 16, 16, dtype=torch.uint8)
    for labels, expected in (([1, 0, 2, 1], 1.0), ([1, 1, 2, 1], 0.75), ([0, 1, 0, 2], 0.0)):
        found = evaluate(
            Answers(logits),
            DeviceSplit(frames=frames, labels=torch.tensor(labels), time_steps=frames.shape[1], largest=15),
        )
        assert found.accuracy == expected


def test_evaluation_does_not_depend_on_its_batches(monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    subject, split = network(), recordings(11)
    whole = evaluate(subject, split)
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 4)
    assert evaluate(subject, split) == whole
    assert accuracy(subject, split) == whole.accuracy
    assert not subject.training
    assert len(whole.layers) == len(whole.neurons) == 9


def test_totals_add_the_layers_and_weigh_densities_by_neurons(plain_neurons: None) -> None:
    found: Evaluation = evaluate(network(), recordings(6))
    activities = [activity for _, activity in found.layers]
    assert found.effective_macs == sum(activity.effective_macs for activity in activities)
    assert found.synaptic_ops == sum(activity.synaptic_ops for activity in activities)
    # Width 1/16: 4 channels at 16x16 and so on, 6 samples of 3 steps.
    neurons = [4 * 256, 8 * 64, 16 * 64, 16 * 16, 32 * 16, 32 * 4, 32 * 4, 32 * 1, 0]
    assert list(found.neurons) == [18 * count for count in neurons]
    spikes = sum(activity.density * count for activity, count in zip(activities, neurons, strict=True))
    assert found.density == pytest.approx(spikes / sum(neurons))
    assert 0 < found.density < 1


def test_an_epochs_metrics_are_those_of_its_evaluation(plain_neurons: None) -> None:
    (metrics, evaluation), *_ = trained()[0]
    names = ("accuracy", "effective_macs", "synaptic_ops", "density")
    assert [getattr(metrics, name) for name in names] == [getattr(evaluation, name) for name in names]


# Still images


def test_still_images_are_evaluated_as_if_shown_at_every_step_and_clamped_to_their_own_largest(
    plain_neurons: None,
) -> None:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (6, 1, 2, 16, 16), generator=generator, dtype=torch.uint8)
    labels = torch.arange(6) % 2
    still = DeviceSplit(frames=images, labels=labels, time_steps=3, largest=255)
    shown = DeviceSplit(frames=images.repeat(1, 3, 1, 1, 1), labels=labels, time_steps=3, largest=255)
    assert still.spikes(torch.float32).constant
    assert still.spikes(torch.float32).values.max() > 200
    assert evaluate(network(), still) == evaluate(network(), shown)
    schedule = Schedule(epochs=1, learning_rate=1e-2)
    recipe = replace(RECIPE, precision="fp32")
    losses = [
        next(train(TrainingRun(network=network(), training=data, recipe=recipe, schedule=schedule, seed=0), data))[
            0
        ].loss
        for data in (still, shown)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_imitation_takes_its_share_of_the_loss(plain_neurons: None) -> None:
    """With all of it the labels do not matter, and equal logits leave nothing to learn."""
    batch, subject = recordings(8), network(mass=1.0)
    with torch.no_grad():
        said = subject.train()(batch.spikes(torch.float32)).mean(dim=0)

    def loss(share: float, teacher_logits: Tensor | None) -> float:
        optimizer = torch.optim.SGD(subject.parameters(), lr=0.0)
        recipe = replace(RECIPE, distillation=share)
        return loop._train_step(subject, batch, recipe, optimizer, teacher_logits=teacher_logits).item()

    labels = loss(0.0, None)
    assert loss(1.0, said) == pytest.approx(0.0, abs=1e-6)
    assert loss(0.25, said) == pytest.approx(0.75 * labels, rel=1e-5)
    assert loss(0.5, None) == pytest.approx(labels)
