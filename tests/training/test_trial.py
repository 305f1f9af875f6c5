"""One configuration's training as a trainer does it: begun again, it goes on from its checkpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from examples import trial
from safetensors.torch import load_file

from spquant_search.runs.results import EpochMetrics, Outcome, TrialResult
from spquant_search.space.search_space import SearchSpace
from spquant_search.space.shapes import InputShape
from spquant_search.training.compilation import compile_ahead
from spquant_search.training.loader import DeviceSplit
from spquant_search.training.network import new_network, write_weights
from spquant_search.training.prepare import prepare
from spquant_search.training.schedule import Schedule
from spquant_search.training.tasks import AccuraciesTask, SubnetTask, SupernetTask, Task
from spquant_search.training.trial import run_accuracies, run_subnet, run_supernet, run_trial

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"
SHAPE = InputShape(channels=2, height=34, width=34, classes=10, largest=15)


class Killed(BaseException):
    """As a process that ends amid its work."""


def dies_at(epoch: int) -> Callable[[EpochMetrics], None]:
    """The coordinator's answer never comes."""

    def answer(metrics: EpochMetrics) -> None:
        if metrics.epoch == epoch:
            raise Killed

    return answer


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return prepare(TINY, ("train.batch_size=8", "train.precision=fp32", "model.width=0.03125")).space


def recordings(samples: int) -> DeviceSplit:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 3, (samples, 3, 2, 34, 34), generator=generator, dtype=torch.uint8)
    return DeviceSplit(frames=frames, labels=torch.arange(samples) % 10, time_steps=3, largest=15)


def a_task(space: SearchSpace, folder: Path) -> Task:
    known = replace(
        trial(3, of=space.references[0], outcome=Outcome.FAILED, reason="not finished"), epochs=(), seconds=0.0
    )
    return Task(
        result=known,
        schedule=Schedule(epochs=3, learning_rate=2e-3),
        initial_weights=(),
        weights_file=folder / "0003.safetensors",
    )


def run(task: Task, space: SearchSpace, stop_reason: Callable[[EpochMetrics], str | None]) -> TrialResult:
    training, validation = recordings(16), recordings(10)
    task.weights_file.parent.mkdir(exist_ok=True)
    return run_trial(task, space.file, training=training, validation=validation, shape=SHAPE, stop_reason=stop_reason)


def timeless(result: TrialResult) -> TrialResult:
    epochs = tuple(replace(epoch, seconds=0.0) for epoch in result.epochs)
    return replace(result, epochs=epochs, seconds=0.0)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_begun_again_a_trial_goes_on_from_its_last_epoch(
    epoch: int, space: SearchSpace, tmp_path: Path, plain_neurons: None
) -> None:
    """Killed while the coordinator is asked about an epoch: what was done before it is kept, and so is the result."""
    undisturbed = run(a_task(space, tmp_path / "a"), space, lambda _: None)
    assert undisturbed.outcome is Outcome.COMPLETE
    task = a_task(space, tmp_path / "b")
    with pytest.raises(Killed):
        run(task, space, dies_at(epoch))
    told: list[int] = []
    again = run(task, space, lambda metrics: told.append(metrics.epoch))
    assert timeless(again) == timeless(undisturbed)
    assert told == [1, 2, 3], "the coordinator that asks may not have heard of the earlier ones"
    left, right = (load_file(tmp_path / name / "0003.safetensors") for name in "ab")
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["0003.safetensors"]


def test_a_trial_may_be_stopped_at_an_epoch_that_was_kept(
    space: SearchSpace, tmp_path: Path, plain_neurons: None
) -> None:
    task = a_task(space, tmp_path)
    with pytest.raises(Killed):
        run(task, space, dies_at(3))
    stopped = run(task, space, lambda metrics: "dominated" if metrics.epoch == 2 else None)
    assert (stopped.outcome, stopped.reason) == (Outcome.STOPPED, "dominated")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["of another task", "damaged"])
def test_a_checkpoint_that_does_not_fit_is_left_alone(
    how: str, space: SearchSpace, tmp_path: Path, plain_neurons: None
) -> None:
    task = a_task(space, tmp_path)
    with pytest.raises(Killed):
        run(task, space, dies_at(2))
    checkpoint = tmp_path / "0003.checkpoint"
    if how == "damaged":
        checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    else:
        task = replace(task, result=replace(task.result, seed=6))
    expected = run(replace(task, weights_file=tmp_path / "other" / "0003.safetensors"), space, lambda _: None)
    assert timeless(run(task, space, lambda _: None)) == timeless(expected)


@pytest.mark.parametrize(("hits", "misses", "pieces"), [(0, 0, 4), (3, 0, 1), (3, 1, 4)])
def test_what_is_cached_is_not_compiled_ahead(
    hits: int, misses: int, pieces: int, space: SearchSpace, monkeypatch: pytest.MonkeyPatch, plain_neurons: None
) -> None:
    counted = {"inductor": Counter({"fxgraph_cache_hit": hits, "fxgraph_cache_miss": misses})}
    monkeypatch.setattr("spquant_search.snn.kernels.compile.counters", counted)
    assert len(list(compile_ahead(space, training=recordings(4), shape=SHAPE))) == pieces


def test_readings_are_the_accuracies_of_the_read_outs(space: SearchSpace, tmp_path: Path, plain_neurons: None) -> None:
    shared = tmp_path / "supernet.safetensors"
    write_weights(new_network(space.file, SHAPE, seed=1, device=torch.device("cpu")), shared)
    splits: Any = {"training": recordings(16), "validation": recordings(40), "shape": SHAPE}
    configs, read = (space.references[0], space.references[1]), []
    for config in configs:
        known = trial(1, of=config, outcome=Outcome.FAILED, reason="not finished")
        task = SubnetTask(result=known, supernet_weights=shared, weights_file=tmp_path / "0001.safetensors")
        read.append(run_subnet(task, space.file, **splits).accuracy)
    assert run_accuracies(AccuraciesTask(configs=configs, supernet_weights=shared), space.file, **splits) == tuple(read)
    assert 0.0 < min(read) < 1.0


def test_a_shared_network_that_two_have_trained_is_the_first_ones(
    space: SearchSpace, tmp_path: Path, plain_neurons: None
) -> None:
    """Configurations may have been evaluated as subnets of it already."""
    baseline, shared = tmp_path / "0000.safetensors", tmp_path / "supernet.safetensors"
    write_weights(new_network(space.file, SHAPE, seed=1, device=torch.device("cpu")), baseline)
    found = []
    for seed in (3, 4):
        schedule = Schedule(epochs=1, learning_rate=2e-3)
        task = SupernetTask(schedule=schedule, seed=seed, initial_weights=baseline, weights_file=shared)
        assert len(list(run_supernet(task, space, training=recordings(16), shape=SHAPE))) == 1
        found.append(shared.read_bytes())
    assert found[0] == found[1]
    alone = replace(task, weights_file=tmp_path / "alone.safetensors")
    list(run_supernet(alone, space, training=recordings(16), shape=SHAPE))
    assert alone.weights_file.read_bytes() != found[0], "the second was another"
