"""The baseline and the front on the test split, each once."""

from __future__ import annotations

import pytest
from driver.lab import DIED, NO_STOPPING, ONE_WORKER, Killed, Play

from spquant_search.runs.records import read_test_accuracies
from spquant_search.runs.selection import front
from spquant_search.space.objectives import DEFAULT_COSTS
from spquant_search.training.tasks import TestTask
from spquant_search.workers.messages import Failed


def test_the_front_and_the_baseline_are_tested_once(new_lab):
    lab = new_lab(NO_STOPPING)
    results = lab.run(6)
    wanted = {0, *(member.number for member in front(results, DEFAULT_COSTS))}
    assert sorted(lab.tested) == sorted(wanted)
    assert read_test_accuracies(lab.folder) == {number: 0.01 * number for number in wanted}
    assert lab.watching.stages[-1] == ("testing the front on the test split", len(wanted), len(wanted))
    lab.tested.clear()
    lab.run(6)
    assert lab.tested == []
    more = lab.run(12)
    assert set(lab.tested) == {member.number for member in front(more, DEFAULT_COSTS)} - wanted


def test_a_search_killed_while_it_tests_keeps_what_was_tested(new_lab):
    def killed(_task: TestTask) -> Play:
        raise Killed
        yield

    last = max(member.number for member in front(new_lab(NO_STOPPING, ONE_WORKER, name="whole").run(6), DEFAULT_COSTS))
    lab = new_lab(NO_STOPPING, ONE_WORKER)
    lab.test_plays[last] = killed
    with pytest.raises(Killed):
        lab.run(6)
    kept = read_test_accuracies(lab.folder)
    assert kept
    assert last not in kept
    lab.test_plays.clear()
    lab.tested.clear()
    lab.run(6)
    assert last in lab.tested
    assert not kept.keys() & set(lab.tested)


def test_a_test_that_fails_is_said_and_done_at_the_next_start(new_lab):
    def dies(task: TestTask) -> Play:
        yield Failed(reason="the trainer process ended with exit code -9", died=True)

    lab = new_lab(NO_STOPPING, ONE_WORKER)
    lab.test_plays[0] = dies
    lab.run(2)
    assert lab.watching.warnings == [
        f"{DIED}; what it was doing begins again",
        f"a member of the front could not be tested: {DIED}",
    ]
    assert 0 not in read_test_accuracies(lab.folder)
    assert len(read_test_accuracies(lab.folder)) >= 1
    assert lab.restarts == 2
    lab.test_plays.clear()
    lab.tested.clear()
    lab.run(2)
    assert lab.tested == [0]
    assert 0 in read_test_accuracies(lab.folder)
