"""Why nothing fits a budget, and what is said of what was picked."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from examples import config, epoch, example_run, trial
from hypothesis import given
from hypothesis import strategies as st

from spquant_search.report.pick_reasons import Wish, why_not_on_the_front, why_nothing_fits
from spquant_search.report.picked import picked_lines
from spquant_search.runs import selection
from spquant_search.runs.finals import TestUse
from spquant_search.runs.results import FineTuning, Outcome
from spquant_search.runs.selection import Budget

SMALLEST = {"memory_bytes": 4096, "flash_bytes": 8192, "ram_bytes": 1024}
# Trial 2 alone can be picked: 86.4 %, 10,240 bytes (8 tenths of them in flash, which has 3,000 besides), 25 MFLOPs.
RUN = example_run()


def asked(**wished: str) -> Wish:
    """What `pick` is asked for; by the figure, option and value as they were written, and their meaning."""
    names = {
        "memory_bytes": "max_memory_bytes",
        "flash_bytes": "max_flash_bytes",
        "ram_bytes": "max_ram_bytes",
        "effective_flops": "max_effective_flops",
        "accuracy": "min_accuracy",
    }
    budget = Budget(**{names[name]: float(text.split("=")[1]) for name, text in wished.items()})
    return Wish(budget=budget, options={name: text.split("=")[0] for name, text in wished.items()})


def reasons(run=RUN, **wished: str) -> str:
    return why_nothing_fits(run, selection.pickable(run.front), asked(**wished), smallest=SMALLEST)


def test_every_missed_bound_is_told_with_what_it_was_read_as():
    text = reasons(memory_bytes="--max-memory 9KiB=9216", accuracy="--min-accuracy 90%=0.9")
    assert text.splitlines() == [
        "no member of the front fits. Nearest is trial 2 (86.4 %, 10.0 KiB, 25.0 MFLOPs), which misses",
        "  --max-memory 9KiB: it has 10,240 bytes, 1,024 bytes more than 9,216 bytes",
        "  --min-accuracy 90%: it has 86.4 %, 3.6 points less than 90 %",
        "  the smallest configuration of this space takes 4,096 bytes of memory: more --trials may find one that fits",
        "  `spquant-search finalize` trains the front's members on, and more --trials may find a more accurate one",
        "Give a looser budget, or see all members: spquant-search front tiny",
    ]


@pytest.mark.parametrize(
    ("wished", "meant"),
    [
        ({"flash_bytes": "--max-flash 24=24"}, "24KiB"),
        ({"memory_bytes": "--max-memory 12.5=12.5"}, "12.5KiB"),
        ({"effective_flops": "--max-flops 60=60"}, "60M"),
        ({"flash_bytes": "--max-flash 2=2"}, None),  # neither would 2 KiB do
        ({"flash_bytes": "--max-flash 24B=24"}, None),  # said in so many words
    ],
)
def test_a_number_without_a_unit_is_asked_about(wished, meant):
    text = reasons(**wished)
    assert ("did you mean" in text) == (meant is not None)
    if meant:
        assert f"did you mean {meant}?" in text
        assert "no search" not in text
        assert "--trials" not in text


def test_no_search_is_advised_where_none_can_help():
    assert "no search of this space can do it: its smallest configuration takes 8,192 bytes of flash" in reasons(
        flash_bytes="--max-flash 8000B=8000"
    )
    assert "no search of this space can do it: its smallest configuration takes 1,024 bytes of RAM" in reasons(
        ram_bytes="--max-ram 1000B=1000"
    )
    dense = example_run(results=(RUN.results[0], trial(1, 0.85, 20, 50), trial(2, 0.8, 10, 50)))
    assert "no layer has a channel gate or skips neurons; give layers choices" in reasons(
        dense, effective_flops="--max-flops 60M=60e6"
    )
    assert "more --trials may find one with fewer operations" in reasons(effective_flops="--max-flops 20M=20e6")
    # 90 % of 2,000 is at most 91.3 %.
    hardly = "the most accurate network of this run, the float baseline, has 90.0 %: more trials will hardly do it"
    assert hardly in reasons(accuracy="--min-accuracy 95%=0.95")
    better = example_run(results=(*RUN.results[:2], replace(trial(2, 0.93), config=RUN.results[2].config)))
    assert "trial 2, has 93.0 %: more" in reasons(better, accuracy="--min-accuracy 99%=0.99")
    assert "hardly" not in reasons(better, accuracy="--min-accuracy 94%=0.94")


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (9, "there is no trial 9"),
        (4, "trial 4 left no network: trial 2 is better in every objective"),
        (5, "trial 5 left no network: the loss became"),
        (3, "trial 3 is beaten by trial 2 in all objectives"),
    ],
)
def test_why_a_trial_is_no_member(number, reason):
    assert why_not_on_the_front(RUN, number).startswith(reason)


def test_why_a_trial_is_no_member_by_constraints_and_by_its_heir():
    read = replace(trial(1, 0.8, 10, 10, outcome=Outcome.SUBNET), epochs=(epoch(0, 0.8, 10e6),))
    tuned = replace(trial(2, 0.85, 10, 10), parent=1)
    run = example_run(results=(RUN.results[0], read, tuned))
    assert why_not_on_the_front(run, 1) == "trial 1 was fine-tuned as trial 2"
    bound = example_run(budget=Budget(max_memory_bytes=20_000))
    assert why_not_on_the_front(bound, 0) == "trial 0 is not within the constraints: memory_bytes"
    assert why_not_on_the_front(example_run(results=(RUN.results[0], replace(trial(1), epochs=()))), 1) == (
        "trial 1 has no accuracy"
    )


def test_what_was_picked_is_told_with_its_doubts():
    run = example_run(test_accuracy={2: 0.851}, test_samples=500, test_use=TestUse(members=1), validation_samples=400)
    text = "\n".join(picked_lines(run, run.results[2], "picked"))
    assert text.startswith("trial 2 of 2 members of the front: 86.4 %, 10.0 KiB, 25.0 MFLOPs -> picked\n")
    assert "validation 86.4 %, 82.6 to 89.5, on 400 samples, test 85.1 %, 81.7 to 88.0, on 500 samples" in text
    assert "400 validation samples: one sample is worth 0.25 points" in text
    assert "on a device: flash 11,192 bytes, RAM 2,548 bytes, 13,740 in all; the stack comes on top" in text
    assert "fine-tuned" not in text
    assert "next" not in text, "the float baseline cannot be picked"
    framed = "\n".join(picked_lines(run, run.results[2], frame_bytes=512))
    assert "RAM 2,548 bytes (512 of them the input frame), 13,740 in all" in framed


def test_what_a_budget_leaves_is_told():
    wish = asked(
        ram_bytes="--max-ram 4KiB=4096", flash_bytes="--max-flash 12000=12000", accuracy="--min-accuracy 0.8=0.8"
    )
    lines = picked_lines(RUN, RUN.results[2], wish=wish)
    assert "  --max-ram 4KiB: 4,096 bytes, of which 1,548 bytes are left" in lines
    assert "  --max-flash 12000: 12,000 bytes, of which 808 bytes are left" in lines
    assert "  --min-accuracy 0.8: it has 6.4 points more" in lines


FRONTS = st.lists(st.tuples(st.integers(50, 99), st.integers(1, 40), st.integers(1, 40)), min_size=2, max_size=9)


@given(FRONTS, st.data())
def test_neighbours_are_the_next_better_and_the_next_cheaper(figures, data):
    """Of those that are more accurate the cheapest, and of those that are cheaper the most accurate."""
    trials = [trial(number, accuracy / 100, kib, macs) for number, (accuracy, kib, macs) in enumerate(figures, 1)]
    run = example_run(results=(RUN.results[0], *trials))
    members = run.pickable
    member = data.draw(st.sampled_from(members))
    text = "\n".join(picked_lines(run, member))
    named = {word: int(number) for word, number in re.findall(r"next (better|cheaper): trial (\d+) ", text)}
    by_number = {one.number: one for one in members}
    better = [one for one in members if one.accuracy > member.accuracy]
    cheaper = [one for one in members if one.memory_bytes < member.memory_bytes]
    assert set(named) == {word for word, some in (("better", better), ("cheaper", cheaper)) if some}
    for neighbour in (by_number[number] for number in named.values()):
        assert not any(
            one.accuracy >= neighbour.accuracy
            and one.memory_bytes <= neighbour.memory_bytes
            and (one.accuracy, one.memory_bytes) != (neighbour.accuracy, neighbour.memory_bytes)
            and one is not member
            for one in (better if neighbour in better else cheaper)
        )


def test_a_picked_subnet_and_a_network_of_several_seeds_are_told_as_such():
    subnet = replace(trial(1, 0.8, outcome=Outcome.SUBNET, of=config()), epochs=(epoch(0, 0.8, 1e6),))
    run = example_run(results=(RUN.results[0], subnet), argument="/data/tiny")
    text = "\n".join(picked_lines(run, subnet, "picked"))
    assert "not fine-tuned: it is the supernet at this configuration; `spquant-search finalize /data/tiny`" in text
    final = FineTuning(
        epochs=3, seeds=3, validation_mean=0.79, validation_std=0.01, test_mean=None, test_std=None, improved=True
    )
    tuned = replace(trial(2, 0.8), final=final)
    run = example_run(results=(RUN.results[0], tuned))
    best = "of 3 seeds of the last fine-tuning, on average 79.0 % ±1.0 (one standard deviation) on the validation split"
    assert f"{best}, this is the best of them by validation" in "\n".join(picked_lines(run, tuned, "picked"))
    earlier = replace(tuned, final=replace(final, improved=False))
    run = example_run(results=(RUN.results[0], earlier))
    assert f"{best}, this is the earlier network, as none of them" in "\n".join(picked_lines(run, earlier, "picked"))
