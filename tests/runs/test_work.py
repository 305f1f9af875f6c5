"""The work of a search by hand: epochs, tasks and samples of each part."""

from __future__ import annotations

import pytest
from searches import TINY

from spquant_search.runs.work import (
    Part,
    PartWork,
    SampleCounts,
    samples_of_epoch,
    search_work,
    statistics_samples,
    work_left,
)
from spquant_search.training.prepare import prepare

SAMPLES = SampleCounts(train=512, validation=128, test=96)


def parts(*overrides: str, trials: int) -> dict[Part, PartWork]:
    return {work.part: work for work in search_work(prepare(TINY, overrides).space, SAMPLES, trials=trials)}


def counted(work: PartWork) -> tuple[int, int, int]:
    return work.tasks, work.trained_samples, work.evaluated_samples


@pytest.mark.parametrize(("available", "batch", "used"), [(512, 16, 512), (100, 16, 96), (10, 16, 10), (17, 16, 16)])
def test_an_epoch_trains_on_full_batches(available: int, batch: int, used: int) -> None:
    assert samples_of_epoch(available, batch) == used


@pytest.mark.parametrize(
    ("available", "wanted", "used"), [(512, 384, 384), (512, 300, 256), (100, 384, 100), (9, 4, 4)]
)
def test_statistics_are_of_full_batches(available: int, wanted: int, used: int) -> None:
    assert statistics_samples(available, wanted) == used


def test_a_search_with_a_supernet() -> None:
    found = parts("train.batch_size=100", "search.budget_ladder=2", "final.seeds=3", trials=5)
    assert list(found) == [
        *(Part.BASELINE, Part.SUPERNET, Part.LADDER, Part.TRIALS, Part.FINALISTS, Part.SEEDS, Part.TESTS)
    ]
    assert counted(found[Part.BASELINE]) == (1, 6 * 500, 6 * 128)
    assert counted(found[Part.SUPERNET]) == (1, 2 * 500, 512)  # what the baseline says of all 512, once
    # 9 layers with one lower choice of bits, 8 of levels, and the reference.
    assert counted(found[Part.LADDER]) == (18, 0, 18 * (128 + 128))
    assert counted(found[Part.TRIALS]) == (5, 0, 5 * (128 + 128))
    assert counted(found[Part.FINALISTS]) == (2, 2 * 500, 2 * 128)
    assert counted(found[Part.SEEDS]) == (4, 4 * 500, 4 * 128 + 2 * 3 * 96)
    assert counted(found[Part.TESTS]) == (8, 0, 8 * 96)
    assert [part for part, work in found.items() if work.at_most] == [Part.FINALISTS, Part.SEEDS, Part.TESTS]


def test_a_search_that_trains_every_candidate() -> None:
    found = parts("search.strategy=warm-start", "train.epochs=3", "search.workers=2", trials=5)
    assert list(found) == [Part.BASELINE, Part.TRIALS, Part.TESTS]
    # Both trainers ask what the baseline says before either has written it.
    assert counted(found[Part.TRIALS]) == (5, 5 * 3 * 512, 5 * 3 * 128 + 2 * 512)
    assert found[Part.TRIALS].at_most
    assert not parts("search.strategy=warm-start", "search.stopping.enabled=false", trials=5)[Part.TRIALS].at_most


def test_samples_that_change_are_shown_to_the_baseline_every_time() -> None:
    found = parts("train.augment.roll=2", trials=5)
    assert counted(found[Part.SUPERNET]) == (1, 2 * 512, 2 * 512)
    assert counted(found[Part.FINALISTS]) == (2, 2 * 512, 2 * (512 + 128))
    assert counted(parts("search.strategy=scratch", "train.augment.roll=2", trials=5)[Part.TRIALS]) == (5, 5120, 1280)


def test_without_trials_the_baseline_alone_is_trained_and_tested() -> None:
    assert {part: work.tasks for part, work in parts(trials=0).items()} == {Part.BASELINE: 1, Part.TESTS: 1}


def test_training_on_a_sample_is_three_passes() -> None:
    work = PartWork(part=Part.TRIALS, tasks=2, epochs=3, trained=10, evaluated=4, once=7)
    assert (work.steps, work.passes_of_step, work.passes) == (6, 34, 6 * 34 + 7)
    assert work.as_dict(macs=5) == {
        **{"part": "trials", "tasks": 2, "epochs": 3, "at_most": False},
        **{"trained_samples": 60, "evaluated_samples": 31, "passes": 211, "macs": 1055},
    }


def test_a_sample_in_fewer_time_steps_is_part_of_a_pass() -> None:
    found = parts("time_steps=[1,2,4]", "search.budget_ladder=2", "final.seeds=3", "search.references=[]", trials=5)
    one = parts("time_steps=4", "search.budget_ladder=2", "final.seeds=3", "search.references=[]", trials=5)
    assert list(found) == list(one)
    assert all(part is Part.LADDER or work.tasks == one[part].tasks for part, work in found.items())
    mean = (1 + 2 + 4) / 3 / 4
    # The float baseline has all steps, and says something of 512 samples in all of them.
    assert found[Part.BASELINE].passes == one[Part.BASELINE].passes == 6 * (3 * 512 + 128)
    # Steps are drawn inversely to their number, 12/7 on the mean: 5 epochs are 2 in all steps, but for the rounding.
    assert (found[Part.SUPERNET].epochs, one[Part.SUPERNET].epochs) == (5, 2)
    assert found[Part.SUPERNET].passes == round(12 / 7 / 4 * 5 * 3 * 512) + 512
    # 18 subnets in all steps, as with 4 alone, and the most precise one in 2 steps and in 1.
    assert found[Part.LADDER].passes == round((18 + 2 / 4 + 1 / 4) * (128 + 128))
    assert found[Part.TRIALS].passes == round(mean * 5 * (128 + 128))
    # As much work at any number of steps.
    assert found[Part.FINALISTS] == one[Part.FINALISTS]
    assert found[Part.SEEDS] == one[Part.SEEDS]
    assert found[Part.TESTS].passes == round(96 * (1 + 7 * mean))


def test_references_have_their_own_time_steps() -> None:
    space = prepare(TINY, ["time_steps=[1,3]"]).space
    known = [config.time_steps for config in space.references]
    assert len(known) == 2
    found = parts("time_steps=[1,3]", trials=4)[Part.TRIALS]
    assert found.share == pytest.approx((sum(known) + 2 * 2) / 4 / 3)
    assert parts("time_steps=[1,3]", trials=1)[Part.TRIALS].share == pytest.approx(known[0] / 3)


def test_what_augmentation_changes_is_taught_in_all_time_steps() -> None:
    several = parts("time_steps=[1,3]", "train.augment.roll=2", trials=5)
    # Steps of 3 / 2 on the mean, in 4 epochs instead of 2.
    assert several[Part.SUPERNET].passes == 4 * 3 * 512 // 2 + 4 * 512
    work = several[Part.FINALISTS]
    assert work.passes_of_step == pytest.approx((3 * 512 + 128) + 2 * 512)
    trained = parts("time_steps=[1,3]", "train.augment.roll=2", "search.strategy=warm-start", trials=5)[Part.TRIALS]
    assert trained.passes == round(trained.share * 5 * 2 * (3 * 512 + 128)) + 5 * 2 * 512


@pytest.mark.parametrize("strategy", ["supernet", "warm-start", "scratch"])
def test_passes_lie_between_those_of_the_fewest_and_the_most_time_steps(strategy: str) -> None:
    overrides = (f"search.strategy={strategy}", "train.augment.roll=1", "final.seeds=2")
    overrides += ("search.budget_ladder=2",) if strategy == "supernet" else ("final.seeds=1",)
    several, most = parts("time_steps=[1,2,6]", *overrides, trials=5), parts("time_steps=6", *overrides, trials=5)
    for part, work in several.items():
        # The ladder has a task for each number of steps besides, and what gets as much work in more epochs is taught in
        # each of them.
        if part not in (Part.LADDER, Part.SUPERNET, Part.FINALISTS, Part.SEEDS):
            assert most[part].passes / 6 <= work.passes <= most[part].passes
        assert work.passes == pytest.approx(
            work.steps * work.passes_of_step + work.once + work.share * work.tested, abs=1
        )


def test_what_is_left_of_the_work() -> None:
    works = search_work(prepare(TINY).space, SAMPLES, trials=5)
    left = work_left(works, {Part.BASELINE: 1, Part.TRIALS: 3, Part.FINALISTS: 9})
    assert [work.tasks for work in left] == [0, 1, 2, 0, 8]
