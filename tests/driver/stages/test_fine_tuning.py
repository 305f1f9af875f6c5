"""One supernet for all candidates, and the fine-tuning of the best of them."""

from __future__ import annotations

import time

import pytest
from driver.lab import SUPERNET, Killed, Play, plain

from spquant_search.errors import UserError
from spquant_search.runs.pareto import reference_point
from spquant_search.runs.results import Outcome
from spquant_search.runs.selection import Budget, front, greedy_hypervolume_subset, sampler_reference
from spquant_search.space.objectives import DEFAULT_COSTS
from spquant_search.training.schedule import Schedule
from spquant_search.training.tasks import SupernetTask, Task
from spquant_search.workers.messages import Failed


def test_subnets_then_the_best_of_them_are_fine_tuned(new_lab):
    lab = new_lab(*SUPERNET)
    results = lab.run(5)
    assert [len(lab.supernets), len(lab.subnets), lab.trained] == [1, 5, [0, 6, 7]]
    (supernet,) = lab.supernets
    assert supernet.initial_weights == lab.folder.weights_file(0)
    assert supernet.schedule == Schedule(epochs=2, learning_rate=2e-3)
    assert [result.outcome.name for result in results] == ["COMPLETE", *["SUBNET"] * 5, "COMPLETE", "COMPLETE"]
    assert lab.states() == ["COMPLETE"] * 8
    assert ("training the supernet, epochs done:", 2, 2) in lab.watching.stages
    for task, result in zip(lab.tasks[1:], results[6:], strict=True):
        parent = results[result.parent]
        assert (result.origin, result.config) == ("fine-tuned", parent.config)
        assert task.initial_weights == (lab.folder.supernet_file, lab.folder.weights_file(parent.number))
        assert not task.schedule.trains_gates
        assert [metrics.epoch for metrics in result.epochs] == [0, 1, 2]
        assert result.epochs[0] == parent.epochs[0]
        assert result.trained_epochs == 2
    # What was fine-tuned stands for what was evaluated as a subnet.
    assert not {result.parent for result in results} & {member.number for member in front(results, DEFAULT_COSTS)}


def test_gates_of_finalists_are_trained_where_the_space_says_so(new_lab):
    lab = new_lab(*SUPERNET, "final.train_gates=true")
    lab.run(5)
    assert [task.schedule.trains_gates for task in lab.tasks[1:]] == [True, True]


def test_finalists_are_those_that_add_most_to_the_front(new_lab):
    lab = new_lab(*SUPERNET)
    results = lab.run(5)
    read = [result for result in results if result.outcome is Outcome.SUBNET]
    point = sampler_reference(
        reference_point(results[0], DEFAULT_COSTS, chance=0.1, dearest={}), Budget()
    )  # none is so accurate as to be worthwhile
    first, second = greedy_hypervolume_subset(read, point, limit=2, margin=0.01)
    assert [result.parent for result in results[6:]] == [first.number, second.number]


def test_limits_count_subnets_and_no_finalists(new_lab):
    lab = new_lab(*SUPERNET)
    lab.run(3)
    results = lab.run(5)
    assert sum(result.outcome is Outcome.SUBNET for result in results) == 5
    assert len(lab.supernets) == 1
    parents = [result.parent for result in results if result.parent is not None]
    assert len(parents) == len(set(parents)) >= 2


def test_a_search_killed_amid_its_finalists_ends_as_if_it_had_not_been(new_lab):
    whole = new_lab(*SUPERNET, name="whole").run(5)

    def killed(_task: Task) -> Play:
        raise Killed
        yield

    lab = new_lab(*SUPERNET, name="killed")
    lab.plays[7] = killed
    with pytest.raises(Killed):
        lab.run(5)
    del lab.plays[7]
    assert [plain(result) for result in lab.run(5)] == [plain(result) for result in whole]
    assert [len(lab.supernets), len(lab.subnets), lab.trained] == [1, 5, [0, 6, 7, 7]]


def test_a_supernet_that_cannot_be_trained_ends_the_search_with_the_remedy(new_lab):
    lab = new_lab(*SUPERNET)

    def fails(_task: SupernetTask) -> Play:
        yield Failed(reason="Diverged: the mean loss of epoch 1 is nan")

    lab.supernet_play = fails
    with pytest.raises(UserError, match=r"the supernet could not be trained: Diverged: .*supernet\.learning_rate"):
        lab.run(5)
    assert not lab.subnets


def test_past_the_deadline_the_evaluated_subnets_are_the_front(new_lab):
    lab = new_lab(*SUPERNET)
    results = lab.run(5, deadline=time.monotonic() - 1)
    assert [result.number for result in results] == [0]
    assert len(lab.supernets) == 1
