"""The files of a run and the dashboard's notes: columns, JSON, atomicity, words."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from examples import config, epoch, example_run, trial
from pydantic import TypeAdapter

from spquant_search.report import dashboard_notes as dashboard
from spquant_search.report import data_files, run_report
from spquant_search.report import front_figure as figures
from spquant_search.report import writing as files
from spquant_search.runs.results import Outcome
from spquant_search.runs.selection import Budget
from spquant_search.space.configuration import NetworkConfig

ADDRESSES = [
    f"{layer}.{parameter}"
    for layer in ("conv1", "conv2", "readout")
    for parameter in ("weight_bits", "membrane_levels", "channel_mass", "skip_below")
]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def strict_json(text: str):
    def refuse(word: str):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


# ---------------------------------------------------------------- CSV


def test_results_csv_has_a_row_a_trial_and_a_column_an_address(tmp_path):
    data_files.write_results_csv(example_run(), tmp_path / "results.csv")
    found = rows(tmp_path / "results.csv")
    assert list(found[0]) == [
        *["number", "origin", "outcome", "reason", "accuracy"],
        *["memory_bytes", "weight_bytes", "membrane_bytes", "overhead_bytes"],
        *["flash_bytes", "ram_bytes", "paper_total_bytes"],
        *["dense_macs", "effective_macs", "effective_flops", "synaptic_ops", "density"],
        *["epochs", "seconds", "seed"],
        *ADDRESSES,
    ]
    assert [row["number"] for row in found] == list("012345")
    row = found[2]
    assert (row["origin"], row["outcome"], row["accuracy"]) == ("tpe", "COMPLETE", "0.864")
    assert (row["memory_bytes"], row["effective_macs"], row["effective_flops"]) == ("10240", "12500000.0", "25000000.0")
    assert (row["epochs"], row["seconds"], row["seed"]) == ("2", "4.5", "102")
    assert (row["conv2.weight_bits"], row["conv2.channel_mass"], row["conv2.skip_below"]) == ("4", "0.8", "0.0")
    assert (row["readout.membrane_levels"], row["readout.skip_below"]) == ("", "")
    assert found[4]["reason"] == "trial 2 is better in every objective"


def test_what_is_unknown_is_an_empty_cell(tmp_path):
    data_files.write_results_csv(example_run(), tmp_path / "results.csv")
    diverged = rows(tmp_path / "results.csv")[5]
    assert [diverged[name] for name in ("accuracy", "effective_macs", "effective_flops", "density")] == [""] * 4
    assert "nan" not in (tmp_path / "results.csv").read_text().lower().replace("not a number", "")


def test_front_csv_adds_the_test_accuracy(tmp_path):
    data_files.write_front_csv(example_run(test_accuracy={2: 0.851}), tmp_path / "front.csv")
    found = rows(tmp_path / "front.csv")
    assert [(row["number"], row["test_accuracy"]) for row in found] == [("2", "0.851"), ("0", "")]
    assert list(found[0]) == [*data_files.RESULT_COLUMNS, "test_accuracy", *ADDRESSES]


def test_reasons_of_several_lines_stay_in_one_cell(tmp_path):
    run = example_run(results=(trial(1, outcome=Outcome.FAILED, epochs=0, reason='died:\n "x",\x1b[0m y'),))
    data_files.write_results_csv(run, tmp_path / "results.csv")
    assert rows(tmp_path / "results.csv")[0]["reason"] == 'died: "x", [0m y'


# ---------------------------------------------------------------- JSON


def test_front_json_by_hand(tmp_path):
    data_files.write_front_json(example_run(test_accuracy={2: 0.851}), tmp_path / "front.json")
    document = strict_json((tmp_path / "front.json").read_text())
    members = document.pop("members")
    baseline = document.pop("baseline")
    assert document.pop("hypervolume") == pytest.approx(0.764 * (100 / 110) * (85 / 110) + 0.036 * (10 / 110) ** 2)
    reference = {"accuracy": 0.1, "memory_bytes": 112640.0, "effective_macs": 55e6}
    assert document.pop("reference_point") == pytest.approx(reference)
    assert document == {
        "run": "tiny",
        "objectives": ["accuracy", "memory_bytes", "effective_macs"],
        "seconds": 65.0,
        "constraints": None,
        "trials": {
            **{"total": 5, "subnets": 0, "trained_one_epoch": 4, "last_rung": 3},
            **{"stopped": 1, "over_budget": 0, "failed": 1},
        },
    }
    assert (baseline["number"], baseline["origin"], baseline["memory_bytes"]) == (0, "baseline", 102400)
    assert [member["number"] for member in members] == [2, 0]
    assert members[0]["test_accuracy"] == 0.851
    assert members[1]["test_accuracy"] is None
    assert members[0]["accuracy_split"] == "validation"
    assert members[0]["effective_flops"] == 2 * members[0]["effective_macs"] == 25e6
    assert TypeAdapter(NetworkConfig).validate_python(members[0]["config"]) == example_run().results[2].config


def test_front_json_without_a_baseline_says_null():
    run = example_run(results=(trial(0, origin="baseline", outcome=Outcome.DIVERGED, epochs=0),))
    document = data_files.front_document(run)
    assert (document["baseline"], document["reference_point"], document["hypervolume"]) == (None, None, None)
    assert document["members"] == []
    assert document["trials"]["total"] == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_number_that_json_lacks_reaches_a_file(tmp_path, bad):
    odd = replace(epoch(1, 0.8, 1e6), synaptic_ops=bad)
    run = example_run(results=(replace(trial(1), epochs=(odd,)),), test_accuracy={1: bad}, seconds=bad)
    data_files.write_front_json(run, tmp_path / "front.json")
    document = strict_json((tmp_path / "front.json").read_text())
    assert document["members"][0]["synaptic_ops"] is None
    assert document["members"][0]["test_accuracy"] is None
    assert document["seconds"] is None


# ---------------------------------------------------------------- atomicity


def test_a_figure_that_cannot_be_drawn_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "front.png").write_bytes(b"old")

    class Half:
        def savefig(self, file, **_options):
            file.write(b"\x89PN")
            raise ValueError("no such colour")

    monkeypatch.setattr(figures, "draw_front", lambda _summary: Half())
    with pytest.raises(ValueError, match="no such colour"):
        files.write_reports(example_run(), tmp_path)
    assert (tmp_path / "front.png").read_bytes() == b"old"
    assert not list(tmp_path.glob(".*"))


def test_new_files_have_the_users_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    data_files.write_front_json(example_run(), tmp_path / "front.json")
    assert (tmp_path / "front.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_all_files_of_a_run(tmp_path):
    files.write_reports(example_run(), tmp_path)
    names = ["front.csv", "front.json", "front.png", "report.md", "results.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / "front.png").read_bytes()[1:4] == b"PNG"


# ---------------------------------------------------------------- report.md


def test_report_says_what_was_searched_and_counted():
    run = example_run(
        command="spquant-search --space spaces/tiny.yaml --seed 3",
        environment={"processor": "two|cores", "torch": "2.13.0"},
    )
    text = run_report.report_markdown(run)
    for words in (
        "as `spaces/tiny.yaml` allows",
        "fashion-events (simulated)",
        "2,000 validation samples;\nthe test split was not used.",
        "![accuracy against memory of every trial that left weights](front.png)",
        "| 2 | 86.4 | 10.0 | 1/10.0 | 25.0 M | 1/4.00 | 844 | 3A | g1s2 |",
        "Hypervolume 0.5370 of at most 0.9 (reference point: accuracy 10.0 %, 110.0 KiB, 110 MFLOPs",
        "| trained to its last epoch | 3 |\n| stopped early | 1 |\n| the loss became infinite or not a number | 1 |",
        "5 trials besides the float baseline, 7 epochs, 1:05 of wall clock",
        "FLOPs: 2 per MAC",
        "The network's dense operations: 100 MFLOPs.",
        "    spquant-search pick tiny --knee --out picked",
        "    spquant-search --space spaces/tiny.yaml --seed 3",
        "| processor | two\\|cores |",
        "### Trial 2 (tpe): 86.4 %, 10.0 KiB, 25.0 MFLOPs",
        "| conv2 | 4 | 16 | 0.8 | 0 |",
    ):
        assert words in text
    # sqrt(0.9 * 0.1 / 2000) = 0.67 points
    assert "0.7 points" in text


def test_report_of_a_run_without_results_and_with_a_test_split():
    assert "No trial has completed yet." in run_report.report_markdown(example_run(results=()))
    text = run_report.report_markdown(example_run(test_accuracy={2: 0.8}, test_samples=500))
    assert "the test split (500 samples) was used once, after the search, for the front alone." in text


def test_names_with_spaces_are_quoted_in_commands():
    text = run_report.report_markdown(example_run(run="my run", source="my space.yaml"))
    assert "spquant-search pick 'my run' --knee" in text
    assert "spquant-search --space 'my space.yaml' --run 'my run'" in text


# ---------------------------------------------------------------- the dashboard


def test_attributes_are_flat_readable_and_finite():
    run = example_run()
    assert dashboard.trial_attributes(run.results[2], run.baseline) == {
        "memory_kib": 10.0,
        "memory_reduction": 10.0,
        "flops_m": 25.0,
        "flops_reduction": 4.0,
        "synaptic_ops_m": 3.125,
        "spikes_per_neuron_and_step": 0.125,
        "weight_bits_mean_over_layers": 5.3333,  # (8 + 4 + 4) / 3
        "membrane_bits_mean_over_layers": 3.0,  # 3 levels in 2 bits, 16 in 4
        "seconds": 4.5,
        "epochs": 2,
        "seed": 102,
        "origin": "tpe",
        "outcome": "COMPLETE",
        "ending": "trained to its last epoch",
        "reason": "trained to its last epoch",
        "bits": "844",
        "levels": "3A",
        "gates_and_skips": "g1s2",
    }
    diverged = dashboard.trial_attributes(run.results[5], None)
    assert not {"flops_m", "memory_reduction", "flops_reduction"} & set(diverged)
    json.dumps(diverged, allow_nan=False)


def test_long_reasons_stay_below_the_dashboards_limit():
    attributes = dashboard.trial_attributes(trial(1, reason="x" * 5000, of=config()), None)
    assert len(json.dumps(attributes["reason"])) <= 1024


def test_trial_note_tells_the_reason_and_the_layers():
    note = dashboard.trial_note(example_run().results[4])
    assert note.startswith("**stopped early**: trial 2 is better in every objective\n\n| layer | weight bits |")
    assert "| readout | 4 | - | - | - |" in note
    assert dashboard.trial_note(example_run().results[1]).startswith("**trained to its last epoch**\n\n|")


def test_study_note_holds_the_deployable_set_and_the_commands():
    note = dashboard.study_note(example_run())
    assert "| 2 | 86.4 | 10.0 | 1/10.0 | 25.0 M | 1/4.00 | 844 | 3A | g1s2 |" in note
    assert "    spquant-search --space spaces/tiny.yaml --run tiny\n    spquant-search pick tiny --knee" in note
    assert "5 trials besides the\nfloat baseline" in note
    assert "hypervolume 0.5370" in note


# ---------------------------------------------------------------- budgets


def test_within_constraints_only_members_that_keep_them_are_the_front():
    budget = Budget(max_memory_bytes=20 * 1024, max_effective_flops=50e6)
    document = data_files.front_document(example_run(budget=budget))
    assert [member["number"] for member in document["members"]] == [2]
    assert document["constraints"] == {
        **{"memory_bytes": 20 * 1024, "effective_flops": 50e6, "accuracy": None},
        **{"met": True, "nearest": None},
    }
    # Of the members shown alone: 0.764 is the accuracy above chance of trial 2.
    assert document["hypervolume"] == pytest.approx(0.764 * (100 / 110) * (85 / 110) * 1.1 / 1.1, rel=0.05)
    note = "constraints: memory_bytes at most 20,480, effective_flops at most 50.0 MFLOPs; the front is that of the"
    assert note in run_report.report_markdown(example_run(budget=budget))


def test_where_nothing_keeps_the_constraints_that_is_said_with_the_nearest():
    summary = example_run(budget=Budget(max_memory_bytes=9 * 1024, min_accuracy=0.88))
    document = data_files.front_document(summary)
    assert [member["number"] for member in document["members"]] == [
        member["number"] for member in data_files.front_document(example_run())["members"]
    ]
    assert document["hypervolume"] == 0
    assert document["constraints"]["met"] is False
    nearest = document["constraints"]["nearest"]
    assert nearest["number"] == 2
    assert nearest["excess"] == pytest.approx({"memory_bytes": 1 / 9, "accuracy": 0.016 / 0.88})
    assert (
        "NO TRIAL IS WITHIN THE CONSTRAINTS (memory_bytes at most 9,216, accuracy at least 0.88): the front is that of "
        "all trials. Nearest is trial 2, which misses accuracy by 1.82 % (0.864) and memory_bytes by 11.1 % (10,240)"
    ) in run_report.report_markdown(summary)
