"""Results: what is derived from epochs, and the JSON that a run folder keeps."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from examples import config, epoch, trial
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from shapes import readout

from spquant_search.costs.device import Footprint
from spquant_search.costs.memory import cost_report
from spquant_search.runs.results import LayerActivity, Origin, Outcome, TrialResult, unmeasured


def test_the_last_epoch_is_what_counts():
    result = replace(trial(3), epochs=(epoch(1, 0.9, 4e6), epoch(2, 0.7, 8e6)))
    assert (result.accuracy, result.effective_macs, result.effective_flops) == (0.7, 8e6, 16e6)
    assert (result.synaptic_ops, result.density) == (2e6, 0.125)
    assert result.is_measured


def test_without_an_epoch_nothing_is_a_number():
    result = trial(3, epochs=0)
    for name in ("accuracy", "effective_macs", "effective_flops", "synaptic_ops", "density"):
        assert math.isnan(getattr(result, name))
    assert not result.is_measured


def test_memory_is_the_sum_of_its_parts():
    result = replace(trial(1), weight_bytes=100, membrane_bytes=20, overhead_bytes=3)
    assert result.memory_bytes == 123


@given(
    accuracies=st.lists(st.floats(0, 1), max_size=3),
    outcome=st.sampled_from(Outcome),
    skip=st.sampled_from([None, 0.0, -1.0]),
)
def test_json_round_trip(accuracies, outcome, skip):
    layers = (("conv1", LayerActivity(effective_macs=1.5, synaptic_ops=0.5, density=0.1, open_share=0.75)),)
    epochs = tuple(epoch(index, accuracy, 1e6) for index, accuracy in enumerate(accuracies, 1))
    result = replace(trial(7, outcome=outcome, layers=layers, of=config(skip=skip)), epochs=epochs)
    document = TypeAdapter(TrialResult)
    stored = json.dumps(document.dump_python(result, mode="json"))
    assert document.validate_json(stored, strict=True) == result
    assert json.loads(stored)["outcome"] == outcome.name


def test_a_result_without_epochs_is_known_by_its_cost():
    shape = readout(8, 10, area=4)
    of = replace(config(), layers=config("4", "").layers)
    cost = cost_report((shape,), of)
    result = unmeasured(
        number=5,
        origin=Origin.TPE,
        config=of,
        seed=9,
        cost=cost,
        device=Footprint(flash=220, ram=60, engine_flash=20, engine_ram=60),
        outcome=Outcome.DUPLICATE,
        reason="same as trial 2",
    )
    assert (result.weight_bytes, result.membrane_bytes, result.overhead_bytes) == (160, 0, 40)
    assert (result.flash_bytes, result.ram_bytes) == (220, 60)
    plain = replace(result, engine_flash_bytes=None, engine_ram_bytes=None)
    assert (plain.flash_bytes, plain.ram_bytes) == (None, None)
    assert result.dense_macs == 320 * 4
    assert result.epochs == ()
    assert (result.number, result.origin, result.seed, result.outcome) == (5, "tpe", 9, Outcome.DUPLICATE)
    assert result.reason == "same as trial 2"


def test_results_are_values():
    with pytest.raises(AttributeError):
        trial(1).number = 2
    assert trial(1) == trial(1)
