"""Time steps as people see them: a column where a space has several numbers, and what factors are against."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from examples import config, example_run, trial
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from searching import a_plan
from several_steps import at_steps, several_progress, several_results, several_run
from shapes import convolution, readout

from spquant_search.costs.memory import cost_report
from spquant_search.report import step_words
from spquant_search.report.cost_table import steps_table
from spquant_search.report.dashboard_notes import trial_attributes
from spquant_search.report.data_files import front_document
from spquant_search.report.forms import short_form
from spquant_search.report.front_table import front_table
from spquant_search.report.layer_table import layer_table
from spquant_search.report.live import frame
from spquant_search.report.pick_reasons import Wish, why_nothing_fits
from spquant_search.report.picked import picked_lines
from spquant_search.report.plain_log import PlainLog
from spquant_search.report.run_report import report_markdown
from spquant_search.report.sensitivity_report import draw_sensitivity, ladder_table, sensitivity_tables
from spquant_search.runs.budget_ladder import BudgetPoint
from spquant_search.runs.energy import measured_energy
from spquant_search.runs.results import LayerActivity
from spquant_search.runs.selection import Budget
from spquant_search.runs.sensitivity import Choice, Sensitivity


def lines_of(width: int, height: int = 40) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, height=height, color_system=None).print(
        frame(several_progress(), width=width, height=height)
    )
    return file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("time_steps", "words", "counted", "baseline"),
    [
        ((1,), "1 time step", "in the only time step", "the float baseline"),
        ((4,), "4 time steps", "over all 4 time steps", "the float baseline"),
        ((1, 4), "1 or 4 time steps", "over all time steps of its network", "the float baseline at 4 time steps"),
        ((1, 2, 4), "1, 2 or 4 time steps", "over all time steps of its network", "the float baseline at 4 time steps"),
    ],
)
def test_words(time_steps, words, counted, baseline):
    assert step_words.steps_words(*time_steps) == words
    assert step_words.over_steps(time_steps) == counted
    assert step_words.baseline_words(time_steps) == baseline


def test_the_front_has_a_column_of_time_steps_and_says_what_factors_are_against():
    table = front_table(several_run())
    column = table.header.index("T")
    assert table.header[column + 1 : column + 3] == ("bits", "levels")
    rows = {row[0].split("*")[0]: row for row in table.rows}
    assert {number: row[column] for number, row in rows.items()} == {"0": "4", "2": "4", "3": "2", "4": "1", "5": "1"}
    assert rows["4"][column + 2] == "-"
    assert rows["3"][column + 2] == "3333 AE33"
    notes = "\n".join(table.notes)
    assert "a sample over all time steps of its network; factor: against the float baseline at 4 time steps\n" in notes
    assert "T: time steps of the network; with 1 no membrane is stored, so there are no levels" in notes
    # 50 million MACs of the baseline over 18 million and 6 million.
    factors = {number: row[table.header.index("FLOPs") + 1] for number, row in rows.items()}
    assert (factors["3"], factors["4"]) == ("1/2.78", "1/8.33")


def test_without_a_choice_time_steps_are_said_once():
    table = front_table(example_run())
    assert "T" not in table.header
    assert sum("time step" in note for note in table.notes) == 1
    assert "a sample over all 4 time steps; factor: against the float baseline" in "\n".join(table.notes)
    assert "in the only time step" in front_table(example_run(time_steps=(1,))).plain()


def test_a_narrow_table_leaves_out_the_gaps_between_layers():
    wide, narrow = (front_table(several_run(), intervals=(), grouped=grouped) for grouped in (True, False))
    assert any("844422223" in row for row in narrow.rows)
    assert [[cell.replace(" ", "") for cell in row] for row in wide.rows] == [
        [cell.replace(" ", "") for cell in row] for row in narrow.rows
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_the_live_view_has_a_column_of_time_steps(width):
    lines = lines_of(width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "…" not in text.split("hypervolume")[0]
    assert sum(" T  bits " in line for line in lines) == 2
    for line in lines:
        if line.split()[:1] in (["7"], ["4"]):
            assert " 1  8444 2222 3  -  " in line
        if line.split()[:1] == ["3"]:
            assert " 2  8444 2222 3  3333 AE33  " in line
    foot = " ".join(text.split())
    assert "T: time steps, without membranes at 1; factors: against the float baseline at 4 time steps" in foot


def test_the_log_says_in_how_many_steps_a_trial_runs():
    for several, form in ((True, "8444 2222 3 g7 in 1 step"), (False, "8444 2222 3 g7")):
        file = io.StringIO()
        log = PlainLog(file)
        log.plan(a_plan(time_steps=(1, 2, 4) if several else (1,)))
        log.started(trial(7, of=at_steps(1, mass=0.8)), 3)
        assert f"started  tpe  {form}  10.0 KiB" in file.getvalue()
    assert short_form(at_steps(2), with_steps=True) == "8444 2222 3 / 3333 AE33 in 2 steps"


def test_the_report_says_what_was_searched_and_what_is_counted():
    text = report_markdown(several_run())
    assert (
        "Searched: the number of time steps (1, 2 or 4), and weight bits, membrane levels, channel gates and skip "
        "masks, layer by layer, of vgg9, as `spaces/tiny.yaml` allows." in text
    )
    assert "Dense operations of the network: 100 MFLOPs at 4 time steps, 50.0 MFLOPs at 2, 25.0 MFLOPs at 1." in text
    assert "(one sample, one time step; none with a single time step)" in text
    assert "### Trial 3 (tpe): 88.0 %, 14.0 KiB, 36.0 MFLOPs, 2 time steps\n" in text
    assert " in 1 step`" in text or " in 2 steps`" in text
    assert "a sample in the only time step" in text
    steps_alone = report_markdown(several_run(searched=()))
    assert "Searched: the number of time steps (1, 2 or 4) of vgg9, as" in steps_alone
    one = report_markdown(example_run())
    assert "of the network: 100 MFLOPs.\n" in one
    assert "a sample over all 4 time steps. Effective" in one


def test_a_pick_says_the_time_steps_where_members_differ_in_them():
    run = several_run()
    text = "\n".join(picked_lines(run, run.results[3], "picked"))
    assert text.startswith("trial 3 of 5 members of the front: 88.0 %, 14.0 KiB, 36.0 MFLOPs, 2 time steps -> picked\n")
    assert "next cheaper: trial 4 (84.2 %, 8.0 KiB, 12.0 MFLOPs, 1 time step)" in text
    wish = Wish(budget=Budget(max_effective_flops=1e6), options={"effective_flops": "--max-flops 1M"})
    missed = why_nothing_fits(run, run.results[3:5], wish, smallest={})
    assert "(84.2 %, 8.0 KiB, 12.0 MFLOPs, 1 time step)" in missed
    # All trials are dense, by chance: other time steps would have fewer operations.
    dense = several_run(results=(*several_results()[:2], replace(several_results()[2], number=2, config=at_steps(4))))
    dense = replace(dense, results=tuple(replace(one, epochs=dense.results[0].epochs) for one in dense.results))
    assert "more --trials may find one with fewer operations" in why_nothing_fits(
        dense, dense.results[2:], wish, smallest={}
    )


def test_the_dashboard_has_time_steps_and_reductions_against_the_baseline():
    baseline, _, _, two, one, *_ = several_results()
    attributes = trial_attributes(two, baseline)
    assert (attributes["time_steps"], attributes["flops_reduction"]) == (2, 2.7778)
    assert "levels" not in trial_attributes(one, baseline)
    assert "MFLOPs: effective, 2 per MAC, a sample in the only time step" in layer_table(one).notes


def test_costs_by_time_steps():
    shapes = (convolution("conv1", 2, 4, 16, gate=False), readout(256, 10))
    reports = [cost_report(shapes, config("40", "3", time_steps=steps)) for steps in (1, 2, 4)]
    baseline = cost_report(shapes, config("00", "0"))
    table = steps_table(reports, baseline)
    # 72 weights of 4 bits, 2,560 of 32; 64 neurons of 2 bits; 1,152 + 2,560 MACs a step.
    assert [row[0] for row in table.rows] == ["1", "2", "4"]
    assert [row[1] for row in table.rows] == ["0.0", "0.0", "0.0"]
    assert [reports[place].membrane_bytes for place in (0, 1, 2)] == [0, 16, 16]
    assert [row[4:] for row in table.rows] == [("7.42 k", "1/4.00"), ("14.8 k", "1/2.00"), ("29.7 k", "1")]
    assert "against the float network at 4 time steps" in table.notes[0]
    assert "no membrane" in table.notes[1]
    assert len(steps_table(reports[1:], baseline).notes) == 1


@given(st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=6), st.data())
def test_every_ratio_is_against_what_it_says(time_steps, data):
    """Factors are against the baseline's own steps, and what gates leave is against a member's own."""
    a_step = 12_500_000
    baseline = trial(0, 0.9, 100, 50, origin="baseline", of=config("0" * 9, " ".join("0" * 8)))
    baseline = replace(baseline, dense_macs=4 * a_step)
    members = []
    for number, steps in enumerate(time_steps, 1):
        share = data.draw(st.floats(0.05, 1.0))
        mega = share * steps * a_step / 1e6
        found = trial(number, 0.5 + number / 100, 10 + number, mega, of=at_steps(steps, mass=0.8))
        members.append(replace(found, dense_macs=steps * a_step))
    run = several_run(results=(baseline, *members))
    document = front_document(run)
    assert document["baseline"]["dense_macs"] == document["baseline"]["effective_macs"] == 4 * a_step
    for shown in document["members"][:-1]:
        assert shown["dense_macs"] == shown["time_steps"] * a_step
        assert shown["effective_macs"] <= shown["dense_macs"] * (1 + 1e-12)
        member = run.results[shown["number"]]
        reduction = trial_attributes(member, baseline)["flops_reduction"]
        assert reduction == pytest.approx(4 * a_step / shown["effective_macs"], rel=1e-4)
        assert reduction >= 4 / shown["time_steps"] * (1 - 1e-4)


def test_energy_of_membranes_is_that_of_a_members_own_steps():
    costs = []
    for steps in (1, 2, 4):
        of = at_steps(steps)
        none = LayerActivity(effective_macs=0.0, synaptic_ops=0.0, density=0.0, open_share=1.0)
        result = trial(1, of=of, layers=tuple((name, none) for name, _ in of.layers))
        energy = measured_energy(replace(result, membrane_bytes=0 if steps == 1 else 100))
        assert energy is not None
        costs.append(energy.membranes)
    # 100 bytes are read and written once a step, at 10 pJ for 64 bits.
    assert costs == [0.0, 2 * 2 * 800 * 10 / 64, 4 * 2 * 800 * 10 / 64]


def test_an_analysis_shows_what_fewer_time_steps_lose():
    lower = Choice(layer="conv1", parameter="weight_bits", value=4, accuracy=0.89, memory_bytes=30_000)
    found = Sensitivity(
        reference=config("88", "16"),
        accuracy=0.9,
        memory_bytes=40_960,
        samples=2000,
        choices=(lower,),
        fewer_steps=tuple(
            Choice(layer="", parameter="time_steps", value=steps, accuracy=accuracy, memory_bytes=size)
            for steps, accuracy, size in ((2, 0.895, 40_960), (1, 0.86, 33_792))
        ),
    )
    *_, table = sensitivity_tables(found, run="tiny")
    assert table.rows == (("2", "0.50", "0.0", "1/2.00"), ("1", "4.00", "7.0", "1/4.00"))
    assert "at its most precise choice and 4 time steps; one layer lowered at a time, or all at fewer" in table.notes[0]
    ladder = [
        BudgetPoint(budget_bytes=20_480, memory_bytes=19_900, loss=0.012, config=config("48", "16", time_steps=steps))
        for steps in (4, 1)
    ]
    several, single = ladder_table(ladder), ladder_table(ladder[:1])
    assert several.header == ("T", *single.header)
    assert [(row[0], row[-1]) for row in several.rows] == [("4", "A"), ("1", "-")]
    assert "time steps" in several.title
    assert "time steps" not in single.title
    said = draw_sensitivity(found, title="t")._supxlabel.get_text()
    assert said.endswith("points lost by fewer than 4 time steps, in all layers: 0.50 at 2, 4.00 at 1")
    alone = draw_sensitivity(replace(found, choices=()), title="t").texts
    assert any("in all layers: 0.50 at 2, 4.00 at 1" in text.get_text() for text in alone)
    assert "fewer" not in draw_sensitivity(replace(found, fewer_steps=()), title="t")._supxlabel.get_text()
