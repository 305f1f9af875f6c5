"""The float baseline: trained whatever fails from outside, and indispensable."""

from __future__ import annotations

import pytest
from driver.lab import DIED, Play, diverges
from examples import epoch

from spquant_search.errors import UserError
from spquant_search.runs.records import read_results
from spquant_search.runs.results import Outcome
from spquant_search.training.tasks import Task
from spquant_search.workers.messages import Epoch, Failed


def test_a_baseline_whose_trainer_failed_is_trained_again_by_the_same_command(new_lab):
    """What came from outside, as a process that was killed, may not come again; and no run is spoilt by it."""

    def dies(task: Task) -> Play:
        yield Epoch(metrics=epoch(1, 0.5, 1e6))
        yield Failed(reason=DIED, died=True)

    lab = new_lab()
    lab.plays[0] = dies
    with pytest.raises(UserError, match=r"could not be trained: the trainer process ended .* start the same command"):
        lab.run(2)
    assert read_results(lab.folder) == ()
    del lab.plays[0]
    results = lab.run(2)
    assert [result.outcome for result in results] == [Outcome.COMPLETE] * 3
    assert results[0].number == 0


def test_without_a_baseline_there_is_no_search(new_lab):
    lab = new_lab()
    lab.plays[0] = diverges
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            lab.run(5)
        assert str(caught.value) == (
            f"{lab.folder.path}: the float baseline could not be trained: the mean loss of epoch 1 is nan. "
            "Without it nothing can be compared; fix the cause (a smaller train.baseline_learning_rate where the "
            "loss diverged), and start a run of its own with --run NAME."
        )
        assert lab.trained == [0]
    assert all(trainer.closed for trainer in lab.trainers)
