"""The front's subnets on the whole validation split."""

from __future__ import annotations

from dataclasses import replace

import pytest
from driver.lab import DIED, SUPERNET, Killed, Lab, Play, evaluates, judges

from spquant_search.runs.finals import read_judged, read_searched_results
from spquant_search.runs.selection import front
from spquant_search.space.objectives import DEFAULT_COSTS
from spquant_search.training.tasks import JudgeTask, SubnetTask
from spquant_search.workers.messages import Failed


def evaluates_on_a_part(task: SubnetTask) -> Play:
    (message,) = evaluates(task)
    (rung,) = message.result.epochs
    yield replace(message, result=replace(message.result, epochs=(replace(rung, samples=400),)))


def a_lab(new_lab, *overrides: str, name: str = "run") -> Lab:
    lab = new_lab(*SUPERNET, *overrides, name=name)
    lab.plays = dict.fromkeys(range(1, 13), evaluates_on_a_part)
    return lab


def run(lab: Lab) -> None:
    lab.run(12)
    lab.plays = {}


def members(lab: Lab):
    return front(read_searched_results(lab.folder), DEFAULT_COSTS)


def test_every_member_of_the_front_is_judged_by_the_whole_split(new_lab):
    lab = a_lab(new_lab)
    run(lab)
    found = members(lab)
    subnets = {member.number for member in found if member.outcome.name == "SUBNET"}
    assert subnets
    assert all(member.epochs[-1].samples is None for member in found)
    assert subnets <= set(lab.judged) == read_judged(lab.folder).keys()
    assert len(lab.judged) == len(set(lab.judged))
    # What the sampler has learned from stays.
    results = {result.number: result for result in lab.run(12)}
    assert all(results[number].epochs[-1].samples == 400 for number in subnets)


def test_what_is_less_accurate_than_it_seemed_leaves_the_front_and_the_next_is_judged(new_lab):
    whole = a_lab(new_lab, name="whole")
    run(whole)
    found = members(whole)
    first = next(
        one.number
        for one in found
        if one.number in whole.judged
        and any(
            other.memory_bytes <= one.memory_bytes and other.effective_macs <= one.effective_macs
            for other in found
            if other is not one
        )
    )

    def disappoints(task: JudgeTask) -> Play:
        (message,) = judges(task)
        (rung,) = message.result.epochs
        yield replace(message, result=replace(message.result, epochs=(replace(rung, accuracy=0.01),)))

    lab = a_lab(new_lab)
    lab.judge_plays[first] = disappoints
    run(lab)
    assert first not in {member.number for member in members(lab)}
    assert all(member.epochs[-1].samples is None for member in members(lab))


def test_a_search_that_is_killed_while_it_judges_goes_on_there(new_lab):
    def killed(_task: JudgeTask) -> Play:
        raise Killed
        yield

    whole = a_lab(new_lab, name="whole")
    run(whole)
    lab = a_lab(new_lab)
    lab.judge_plays[whole.judged[-1]] = killed
    with pytest.raises(Killed):
        run(lab)
    kept = read_judged(lab.folder).keys()
    assert kept == set(whole.judged[:-1])
    lab.judge_plays.clear()
    lab.judged.clear()
    lab.run(12)
    assert lab.judged == whole.judged[-1:]


def test_a_member_that_cannot_be_judged_is_said_and_stays_as_it_is(new_lab):
    def dies(_task: JudgeTask) -> Play:
        yield Failed(reason="the trainer process ended with exit code -9", died=True)

    whole = a_lab(new_lab, name="whole")
    run(whole)
    lab = a_lab(new_lab)
    lab.judge_plays[whole.judged[0]] = dies
    run(lab)
    assert f"a member of the front could not be measured: {DIED}" in lab.watching.warnings
    assert whole.judged[0] not in read_judged(lab.folder)


def test_what_all_samples_have_judged_is_not_measured_again(new_lab):
    lab = new_lab(*SUPERNET)
    lab.run(5)
    assert lab.judged == []


def test_trained_candidates_are_not_judged_again(new_lab):
    lab = new_lab()
    lab.run(4)
    assert lab.judged == []
