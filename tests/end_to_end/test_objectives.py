"""Searches with other objectives than memory and operations, from the command line to what is picked of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from searches import SEARCH, TINY, program

from spquant_search.costs.extremes import dearest_figures
from spquant_search.training.prepare import prepare

FEW = [*SEARCH, "--set", "train.baseline_epochs=1", "--set", "supernet.epochs=1", "--set", "final.epochs=1"]


def answer(place: Path, *words: str, code: int = 0) -> str:
    done = program(place, *words)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def on_device(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A search of flash and RAM, and what it printed."""
    place = tmp_path_factory.mktemp("on-device")
    return place, answer(place, *FEW, "--set", "search.objectives=[accuracy, flash_bytes, ram_bytes]")


@pytest.mark.slow
def test_a_search_of_flash_and_ram(on_device):
    place, printed = on_device
    document = json.loads((place / "runs" / "tiny" / "front.json").read_text())
    assert document["objectives"] == ["accuracy", "flash_bytes", "ram_bytes"]
    prepared = prepare(TINY, [word for word in FEW if "=" in word])
    dearest = dearest_figures(prepared.space, prepared.shapes, prepared.architecture)
    expected = {"accuracy": 0.1, **{name: 1.1 * dearest[name] for name in ("flash_bytes", "ram_bytes")}}
    assert document["reference_point"] == pytest.approx(expected)
    members = document["members"]
    assert members
    assert [member["flash_bytes"] for member in members] == sorted(member["flash_bytes"] for member in members)
    for member in members:  # none is beaten, none keeps floats
        assert member["number"] > 0
        assert not any(
            other["accuracy"] >= member["accuracy"]
            and other["flash_bytes"] <= member["flash_bytes"]
            and other["ram_bytes"] <= member["ram_bytes"]
            and other["number"] != member["number"]
            and (other["accuracy"], other["flash_bytes"], other["ram_bytes"])
            != (member["accuracy"], member["flash_bytes"], member["ram_bytes"])
            for other in members
        )
    assert "the front of accuracy, flash and RAM" in printed
    assert "flash KiB" in printed
    assert "1.1 times the dearest configuration of the space in flash and in RAM" in (
        place / "runs" / "tiny" / "report.md"
    ).read_text().replace("\n", " ")


@pytest.mark.slow
def test_what_is_picked_of_it_is_within_the_bounds(on_device):
    place, _ = on_device
    members = json.loads((place / "runs" / "tiny" / "front.json").read_text())["members"]
    most = min(member["ram_bytes"] for member in members)
    printed = answer(place, "pick", "tiny", "--max-ram", str(most), "--out", "picked")
    manifest = json.loads((place / "picked" / "manifest.json").read_text())
    assert f"RAM {most:,} bytes" in printed
    assert manifest["ram_bytes"] == most
    assert "KiB of flash" in printed


@pytest.mark.slow
def test_it_goes_on_with_other_constraints_and_with_no_other_objectives(on_device):
    place, _ = on_device
    objectives = ("--set", "search.objectives=[accuracy, flash_bytes, ram_bytes]")
    refused = answer(place, *FEW, code=2)
    assert "search.objectives: ['accuracy', 'flash_bytes', 'ram_bytes'] in the run" in refused
    members = json.loads((place / "runs" / "tiny" / "front.json").read_text())["members"]
    bound = max(member["flash_bytes"] for member in members) - 1
    printed = answer(place, *FEW, *objectives, "--set", f"constraints.flash_bytes={bound}")
    assert (
        f"the run goes on with other constraints, which choose its front anew: flash_bytes {bound:,} (was none)"
        in printed
    )
    document = json.loads((place / "runs" / "tiny" / "front.json").read_text())
    assert document["constraints"]["flash_bytes"] == bound
    if document["constraints"]["met"]:
        assert all(member["flash_bytes"] <= bound for member in document["members"])


def test_a_search_of_synaptic_operations_alone(tmp_path):
    printed = answer(tmp_path, *FEW, "--set", "search.objectives=[accuracy, synaptic_ops]")
    document = json.loads((tmp_path / "runs" / "tiny" / "front.json").read_text())
    baseline = document["baseline"]
    assert document["reference_point"] == pytest.approx(
        {"accuracy": 0.1, "synaptic_ops": 1.1 * baseline["synaptic_ops"]}
    )
    operations = [member["synaptic_ops"] for member in document["members"]]
    accuracies = [member["accuracy"] for member in document["members"]]
    assert operations == sorted(operations)
    assert accuracies == sorted(accuracies)
    assert "the front of accuracy and synaptic operations" in printed
    with (tmp_path / "runs" / "tiny" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert 0 < float(row["synaptic_ops"]) < float(row["dense_macs"]) * 1.1
        assert float(row["energy_uj"]) > 0
