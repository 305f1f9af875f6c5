"""The data files of a run: columns, JSON, budgets."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from examples import epoch, example_run, trial
from pydantic import TypeAdapter

from spquant_search.report import data_files, run_report
from spquant_search.runs.results import Outcome
from spquant_search.runs.selection import Budget
from spquant_search.space.configuration import NetworkConfig

ADDRESSES = [
    "time_steps",
    *(
        f"{layer}.{parameter}"
        for layer in ("conv1", "conv2", "readout")
        for parameter in ("weight_bits", "membrane_levels", "channel_mass", "skip_below")
    ),
]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def strict_json(text: str):
    def refuse(word: str):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_results_csv_has_a_row_a_trial_and_a_column_an_address(tmp_path):
    data_files.write_results_csv(example_run(), tmp_path / "results.csv")
    found = rows(tmp_path / "results.csv")
    assert list(found[0]) == [
        *["number", "origin", "outcome", "reason", "trained"],
        *["accuracy", "accuracy_samples", "accuracy_low", "accuracy_high"],
        *["memory_bytes", "weight_bytes", "membrane_bytes", "overhead_bytes"],
        *["flash_bytes", "ram_bytes", "paper_total_bytes"],
        *["dense_macs", "effective_macs", "effective_flops", "synaptic_ops", "energy_uj", "density"],
        *["epochs", "seconds", "seed"],
        *ADDRESSES,
    ]
    assert [row["number"] for row in found] == list("012345")
    row = found[2]
    assert (row["origin"], row["outcome"], row["accuracy"], row["trained"]) == ("tpe", "COMPLETE", "0.864", "true")
    assert row["accuracy_samples"] == "2000"
    assert (float(row["accuracy_low"]), float(row["accuracy_high"])) == pytest.approx((0.8483, 0.8783), abs=1e-4)
    assert (row["memory_bytes"], row["effective_macs"], row["effective_flops"]) == ("10240", "12500000.0", "25000000.0")
    assert (row["epochs"], row["seconds"], row["seed"]) == ("2", "4.5", "102")
    assert (row["conv2.weight_bits"], row["conv2.channel_mass"], row["conv2.skip_below"]) == ("4", "0.8", "0.0")
    assert (row["readout.membrane_levels"], row["readout.skip_below"]) == ("", "")
    assert found[4]["reason"] == "trial 2 is better in every objective"


def test_what_is_unknown_is_an_empty_cell(tmp_path):
    data_files.write_results_csv(example_run(), tmp_path / "results.csv")
    diverged = rows(tmp_path / "results.csv")[5]
    unknown = ("accuracy", "accuracy_samples", "accuracy_low", "effective_macs", "effective_flops", "density")
    assert [diverged[name] for name in unknown] == [""] * 6
    assert diverged["trained"] == "false"
    assert "nan" not in (tmp_path / "results.csv").read_text().lower().replace("not a number", "")


def test_front_csv_adds_the_test_accuracy(tmp_path):
    data_files.write_front_csv(example_run(test_accuracy={2: 0.851}, test_samples=500), tmp_path / "front.csv")
    found = rows(tmp_path / "front.csv")
    assert [(row["number"], row["test_accuracy"]) for row in found] == [("2", "0.851"), ("0", "")]
    assert list(found[0]) == [*data_files.RESULT_COLUMNS, *data_files.TEST_COLUMNS, *ADDRESSES]
    assert float(found[0]["test_accuracy_low"]) < 0.851 < float(found[0]["test_accuracy_high"])
    assert found[1]["test_accuracy_low"] == ""


def test_reasons_of_several_lines_stay_in_one_cell(tmp_path):
    run = example_run(results=(trial(1, outcome=Outcome.FAILED, epochs=0, reason='died:\n "x",\x1b[0m y'),))
    data_files.write_results_csv(run, tmp_path / "results.csv")
    assert rows(tmp_path / "results.csv")[0]["reason"] == 'died: "x", [0m y'


def test_front_json_by_hand(tmp_path):
    data_files.write_front_json(example_run(test_accuracy={2: 0.851}), tmp_path / "front.json")
    document = strict_json((tmp_path / "front.json").read_text())
    members = document.pop("members")
    baseline = document.pop("baseline")
    assert document.pop("hypervolume") == pytest.approx(0.764 * (100 / 110) * (85 / 110) + 0.036 * (10 / 110) ** 2)
    reference = {"accuracy": 0.1, "memory_bytes": 112640.0, "effective_flops": 110e6}
    assert document.pop("reference_point") == pytest.approx(reference)
    assert document == {
        "run": "tiny",
        "classes": list("0123456789"),
        "objectives": ["accuracy", "memory_bytes", "effective_flops"],
        "constant_objectives": [],
        "interval": {"method": "wilson", "confidence": 0.95},
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
    stored = {"time_steps": members[0]["time_steps"], "layers": members[0]["config"]}
    assert TypeAdapter(NetworkConfig).validate_python(stored) == example_run().results[2].config


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


def test_within_constraints_only_members_that_keep_them_are_the_front():
    budget = Budget(max_memory_bytes=20 * 1024, max_effective_flops=50e6)
    document = data_files.front_document(example_run(budget=budget))
    assert [member["number"] for member in document["members"]] == [2]
    assert document["constraints"] == {
        **dict.fromkeys(("flash_bytes", "ram_bytes", "synaptic_ops", "energy_uj", "accuracy")),
        **{"memory_bytes": 20 * 1024, "effective_flops": 50e6},
        **{"met": True, "nearest": None},
    }
    # Of the members shown alone: 0.764 is the accuracy above chance of trial 2.
    assert document["hypervolume"] == pytest.approx(0.764 * (100 / 110) * (85 / 110) * 1.1 / 1.1, rel=0.05)
    note = (
        "constraints: memory_bytes at most 20,480 bytes, effective_flops at most 50.0 MFLOPs; the front is that of the"
    )
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
        "NO TRIAL IS WITHIN THE CONSTRAINTS (memory_bytes at most 9,216 bytes, accuracy at least 88 %): the front is "
        "that of all trials. Nearest is trial 2, which misses accuracy by 1.6 points (86.4 %) and memory_bytes by "
        "1,024 bytes (10,240 bytes)"
    ) in run_report.report_markdown(summary)
