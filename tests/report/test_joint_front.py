"""The joint front of several runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from examples import config, example_run, trial
from pages import random_page

from spquant_search.errors import UserError
from spquant_search.report.joint_front import joint_document, joint_front, joint_table
from spquant_search.runs import pareto

WIDE = example_run(run="wide")
NARROW = example_run(
    run="narrow",
    network="vgg5",
    results=(
        trial(0, 0.82, 40, 20, origin="baseline", of=config("000", "0 0")),
        trial(1, 0.85, 12, 12.5),  # the wide run's trial 2 is better in all
        trial(2, 0.8, 5, 6),
    ),
)


def names(summaries) -> list[tuple[str, int]]:
    return [(member.run, member.result.number) for member in joint_front(summaries)]


def test_what_another_run_dominates_leaves():
    assert names([WIDE, NARROW]) == [("narrow", 2), ("wide", 2), ("wide", 0)]
    assert names([WIDE]) == [("wide", member.number) for member in WIDE.front]


def test_a_joint_front_is_that_of_all_trials_together():
    one, two = random_page(50).summary, replace(random_page(50, seed=1).summary, run="other")
    together = [*one.compared, *two.compared]
    keep = pareto.non_dominated(pareto.objectives(together, one.costs))
    wanted = pareto.objectives([result for result, kept in zip(together, keep, strict=True) if kept], one.costs)
    found = pareto.objectives([member.result for member in joint_front([one, two])], one.costs)
    assert np.array_equal(np.sort(found, axis=0), np.sort(wanted, axis=0))


def test_the_table_names_runs_and_baselines():
    text = joint_table([WIDE, NARROW]).plain()
    assert "the joint front of wide and narrow: accuracy, memory and operations" in text
    assert "members of the runs' own fronts that stay: 2 of 2 of wide (vgg9), 1 of" in text
    assert "float baseline of wide: 90.0 %, 100.0 KiB" in text
    assert "float baseline of narrow: 82.0 %, 40.0 KiB" in text


def test_the_document_has_every_member_with_its_run():
    document = joint_document([WIDE, NARROW])
    assert document["runs"] == ["wide", "narrow"]
    assert [(member["run"], member["number"]) for member in document["members"]] == names([WIDE, NARROW])
    assert [(member["run"], member["number"]) for member in document["baselines"]] == [("wide", 0), ("narrow", 0)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": "digits"}, "data ('fashion-events (simulated)', 'digits')"),
        ({"classes": ("a", "b")}, "classes"),
        ({"validation_samples": 100}, "validation samples ('2,000', '100')"),
        ({"costs": ("memory_bytes",)}, "objectives"),
    ],
)
def test_runs_that_measure_other_things_have_none(changes, words):
    with pytest.raises(UserError) as refused:
        joint_front([WIDE, replace(NARROW, **changes)])
    assert words in str(refused.value)
    assert "wide and narrow: these runs have no joint front" in str(refused.value)
