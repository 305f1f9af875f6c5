"""Training: what it repeats, where it stops, and what it leaves alone."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch
from small_training import RECIPE, SCHEDULE, is_equal, network, recordings, trained
from torch import Tensor, nn

from spquant_search.runs.random_streams import Purpose, derived_seed
from spquant_search.snn.spikes import Spikes
from spquant_search.space.schema import Augmentation, Final
from spquant_search.training import loop
from spquant_search.training.augmentation import augmented
from spquant_search.training.evaluation import Evaluation
from spquant_search.training.loader import DeviceSplit, HostSplit, LoadedSplit
from spquant_search.training.loop import Progress, TrainingRun, epoch_losses, train
from spquant_search.training.schedule import Schedule


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

    monkeypatch.setattr(loop, "train_step", step)
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
        seed = derived_seed(5, Purpose.AUGMENTATION, position // 3, position % 3)
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

    monkeypatch.setattr(loop, "train_step", step)
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


def test_the_loss_goes_down_and_the_task_is_learned(plain_neurons: None) -> None:
    recipe = replace(RECIPE, tet_lambda=0.05)
    curve, _ = trained(recipe=recipe, schedule=Schedule(epochs=8, learning_rate=5e-3), samples=64)
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


@pytest.mark.parametrize(("steps", "epochs"), [(4, 3), (2, 6), (1, 12)])
def test_fewer_time_steps_are_trained_for_more_epochs_of_as_much_work(steps: int, epochs: int) -> None:
    schedule = Schedule(epochs=3, learning_rate=1e-2, trains_gates=False)
    assert schedule.at(steps, most=4) == replace(schedule, epochs=epochs)
    assert schedule.at(steps, most=4).epochs * steps == schedule.epochs * 4


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


def test_an_epochs_metrics_are_those_of_its_evaluation(plain_neurons: None) -> None:
    (metrics, evaluation), *_ = trained()[0]
    names = ("accuracy", "effective_macs", "synaptic_ops", "density")
    assert [getattr(metrics, name) for name in names] == [getattr(evaluation, name) for name in names]
