"""The commands `front` and `report`, for people and for scripts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from examples import config, trial
from rich.console import Console
from searches import unfinished_run
from small_run import FACTS, a_space

from spquant_search.cli.reports import shown_front
from spquant_search.commands.reports import report_interrupted
from spquant_search.report.run_summary import summarize_run
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.opening import open_run
from spquant_search.runs.records import read_results, write_result
from spquant_search.runs.results import Outcome
from spquant_search.runs.selection import front
from spquant_search.space.objectives import DEFAULT_COSTS

MEMBER_KEYS = [
    *("number", "origin", "trained", "accuracy", "accuracy_split", "accuracy_samples", "accuracy_interval"),
    *("test_accuracy", "test_samples", "test_accuracy_interval", "memory_bytes", "weight_bytes"),
    *("membrane_bytes", "overhead_bytes", "flash_bytes", "ram_bytes", "dense_macs", "effective_macs"),
    *("effective_flops", "synaptic_ops", "energy_uj", "final", "time_steps", "config"),
]


def test_front_json_keeps_its_contract(run_folder, command):
    answer = command("front", "tiny", "--json")
    assert (answer.code, answer.err) == (0, "")
    document = json.loads(answer.out)
    assert document == json.loads((run_folder.path / "front.json").read_text())
    assert list(document) == [
        *("run", "classes", "objectives", "constant_objectives", "reference_point", "hypervolume", "seconds"),
        *("interval", "constraints", "trials", "baseline"),
        "members",
    ]
    assert document["run"] == "tiny"
    assert document["objectives"] == ["accuracy", "memory_bytes", "effective_flops"]
    baseline = document["baseline"]
    assert document["reference_point"] == pytest.approx(
        {
            "accuracy": 0.1,
            "memory_bytes": 1.1 * baseline["memory_bytes"],
            "effective_flops": 1.1 * baseline["effective_flops"],
        }
    )
    assert list(document["trials"]) == [
        *("total", "subnets", "trained_one_epoch", "last_rung", "stopped", "over_budget", "failed"),
    ]
    assert document["trials"]["subnets"] == 3
    for member in (baseline, *document["members"]):
        assert list(member) == MEMBER_KEYS
        assert member["accuracy_split"] == "validation"
        assert 0 <= member["accuracy"] <= 1
        assert 0 <= member["test_accuracy"] <= 1
        low, high = member["accuracy_interval"]
        assert low <= member["accuracy"] <= high
        assert (member["accuracy_samples"], member["test_samples"]) == (40, 40)
        assert member["memory_bytes"] == sum(member[f"{part}_bytes"] for part in ("weight", "membrane", "overhead"))
        assert member["effective_flops"] == 2 * member["effective_macs"]
        assert list(member["config"]) == [*(f"conv{n}" for n in range(1, 9)), "readout"]
        for precision in member["config"].values():
            assert list(precision) == ["weight_bits", "membrane_levels", "channel_mass", "skip_below"]
    assert [member["number"] for member in document["members"]] == [
        m.number for m in front(read_results(run_folder), DEFAULT_COSTS)
    ]


def test_front_is_a_table_for_people_by_name_and_by_path(run_folder, command):
    by_name, by_path = command("front", "tiny"), command("front", "runs/tiny")
    assert by_name == by_path
    assert by_name.code == 0
    numbers = [str(member.number) for member in front(read_results(run_folder), DEFAULT_COSTS)]
    rows = by_name.out.splitlines()[2 : 2 + len(numbers)]
    assert [row.split()[0].rstrip("*") for row in rows] == numbers


@pytest.mark.parametrize(
    ("width", "shown"),
    [(80, ()), (95, ("val 95 %",)), (110, ("val 95 %", "test 95 %")), (130, ("val 95 %", "test 95 %", "uJ int"))],
)
def test_intervals_and_energy_are_in_the_front_where_there_is_room(run_folder, width, shown):
    console = Console(width=width, force_terminal=True)
    table = shown_front(summarize_run(run_folder), run_folder, console)
    assert tuple(name for name in ("val 95 %", "test 95 %", "uJ int") if name in table.header) == shown


def test_report_writes_the_files_again(run_folder, command):
    before = {name: (run_folder.path / name).read_bytes() for name in ("front.json", "results.csv", "report.md")}
    for name in before:
        (run_folder.path / name).unlink()
    assert command("report", "tiny").code == 0
    assert {name: (run_folder.path / name).read_bytes() for name in before} == before


def test_the_front_of_an_unfinished_run(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unfinished_run(tmp_path / "runs" / "young", trial(0, 0.9, 100, 50, origin="baseline"))
    document = json.loads(command("front", "young", "--json").out)
    assert [member["number"] for member in document["members"]] == [0]
    assert document["members"][0]["test_accuracy"] is None
    assert document["trials"]["total"] == 0


def test_the_trained_members_alone(run_folder, command):
    results = {result.number: result for result in read_results(run_folder)}
    trained = [
        member.number for member in front(tuple(results.values()), DEFAULT_COSTS) if member.outcome is Outcome.COMPLETE
    ]
    answer = command("front", "tiny", "--trained")
    assert answer.code == 0
    rows = [line.split()[0] for line in answer.out.splitlines()[2 : 2 + len(trained)]]
    assert rows == [f"{number}*" for number in trained]
    document = json.loads(command("front", "tiny", "--trained", "--json").out)
    assert [member["number"] for member in document["members"]] == trained
    assert all(member["trained"] for member in document["members"])


# ---------------------------------------------------------------- several runs, and the page's files


@pytest.fixture
def two_runs(tmp_path):
    """Two unfinished runs of one space, of which the second has a smaller network that is less accurate."""
    baseline = trial(0, 0.9, 100, 50, origin="baseline", of=config("000", "0 0"))
    unfinished_run(tmp_path / "one", baseline, trial(1, 0.85, 20, 25))
    unfinished_run(tmp_path / "two", baseline, trial(1, 0.8, 10, 12), trial(2, 0.7, 30, 30))
    return tmp_path


def test_several_runs_have_a_joint_front(two_runs, command):
    one, two = two_runs / "one", two_runs / "two"
    table = command("front", one, two)
    assert (table.code, table.err) == (0, "")
    assert "the joint front of one and two" in " ".join(table.out.split())
    document = json.loads(command("front", one, two, "--json").out)
    found = [(member["run"], member["number"]) for member in document["members"]]
    assert found == [(str(two), 1), (str(one), 1), (str(one), 0), (str(two), 0)]
    assert len(document["baselines"]) == 2


def test_a_joint_front_is_of_different_runs_and_of_all_members(two_runs, command):
    one, two = two_runs / "one", two_runs / "two"
    for words, said in ((("front", one, one), "names a run twice"), (("front", one, two, "--trained"), "--trained is")):
        answer = command(*words)
        assert answer.code == 2
        assert said in answer.err


def test_report_writes_the_figures_where_it_is_told(two_runs, command):
    answer = command("report", two_runs / "one", "--figures", two_runs / "figures")
    assert answer.code == 0
    names = {path.name for path in (two_runs / "figures").iterdir()}
    assert {"front.png", "front.svg", "layers.svg"} <= names
    assert all(name in answer.out for name in names)
    assert "</html>" in (two_runs / "one" / "report.html").read_text()


def test_an_interrupted_run_has_a_page_before_it_has_a_front(tmp_path, capsys):
    folder = RunFolder(path=tmp_path / "young")
    facts = replace(FACTS, dearest={"flash_bytes": 9e4})
    open_run(folder, a_space("search.objectives=[accuracy, flash_bytes]"), facts)
    write_result(folder, trial(0, 0.9, 100, 50, origin="baseline", of=config("000", "0 0")))
    report_interrupted(folder, Console())
    assert capsys.readouterr().out == ""
    assert (folder.path / "report.html").is_file()
    assert not (folder.path / "report.md").exists()
