"""Fewer time steps than frames: neighbouring frames are summed, in training, statistics and evaluation alike."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from examples import trial
from torch import Tensor, nn

from spquant_search.runs.random_streams import Purpose, derived_seed
from spquant_search.runs.results import Outcome
from spquant_search.snn.layers import configure
from spquant_search.snn.spikes import spikes_from_frames
from spquant_search.space.search_space import SearchSpace
from spquant_search.space.shapes import InputShape
from spquant_search.training.distillation import FloatTeacher
from spquant_search.training.loader import DeviceSplit, HostSplit, LoadedSplit, at_time_steps, take
from spquant_search.training.network import new_network, write_weights
from spquant_search.training.prefix_reuse import subnet_accuracies
from spquant_search.training.prepare import prepare
from spquant_search.training.schedule import Schedule
from spquant_search.training.supernet import RandomSubnets, random_configuration
from spquant_search.training.tasks import JudgeTask, SubnetTask, Task, TestTask
from spquant_search.training.trial import run_judgement, run_subnet, run_test, run_trial

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"
SHAPE = InputShape(channels=2, height=34, width=34, classes=10, largest=15)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    overrides = ("train.batch_size=8", "train.precision=fp32", "model.width=0.03125", "time_steps=[1, 2, 4]")
    return prepare(TINY, (*overrides, "supernet.validation_samples=12", "supernet.statistics_samples=16")).space


def recordings(samples: int, *, most: int = 5) -> DeviceSplit:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, most, (samples, 4, 2, 34, 34), generator=generator, dtype=torch.uint8)
    return DeviceSplit(frames=frames, labels=torch.arange(samples) % 10, time_steps=4, largest=15)


def summed(split: DeviceSplit, steps: int) -> DeviceSplit:
    """The same recordings with frames of so many steps, by loops."""
    frames = split.frames.numpy().astype(int)
    together = frames.shape[1] // steps
    made = np.zeros((len(frames), steps, *frames.shape[2:]), int)
    for step in range(frames.shape[1]):
        made[:, step // together] += frames[:, step]
    return replace(split, frames=torch.from_numpy(np.minimum(made, 255).astype(np.uint8)), time_steps=steps)


def a_network(space: SearchSpace, seed: int = 1) -> nn.Module:
    return new_network(space.file, SHAPE, seed=seed, device=CPU)


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("most", [5, 255])
def test_fewer_steps_are_sums_that_are_clamped_afterwards(steps: int, most: int) -> None:
    split = recordings(3, most=most)
    for largest in (15, 255):
        found = spikes_from_frames(split.frames, largest=largest, dtype=torch.float32, time_steps=steps)
        expected = np.minimum(summed(split, steps).frames.numpy(), largest).swapaxes(0, 1).reshape(-1, 2, 34, 34)
        np.testing.assert_array_equal(found.values.numpy(), expected)
        assert (found.time_steps, found.constant) == (steps, False)


def test_a_still_image_is_one_frame_at_any_number_of_steps() -> None:
    frames = recordings(3).frames[:, :1]
    for steps in (1, 2, 4):
        found = spikes_from_frames(frames, largest=15, dtype=torch.float32, time_steps=steps)
        assert torch.equal(found.values, frames[:, 0].float())
        assert (found.time_steps, found.constant) == (steps, steps > 1)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_batches_of_a_split_on_the_host_are_summed_too(steps: int) -> None:
    split = recordings(5)
    host: LoadedSplit = HostSplit(frames=split.frames, labels=split.labels, time_steps=4, largest=15, device=CPU)
    chosen = torch.tensor([4, 0, 2])
    (batch,) = at_time_steps(host, steps).batches(3, order=chosen)
    found = batch.spikes(torch.float32)
    assert torch.equal(found.values, summed(split, steps).batch(chosen).spikes(torch.float32).values)


# ---------------------------------------------------------------- what is done at a configuration's steps


def a_config(space: SearchSpace, steps: int) -> Any:
    generator = random.Random(3)
    return next(one for one in iter(lambda: random_configuration(space, generator), None) if one.time_steps == steps)


def a_result(config: Any) -> Any:
    return replace(trial(3, of=config, outcome=Outcome.FAILED, reason="not finished"), epochs=(), seconds=0.0)


def figures(result: Any) -> Any:
    return [replace(epoch, seconds=0.0) for epoch in result.epochs], result.layers, result.outcome


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_training_testing_and_judging_at_fewer_steps_are_those_of_summed_frames(
    space: SearchSpace, tmp_path: Path, plain_neurons: None, steps: int
) -> None:
    config, splits = a_config(space, steps), {"training": recordings(16), "validation": recordings(20)}
    given, known = {name: summed(split, steps) for name, split in splits.items()}, a_result(config)
    supernet = tmp_path / "supernet.safetensors"
    write_weights(a_network(space), supernet)
    found: dict[str, list[Any]] = {"trained": [], "tested": [], "subnet": [], "judged": []}
    for number, shown in enumerate((splits, given)):
        weights = tmp_path / f"{number}.safetensors"
        task = Task(
            result=known,
            schedule=Schedule(epochs=1, learning_rate=2e-3),
            initial_weights=(supernet,),
            weights_file=weights,
        )
        trained = run_trial(task, space.file, **shown, shape=SHAPE, stop_reason=lambda _: None)
        found["trained"].append(figures(trained))
        test = TestTask(number=3, config=config, weights=(weights,))
        found["tested"].append(run_test(test, space.file, shape=SHAPE, split=shown["validation"]))
        statistics = tmp_path / f"{number}.statistics.safetensors"
        subnet = run_subnet(
            SubnetTask(result=known, supernet_weights=supernet, weights_file=statistics),
            space.file,
            **shown,
            shape=SHAPE,
        )
        found["subnet"].append(figures(subnet))
        judgement = JudgeTask(result=subnet, weights=(supernet, statistics))
        judged = run_judgement(judgement, space.file, validation=shown["validation"], shape=SHAPE)
        found["judged"].append(figures(judged))
        assert (subnet.epochs[0].samples, judged.epochs[0].samples) == (12, None)
        # Judged by the samples of the part alone, it is what the part has said.
        again = run_judgement(judgement, space.file, validation=take(shown["validation"], 12), shape=SHAPE)
        assert again.epochs[0].accuracy == subnet.epochs[0].accuracy
        assert again.layers == subnet.layers
    for name, (of_steps, of_sums) in found.items():
        assert of_steps == of_sums, name


def test_subnets_that_take_turns_have_one_number_of_steps(space: SearchSpace, plain_neurons: None) -> None:
    training, validation = recordings(16), recordings(20)
    two, one = a_config(space, 2), a_config(space, 1)
    options: dict[str, Any] = {"neuron": space.file.neuron, "samples": 16}
    found = subnet_accuracies(a_network(space), [two, two], training=training, validation=validation, **options)
    expected = subnet_accuracies(
        a_network(space), [two, two], training=summed(training, 2), validation=summed(validation, 2), **options
    )
    assert found == expected
    with pytest.raises(ValueError, match="time steps cannot take turns"):
        subnet_accuracies(a_network(space), [two, one], training=training, validation=validation, **options)


@pytest.mark.parametrize("varied", [False, True])
def test_the_teacher_sees_the_most_steps_whatever_the_subnet_sees(
    space: SearchSpace, plain_neurons: None, varied: bool
) -> None:
    training, network = recordings(24), a_network(space)
    configure(network, space.baseline(), space.file.neuron)
    teacher = FloatTeacher(copy.deepcopy(network), training, varied=varied)
    hook = RandomSubnets(network, space, seed=0, teacher=teacher)
    generator, seen = random.Random(derived_seed(0, Purpose.SUBNETS)), set[int]()
    chosen = torch.tensor([3, 17, 8])
    with torch.no_grad():
        expected: Tensor = copy.deepcopy(network).eval()(training.batch(chosen).spikes(torch.float32)).mean(dim=0)
    for _ in range(12):
        lesson = hook(training.batch(chosen), chosen)
        assert lesson.batch.time_steps == random_configuration(space, generator).time_steps
        assert lesson.teacher_logits is not None
        torch.testing.assert_close(lesson.teacher_logits, expected)
        seen.add(lesson.batch.time_steps)
    assert seen == {1, 2, 4}
    # Of a trial at fewer steps as well.
    fewer = teacher(at_time_steps(training, 1).batch(chosen), chosen)
    assert fewer.batch.time_steps == 1
    assert fewer.teacher_logits is not None
    torch.testing.assert_close(fewer.teacher_logits, expected)
