"""The budget ladder and the sensitivity analysis of which it is made."""

from __future__ import annotations

import pytest
from driver.lab import DIED, LADDER, Killed, Play, killed_here, plain

from spquant_search.driver.study import Study
from spquant_search.errors import UserError
from spquant_search.runs.budget_ladder import plan_budget_ladder
from spquant_search.runs.records import read_results, read_sensitivity, read_sensitivity_progress
from spquant_search.runs.results import Outcome
from spquant_search.runs.sensitivity import by_layer, lowered_configurations
from spquant_search.training.tasks import AccuraciesTask, SubnetTask
from spquant_search.workers.messages import Failed


def test_the_ladder_follows_the_references_and_counts_as_trials(new_lab):
    lab = new_lab(*LADDER)
    results = lab.run(7)
    origins = [result.origin for result in results if result.parent is None]
    assert origins == [
        "baseline",
        "reference",
        "reference",
        "budget ladder",
        "budget ladder",
        "budget ladder",
        "tpe",
        "tpe",
    ]
    found = read_sensitivity(lab.folder)
    assert found is not None
    assert [result.config for result in results[3:6]] == [point.config for point in plan_budget_ladder(found, 3)]
    assert {result.outcome for result in results[1:8]} == {Outcome.SUBNET}
    # Every lower choice was evaluated as a subnet once, and none of it is a trial.
    wanted = lowered_configurations(lab.prepared.space)
    assert [config for task in lab.lowered for config in task.configs] == list(wanted.values())
    assert [len(task.configs) for task in lab.lowered] == [len(names) for names in by_layer(wanted)]
    assert len(lab.subnets) == 7
    assert found.samples == 1000
    assert not lab.folder.sensitivity_progress_file.exists()
    before_the_last = len(wanted) - len(lab.lowered[-1].configs)
    assert (
        "evaluating one lower precision after the other, done:",
        before_the_last,
        len(wanted),
    ) in lab.watching.stages


def test_all_trainers_evaluate_lower_precisions(new_lab):
    lab = new_lab(*LADDER, "search.workers=2")
    lab.run(5)
    assert lab.most_busy == 2
    alone = new_lab(*LADDER, name="alone")
    alone.run(5)
    assert read_sensitivity(lab.folder) == read_sensitivity(alone.folder)


def test_samples_are_those_that_judge_a_subnet(new_lab):
    lab = new_lab(*LADDER, "supernet.validation_samples=300")
    lab.run(3)
    assert read_sensitivity(lab.folder).samples == 300


@pytest.mark.parametrize("overrides", [("search.budget_ladder=0",), ()])
def test_without_a_ladder_or_room_for_one_no_lower_precision_is_evaluated(new_lab, overrides):
    lab = new_lab(*LADDER, *overrides)
    results = lab.run(5 if overrides else 2)
    assert not lab.lowered
    assert "budget ladder" not in {result.origin for result in results}


def test_a_limit_amid_the_ladder_holds_and_more_trials_go_on_with_it(new_lab):
    lab = new_lab(*LADDER)
    results = lab.run(3)
    assert [result.origin for result in results] == [
        *("baseline", "reference", "reference", "budget ladder", "fine-tuned", "fine-tuned"),
    ]
    count = len(lab.lowered)
    results = lab.run(6)
    tried = [result.origin for result in results if result.parent is None]
    assert tried[3:] == ["budget ladder", "budget ladder", "budget ladder", "tpe"]
    assert len({result.config for result in results if result.origin == "budget ladder"}) == 3
    assert len(lab.lowered) == count


def test_references_beyond_the_limit_are_not_tried_in_the_place_of_finalists(new_lab):
    lab = new_lab(*LADDER)
    assert [result.origin for result in lab.run(1)] == ["baseline", "reference", "fine-tuned"]
    assert lab.states() == ["COMPLETE"] * 3
    tried = [result.origin for result in lab.run(2) if result.parent is None]
    assert tried == ["baseline", "reference", "reference"]


@pytest.mark.parametrize("place", ["reference", "accuracies", "ladder", "sampled"])
def test_a_search_killed_around_its_ladder_ends_as_if_it_had_not_been(new_lab, place):
    whole_lab = new_lab(*LADDER, name="whole")
    whole = whole_lab.run(7)
    lab = new_lab(*LADDER, name="killed")
    if place == "accuracies":
        lab.lower_plays[6] = killed_here
    else:
        lab.plays[{"reference": 2, "ladder": 4, "sampled": 6}[place]] = killed_here
    with pytest.raises(Killed):
        lab.run(7)
    lab.plays.clear()
    lab.lower_plays.clear()
    assert list(map(plain, lab.run(7))) == list(map(plain, whole))
    assert lab.folder.sensitivity_file.read_bytes() == whole_lab.folder.sensitivity_file.read_bytes()
    assert len(lab.lowered) == len(whole_lab.lowered) + (place == "accuracies")
    assert lab.states() == whole_lab.states()


def test_killed_between_queueing_and_asking_a_step_of_the_ladder_is_tried_once(new_lab, monkeypatch):
    whole = new_lab(*LADDER, name="whole").run(7)
    lab = new_lab(*LADDER, name="killed")
    real = Study._queue_planned

    def dies_after_queueing(study: Study) -> None:
        real(study)
        if study.budget_ladder:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Study, "_queue_planned", dies_after_queueing)
        with pytest.raises(Killed):
            lab.run(7)
    assert list(map(plain, lab.run(7))) == list(map(plain, whole))


def test_a_subnet_that_fails_costs_the_ladder_and_not_the_search(new_lab):
    def dies(_task: SubnetTask) -> Play:
        yield Failed(reason=DIED, died=True)

    lab = new_lab(*LADDER)
    lab.lower_plays[2] = lab.lower_plays[3] = dies
    results = lab.run(4)
    assert [result.origin for result in results if result.parent is None][3:] == ["tpe", "tpe"]
    assert lab.watching.warnings == [
        f"{DIED}; what it was doing begins again",
        f"conv1.weight_bits=4 and 3 more of its layer could not be evaluated: {DIED}",
        "the search goes on without its budget ladder, as not every choice could be evaluated",
    ]
    assert lab.restarts == 2


@pytest.mark.parametrize("strategy", ["supernet", "warm-start"])
def test_sensitivity_alone_trains_what_it_needs_and_a_search_goes_on_from_it(new_lab, strategy):
    overrides = (*LADDER, f"search.budget_ladder={3 * (strategy == 'supernet')}", f"search.strategy={strategy}")
    lab = new_lab(*overrides)
    found = lab.run_sensitivity()
    assert [len(lab.supernets), lab.trained, lab.subnets] == [1, [0], []]
    assert [result.number for result in read_results(lab.folder)] == [0]
    assert all(trainer.closed for trainer in lab.trainers)
    count = len(lab.lowered)
    assert lab.run_sensitivity() == found
    results = lab.run(6)
    assert [len(lab.supernets), len(lab.lowered)] == [1, count]
    assert list(map(plain, results)) == list(map(plain, new_lab(*overrides, name="whole").run(6)))


def test_sensitivity_goes_on_where_it_was_killed(new_lab):
    lab = new_lab(*LADDER)
    lab.lower_plays[4] = killed_here
    with pytest.raises(Killed):
        lab.run_sensitivity()
    assert len(read_sensitivity_progress(lab.folder)) == sum(len(task.configs) for task in lab.lowered[:3])
    lab.lower_plays.clear()
    found = lab.run_sensitivity()
    assert len(lab.lowered) == len(by_layer(lowered_configurations(lab.prepared.space))) + 1
    assert found == new_lab(*LADDER, name="whole").run_sensitivity()


def test_sensitivity_with_a_subnet_missing_is_refused_and_completed_later(new_lab):
    def fails(_task: AccuraciesTask) -> Play:
        yield Failed(reason="RuntimeError: out of memory")

    lab = new_lab(*LADDER)
    lab.lower_plays[1] = fails
    with pytest.raises(UserError, match="not every choice could be evaluated, for the reasons above; fix them"):
        lab.run_sensitivity()
    assert lab.watching.warnings == ["reference could not be evaluated: RuntimeError: out of memory"]
    lab.lower_plays.clear()
    lab.run_sensitivity()
    assert len(lab.lowered) == len(by_layer(lowered_configurations(lab.prepared.space))) + 1
