"""A small search gives what it gave when it was recorded: record_equal_results.py says what that covers.

Trainings are equal bit for bit only where the same instructions run, so the test of every result is skipped on other
machines, with the reason; configurations that no training decides, and their costs, are equal everywhere.
"""

from __future__ import annotations

import json

import pytest
from end_to_end.record_equal_results import COSTS, RECORD_FILE, Record, record

# Drawn before anything is measured; a search fine-tunes what turned out to be good.
ORIGINS_BEFORE_ANY_MEASUREMENT = ("baseline", "reference", "random")


@pytest.fixture(scope="module")
def recorded() -> Record:
    return json.loads(RECORD_FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """What the search gives now; through JSON, as the record went."""
    return json.loads(json.dumps(record(tmp_path_factory.mktemp("equal-results"))))


def costs_by_configuration(results: Record) -> list[Record]:
    """Keep of every trial that no training decides its number, origin, configuration and costs."""
    kept = ("number", "origin", "configuration", *COSTS)
    trials = [trial for trial in results["trials"] if trial["origin"] in ORIGINS_BEFORE_ANY_MEASUREMENT]
    return [{name: trial[name] for name in kept} for trial in trials]


def test_configurations_and_their_costs_are_equal_everywhere(recorded, found):
    assert costs_by_configuration(found) == costs_by_configuration(recorded)


def test_every_recorded_configuration_is_among_those_whose_costs_are_compared(recorded):
    compared = [trial["configuration"] for trial in costs_by_configuration(recorded)]
    assert all(trial["configuration"] in compared for trial in recorded["trials"])


def test_every_result_is_equal_bit_for_bit(recorded, found):
    here, there = found["machine"], recorded["machine"]
    if here != there:
        pytest.skip(f"only configurations and costs are compared: recorded on {there}, this is {here}")
    assert found == recorded
