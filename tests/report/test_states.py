"""What reports say of a run in every state that it can be in: interrupted, finalized, without a front, and so on."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from examples import config, epoch, example_run, trial
from hypothesis import given, settings
from hypothesis import strategies as st

from spquant_search.report.dashboard_notes import study_note
from spquant_search.report.front_table import front_table, run_hypervolume_text
from spquant_search.report.pick_advice import pick_advice, why_nothing_is_pickable
from spquant_search.report.run_report import report_markdown
from spquant_search.runs import selection
from spquant_search.runs.finals import TestUse
from spquant_search.runs.results import FineTuning, Outcome, TrialResult
from spquant_search.runs.selection import Budget
from spquant_search.runs.trainers import GpuUse, Trainers
from spquant_search.space.configuration import NetworkConfig

BASELINE = trial(0, 0.9, 100, 50, origin="baseline", of=config("000", "0 0"), epochs=3)


def subnet(
    number: int, accuracy: float = 0.8, kib: float = 10, mega_macs: float = 12.5, *, samples=None, **more
) -> TrialResult:
    """A subnet as it was evaluated: one rung, before any epoch."""
    found = trial(number, accuracy, kib, mega_macs, outcome=Outcome.SUBNET, **more)
    return replace(found, epochs=(replace(epoch(0, accuracy, mega_macs * 1e6), samples=samples),))


def words(text: str) -> str:
    return " ".join(text.split())


# ---------------------------------------------------------------- what accuracies were measured on


def test_subnets_are_judged_by_fewer_samples_and_that_is_said():
    run = example_run(results=(BASELINE, subnet(1, samples=400), trial(2, 0.85, 20)))
    assert run.samples_of(run.results[1]) == 400
    assert run.samples_of(run.results[2]) == 2000
    assert "on 400 (subnets) and 2,000 validation samples" in report_markdown(run)
    assert "400 validation samples: one sample is worth 0.25 points" in front_table(run).plain()
    # One that the whole split has judged since is no exception any more.
    assert replace(run, results=(BASELINE, subnet(1), trial(2, 0.85, 20))).samples_of(subnet(1)) == 2000


def test_accuracy_is_that_of_subnets_or_of_last_epochs_as_it_is():
    def sentence(*results: TrialResult) -> str:
        return next(line for line in report_markdown(example_run(results=results)).splitlines() if "Accuracy" in line)

    assert sentence(BASELINE) == (
        "Accuracy is that of the last epoch of the network that was kept, on 2,000 validation samples."
    )
    assert "or of the subnet as the supernet left it" in sentence(BASELINE, subnet(1))
    assert "subnet" not in sentence(BASELINE, trial(1))
    assert sentence() == "Accuracy is measured on 2,000 validation samples."


def test_nothing_looks_certain_where_every_answer_was_right():
    perfect = example_run(results=(BASELINE, trial(1, 1.0, 10)), validation_samples=160)
    text = front_table(perfect).plain()
    # 160 of 160: 97.66 at the least, which is 3.7 samples less.
    assert "97.6..100.0" in text
    assert "160 validation samples: one sample is worth 0.62 points; differences below 2.3 points mean nothing" in text
    assert "0.0 points" not in report_markdown(perfect)
    assert "mean nothing" not in report_markdown(replace(perfect, validation_samples=500))


# ---------------------------------------------------------------- the test split


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (TestUse(), "The test split was not used."),
        (TestUse(baseline=1), "was used once, each time for a network that was trained already (the float baseline);"),
        (TestUse(baseline=1, members=3), "used 4 times, each time for a network that was trained already (the float "),
        (TestUse(members=1, seeds=6), "(1 that was on the front then, 6 of the fine-tuning with several seeds);"),
    ],
)
def test_the_use_of_the_test_split_is_counted(use, said):
    text = report_markdown(example_run(test_use=use, test_samples=500))
    assert said in text
    assert ("nothing was chosen by it" in text) == bool(use.total)
    assert "front alone" not in text


# ---------------------------------------------------------------- equal seeds


def test_equal_seeds_are_promised_for_one_worker_alone():
    one, two = (words(report_markdown(example_run(workers=workers))) for workers in (1, 2))
    rule = "with one worker (`--workers 1`) on the same processor, without a GPU, with the same versions"
    assert f"Equal seeds give equal results, apart from times, {rule}, unless a limit of minutes" in one
    assert "differently" not in one
    assert "2 trainers end their trials in another order each time" in two
    assert f"apart from times, only {rule}" in two
    shared = words(report_markdown(example_run(is_shared=True)))
    assert "coordinators that share a run end their trials in another order" in shared
    assert "only with one worker" in shared
    gpu = Trainers(device="cuda", count=1, gpus=(GpuUse(visible_as="0", name="NVIDIA T4", trainers=1),))
    on_gpu = words(report_markdown(example_run(workers=1, trainers=(gpu,))))
    assert "a GPU adds up cumulative sums and the gradients of weights in another order each time" in on_gpu
    assert f"apart from times, only {rule}" in on_gpu
    both = words(report_markdown(example_run(workers=2, trainers=(Trainers(device="cpu", count=2), gpu))))
    assert "2 trainers end their trials in another order each time, and a GPU adds up" in both


@pytest.mark.parametrize(
    ("used", "said"),
    [
        ((), "over all starts that were not killed."),
        ((("cpu", 1, {}),), "not killed, by 1 trainer on the processor."),
        ((("cpu", 4, {}),), "not killed, by 4 trainers on the processor."),
        ((("cuda", 3, {"T4": (3,)}),), "not killed, by 3 trainers on GPU 0 (T4)."),
        ((("cuda", 4, {"T4": (2, 2)}),), "not killed, by 4 trainers on 2 GPUs (T4), 2 on each."),
        (
            (("cuda", 5, {"T4": (2, 2), "A100": (1,)}),),
            "not killed, by 5 trainers on 3 GPUs (T4, A100), 1 or 2 on each.",
        ),
        (
            (("cpu", 1, {}), ("cuda", 2, {"T4": (2,)})),
            "not killed, by 1 trainer on the processor; or 2 trainers on GPU 0 (T4).",
        ),
    ],
)
def test_the_report_says_what_trained(used, said):
    trainers = []
    for device, count, gpus in used:
        places = enumerate((name, each) for name, counts in gpus.items() for each in counts)
        uses = tuple(GpuUse(visible_as=str(at), name=name, trainers=each) for at, (name, each) in places)
        trainers.append(Trainers(device=device, count=count, gpus=uses))
    assert said in words(report_markdown(example_run(trainers=tuple(trainers))))


# ---------------------------------------------------------------- what was searched and how much of it


def test_the_subject_is_what_had_choices():
    assert "Searched: weight bits, membrane levels, channel gates and skip masks, layer by layer" in report_markdown(
        example_run()
    )
    assert "Searched: weight bits, layer by layer" in report_markdown(example_run(searched=("weight bits",)))
    preset = report_markdown(example_run(searched=(), trials_wanted=1))
    assert "Nothing was searched: `spaces/tiny.yaml` gives every layer of vgg9 one choice." in preset
    assert "asked for" not in preset


def test_an_interrupted_search_says_how_far_it_came():
    run = example_run(results=(BASELINE, subnet(1), subnet(2)), trials_wanted=150)
    assert "2 trials besides the float baseline, 2 of them candidates, of which 150 were asked for." in words(
        report_markdown(run)
    )
    assert "asked for" not in report_markdown(replace(run, trials_wanted=2))
    # Fine-tuned subnets, duplicates and what was over budget are no candidates that a limit counts.
    more = (
        replace(trial(3, 0.9), parent=1),
        trial(4, outcome=Outcome.DUPLICATE),
        trial(5, outcome=Outcome.OVER_BUDGET),
    )
    assert replace(run, results=(*run.results, *more)).candidates_tried == 2


def test_epochs_are_those_at_a_trials_own_configuration():
    text = words(report_markdown(example_run(results=(BASELINE, subnet(1), trial(2, epochs=3)))))
    assert "At their own configuration they were trained for 3 epochs; those of the float baseline" in text


def test_a_choice_leans_to_the_high_side_only_where_there_was_one():
    lean = "lean to the high side"
    assert lean in report_markdown(example_run())
    assert lean not in report_markdown(example_run(results=(BASELINE,)))
    assert lean not in report_markdown(example_run(results=(BASELINE, trial(1))))


def test_membranes_count_where_there_are_any():
    assert "membranes at ceil(log2 levels) bits" in report_markdown(example_run())
    plain = [(name, replace(layer, membrane_levels=None)) for name, layer in config().layers]
    one_step = trial(0, 0.9, 100, 50, origin="baseline", of=NetworkConfig(time_steps=1, layers=tuple(plain)))
    assert "no membranes (with one time step nothing is stored between steps)" in report_markdown(
        example_run(results=(one_step,))
    )


# ---------------------------------------------------------------- trained or not


def test_every_member_says_whether_it_was_trained():
    run = example_run(results=(BASELINE, subnet(1, 0.7, 5), trial(2, 0.85, 20), subnet(3, 0.8, 12, origin="reference")))
    table = front_table(run)
    assert [row[0] for row in table.rows] == ["1", "3 ref", "2*", "0* base"]
    assert (
        "*: trained at its own configuration; the others are subnets of the supernet as it left them" in table.plain()
    )
    only = front_table(run, trained_only=True)
    assert [row[0] for row in only.rows] == ["2*", "0* base"]
    assert "the trained members alone" in only.title
    assert "subnets" not in only.plain()
    assert "ref:" not in only.plain()


def test_a_front_of_subnets_alone_and_one_without_any():
    subnets = example_run(results=(subnet(1, 0.7, 5), subnet(2, 0.8, 9)))
    assert "no member is fine-tuned: they" not in front_table(subnets).plain()
    assert "no member is fine-tuned" in front_table(subnets).plain()
    assert (
        "no member of the front was trained at its own configuration" in front_table(subnets, trained_only=True).plain()
    )
    trained = example_run(results=(BASELINE, trial(1)))
    assert "subnet" not in front_table(trained).plain()


# ---------------------------------------------------------------- constant objectives


DENSE = (BASELINE, trial(1, 0.85, 20, 50), trial(2, 0.8, 10, 50))


def test_a_constant_cost_is_said_once_and_left_out():
    run = example_run(results=DENSE, fixed=("effective_flops",))
    table = front_table(run)
    assert "FLOPs" not in table.header
    assert table.header.count("factor") == 1
    said = "the number of operations is the same in all trials: 100 MFLOPs, as no layer has a channel gate or skips"
    assert table.plain().count(said) == 1
    assert "hypervolume of accuracy and memory alone 0." in run_hypervolume_text(run)
    assert "MFLOPs" not in run_hypervolume_text(run)
    # (0.85 - 0.1) over the memory that trial 1 saves, 0.05 more by the baseline, and what trial 2 saves besides.
    expected = 0.75 * (90 / 110) + 0.05 * (10 / 110) + 0.7 * (10 / 110)
    assert run.hypervolume_without(run.hidden_costs) == pytest.approx(expected)
    assert run.hypervolume == pytest.approx(expected * (1 - 1 / 1.1))


def test_a_cost_that_only_the_baseline_does_not_share_is_said_and_shown():
    run = example_run(results=(BASELINE, trial(1, 0.85, 20, 50), trial(2, 0.8, 20, 40)))
    table = front_table(run)
    assert "KiB" in table.header
    assert "memory is the same in all trials: 20.0 KiB" in table.plain()
    assert "left out" not in table.plain()


def test_one_trial_makes_nothing_constant():
    run = example_run(results=DENSE[:2])
    assert run.constant_objectives == ()
    assert "FLOPs" in front_table(run).header
    assert replace(run, fixed=("effective_flops",)).hidden_costs == ("effective_flops",)


# ---------------------------------------------------------------- picking


def test_a_pick_is_proposed_only_where_it_works():
    run = example_run()
    advice = pick_advice(run)
    assert advice.member.number == 2  # the knee of what can be picked, which the float baseline cannot
    assert advice.within_cost == "spquant-search pick tiny --max-memory 10KiB --out picked"
    by_path = pick_advice(replace(run, argument="/data/my runs/tiny"), out="picked-2")
    assert by_path.at_knee == "spquant-search pick '/data/my runs/tiny' --knee --out picked-2"


FLOATS = config("000", "3 3")
NOTHING = {
    "only the baseline": (
        {"results": (BASELINE,)},
        "only the float baseline is on the front, which keeps floats; no other trial has ended",
    ),
    "all failed": (
        {"results": (BASELINE, trial(1, outcome=Outcome.FAILED, epochs=0))},
        "no other trial has left a network",
    ),
    "constraints": (
        {"results": (BASELINE, trial(1, 0.8)), "budget": Budget(min_accuracy=0.89)},
        "no other trial is within the constraints",
    ),
    "floats": ({"results": (trial(1, of=FLOATS),)}, "every member of the front keeps float weights or membranes"),
    "the network": (
        {"no_integer_form": "block reads something"},
        "no configuration has an integer form, as block reads something",
    ),
    "the network, before anything else": (
        {"no_integer_form": "block reads something", "results": (BASELINE,)},
        "no configuration has an integer form, as block reads something",
    ),
    "nothing": ({"results": ()}, "no trial has left a network yet"),
}


@pytest.mark.parametrize("state", NOTHING)
def test_where_nothing_can_be_picked_the_reason_is_told(state):
    changes, reason = NOTHING[state]
    run = example_run(**changes)
    assert pick_advice(run) is None
    assert reason in why_nothing_is_pickable(run)
    for text in (report_markdown(run), study_note(run)):
        assert "Nothing can be picked: " in text
        assert reason in text
        assert "spquant-search pick" not in text


# ---------------------------------------------------------------- any state


FINAL = FineTuning(
    epochs=3, seeds=2, validation_mean=0.8, validation_std=0.01, test_mean=None, test_std=None, improved=True
)
MADE = st.builds(
    lambda number, accuracy, kib, macs, kind, tuned, steps: replace(
        (
            trial(number, accuracy / 20, kib, macs, outcome=Outcome[kind], of=config(time_steps=steps))
            if isinstance(kind, str)
            else subnet(number, accuracy / 20, kib, macs, samples=kind, of=config(time_steps=steps))
        ),
        final=FINAL if tuned else None,
    ),
    st.just(0),
    st.integers(0, 20),
    st.integers(1, 4),
    st.sampled_from([50.0, 25.0]),
    # A number: of the samples that have judged a subnet.
    st.sampled_from([None, 1, 40, "COMPLETE", "STOPPED", "FAILED", "DIVERGED", "OVER_BUDGET", "DUPLICATE"]),
    st.booleans(),
    st.sampled_from([1, 2, 4]),
)
STATES = st.builds(
    lambda results, several, **changes: example_run(
        results=(
            BASELINE,
            *(
                replace(result, number=number, config=result.config if several else config())
                for number, result in enumerate(results, 1)
            ),
        ),
        time_steps=(1, 2, 4) if several else (4,),
        **changes,
    ),
    st.lists(MADE, max_size=5),
    st.booleans(),
    validation_samples=st.sampled_from([1, 160, 2000]),
    test_use=st.builds(TestUse, baseline=st.integers(0, 1), members=st.integers(0, 2), seeds=st.integers(0, 3)),
    trials_wanted=st.sampled_from([None, 1, 4]),
    workers=st.sampled_from([1, 2]),
    fixed=st.sampled_from([(), ("effective_flops",)]),
    budget=st.sampled_from(
        [Budget(), Budget(max_memory_bytes=2048.0), Budget(min_accuracy=0.85), Budget(min_accuracy=1.0)]
    ),
)


@settings(max_examples=120, deadline=None)
@given(run=STATES)
def test_what_is_said_holds_in_any_state(run):
    text = report_markdown(run)
    assert not re.search(r"\bnan\b|\bNone\b|inf\b", text)
    assert "0.0 points" not in text
    # Every command that is proposed finds a member that can be written.
    proposed = re.findall(r"spquant-search pick tiny --max-memory (\d+)KiB", text)
    members = selection.pickable(run.front)
    assert bool(proposed) == bool(members)
    for kib in proposed:
        assert selection.pick(members, run.costs, Budget(max_memory_bytes=1024.0 * int(kib))) is not None
    # A cost is left out only where every row would show the same.
    table = front_table(run)
    if "FLOPs" not in table.header and run.front:
        assert len({member.effective_macs for member in run.front}) == 1
    # Time steps are a column of members, or said once; and so is what factors are against.
    several = len(run.time_steps) > 1
    assert ("T" in table.header) == several or not run.front
    if "factor" in table.header:
        against = "factor: against the float baseline" + (" at 4 time steps" if several else "")
        assert sum(note.endswith(against) for note in table.notes) == 1
    marks = {row[0].split()[0] for row in table.rows}
    assert marks == {f"{member.number}{'*' * member.is_trained}" for member in run.front}
    assert (f"was used {run.test_use.total} times" in text) == (run.test_use.total > 1)
    assert ("2 trainers" in text) == (run.workers == 2)
