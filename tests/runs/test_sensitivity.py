"""What is measured of a space, and what is made of the readings."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter

from spquant_search.costs.memory import cost_report
from spquant_search.runs.sensitivity import (
    REFERENCE,
    Sensitivity,
    by_layer,
    choice_words,
    lowered_configurations,
    sensitivity,
)
from spquant_search.training.prepare import prepare
from spquant_search.training.prepared import Prepared

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"


def small(*overrides: str) -> Prepared:
    """Three choices of conv2's bits and four of its membrane, which are in no order; a gate everywhere that can."""
    fixed = "layers.all={weight_bits: 4, membrane_levels: 3, channel_mass: [0.8, 0.9], skip_below: [0, none]}"
    conv2 = "layers.conv2={weight_bits: [2, 32, 4], membrane_levels: [16, 0, 3, 256]}"
    return prepare(TINY, (fixed, conv2, "search.references=[]", *overrides))


def test_the_reference_and_every_lower_choice_alone() -> None:
    configs = lowered_configurations(small().space)
    assert list(configs) == [
        REFERENCE,
        *("conv2.weight_bits=4", "conv2.weight_bits=2"),
        *("conv2.membrane_levels=256", "conv2.membrane_levels=16", "conv2.membrane_levels=3"),
    ]
    reference = configs[REFERENCE]
    conv2 = reference["conv2"]
    # The gates that the space has and the widest of them, as it has none without; no mask.
    assert (conv2.weight_bits, conv2.membrane_levels, conv2.channel_mass, conv2.skip_below) == (32, 0, 0.9, None)
    assert (reference["conv1"].channel_mass, reference["conv3"].weight_bits) == (1.0, 4)
    for name, config in configs.items():
        different = {str(address) for address, value in config.flat().items() if value != reference.flat()[address]}
        assert different == ({name.partition("=")[0]} if name != REFERENCE else set())
    assert configs["conv2.weight_bits=2"]["conv2"].weight_bits == 2
    assert configs["conv2.membrane_levels=16"]["conv2"].membrane_levels == 16


def test_losses_and_bytes_are_against_the_reference() -> None:
    prepared = small()
    configs = lowered_configurations(prepared.space)
    accuracies = dict.fromkeys(configs, 0.75) | {REFERENCE: 0.8, "conv2.weight_bits=4": 0.82}
    found = sensitivity(prepared.space, prepared.shapes, accuracies, samples=100)
    first, second = found.choices[:2]
    assert (str(first.address), first.value, round(found.loss(first), 6)) == ("conv2.weight_bits", 4, -0.02)
    assert round(found.loss(second), 6) == 0.05
    memory = {name: cost_report(prepared.shapes, config).memory_bytes for name, config in configs.items()}
    assert found.bytes_saved(second) == memory[REFERENCE] - memory["conv2.weight_bits=2"] > 0
    assert TypeAdapter(Sensitivity).validate_json(json.dumps(found.as_dict()), strict=True) == found


def test_choices_in_words() -> None:
    words = [choice_words("weight_bits", value) for value in (32, 4, 1)]
    words += [choice_words("membrane_levels", value) for value in (0, 3)]
    assert words == ["float", "4 bits", "1 bit", "float", "3 levels"]


def test_fewer_time_steps_are_measured_alone_and_are_no_choice_of_a_layer() -> None:
    prepared = small("time_steps=[1, 2, 4]")
    configs = lowered_configurations(prepared.space)
    assert list(configs)[:3] == [REFERENCE, "time_steps=2", "time_steps=1"]
    assert [configs[name].time_steps for name in list(configs)[:3]] == [4, 2, 1]
    assert {config.time_steps for name, config in configs.items() if name.startswith("conv")} == {4}
    assert all(config in prepared.space for config in configs.values())
    # Networks of different steps have no result in common that could be computed once.
    assert by_layer(configs)[:3] == [(REFERENCE,), ("time_steps=2",), ("time_steps=1",)]
    accuracies = dict.fromkeys(configs, 0.75) | {REFERENCE: 0.8, "time_steps=1": 0.7}
    found = sensitivity(prepared.space, prepared.shapes, accuracies, samples=100)
    assert [(one.layer, one.parameter, one.value) for one in found.fewer_steps] == [
        ("", "time_steps", 2),
        ("", "time_steps", 1),
    ]
    assert {choice.layer for choice in found.choices} == {"conv2"}
    two, one = found.fewer_steps
    assert (found.bytes_saved(two), round(found.loss(one), 6)) == (0, 0.1)
    assert found.bytes_saved(one) == cost_report(prepared.shapes, configs[REFERENCE]).membrane_bytes
    assert TypeAdapter(Sensitivity).validate_json(json.dumps(found.as_dict()), strict=True) == found
