"""With one time step nothing is stored: membranes cost nothing, and their levels are no choice."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from spquant_search.costs.memory import cost_report
from spquant_search.driver.optuna_samplers import distributions
from spquant_search.report.cost_table import cost_table
from spquant_search.report.forms import legend, short_form
from spquant_search.runs.energy import upper_bounds
from spquant_search.runs.sensitivity import lowered_configurations
from spquant_search.space.presets import Preset
from spquant_search.space.references import preset_config
from spquant_search.training.prepare import prepare
from spquant_search.training.prepared import Prepared
from spquant_search.training.supernet import random_configuration

SPACES = Path(__file__).parents[2] / "spaces"
REFERENCES = (
    "search.references=[{weight_bits: 4, membrane_levels: 3}, {weight_bits: 4, membrane_levels: 16}, "
    "{weight_bits: 4, membrane_levels: 3, skip_below: 0}, {weight_bits: 2, membrane_levels: 16}]"
)


def one_step(*overrides: str, space: str = "tiny") -> Prepared:
    return prepare(SPACES / f"{space}.yaml", ("time_steps=1", *overrides))


@pytest.mark.parametrize("space", ["tiny", "vgg9"])
def test_no_configuration_differs_in_levels_or_cuts(space: str) -> None:
    prepared = one_step(space=space)
    choices = prepared.space.choices()
    searched = {address.parameter for address, options in choices.items() if len(options) > 1}
    assert searched == {"weight_bits", "channel_mass"}
    kinds = {"weight_bits", "channel_mass"}
    several = prepare(SPACES / f"{space}.yaml").space.choices()
    expected = math.prod(len(options) for address, options in several.items() if address.parameter in kinds)
    assert prepared.space.size() == expected
    assert {name.rpartition(".")[2] for name in distributions(prepared.space)} == kinds
    drawn = [random_configuration(prepared.space, random.Random(seed)) for seed in range(20)]
    for config in (prepared.space.baseline(), *prepared.space.references, *drawn):
        assert config in prepared.space or config == prepared.space.baseline()
        assert all(layer.membrane_levels is None and layer.skip_below is None for _, layer in config.layers)
    assert not any("membrane" in name or "skip" in name for name in lowered_configurations(prepared.space))


def test_references_that_become_one_configuration_count_once() -> None:
    assert len(prepare(SPACES / "tiny.yaml", (REFERENCES,)).space.references) == 4
    assert len(one_step(REFERENCES).space.references) == 2


@pytest.mark.parametrize("preset", list(Preset))
def test_membranes_cost_no_bytes_and_no_energy(preset: Preset) -> None:
    prepared = one_step()
    config = preset_config(preset, network="vgg9", shapes=prepared.shapes, time_steps=1)
    report = cost_report(prepared.shapes, config)
    assert report.membrane_bytes == 0
    assert report.memory_bytes == report.weight_bytes + report.overhead_bytes
    assert all(bound.membranes == 0 for bound in upper_bounds(report))
    several = prepare(SPACES / "tiny.yaml")
    at_three_steps = preset_config(preset, network="vgg9", shapes=several.shapes, time_steps=3)
    of_three_steps = cost_report(several.shapes, at_three_steps)
    assert of_three_steps.membrane_bytes > 0
    assert of_three_steps.memory_bytes - of_three_steps.membrane_bytes == report.memory_bytes
    found = prepared.footprint(report)
    if preset is not Preset.SNN_BL:
        assert found is not None
        with_membranes = several.footprint(of_three_steps)
        assert with_membranes is not None
        # Besides the membranes: on the engine's fast path they take whole words; on the plain one come a code of two
        # bytes for each channel of the widest layer.
        channels = max(shape.out_channels for shape in prepared.shapes if shape.kind != "readout")
        beside = with_membranes.ram - found.ram - of_three_steps.membrane_bytes
        assert 0 <= beside <= 2 * channels + 32 * len(prepared.shapes)


def test_what_has_no_effect_is_said_and_nothing_where_all_has() -> None:
    assert one_step("layers.conv2={membrane_levels: [3, 4]}").space.notes == (
        "no membrane: with one time step nothing is stored between steps; layers.all.membrane_levels, "
        "layers.all.skip_below, layers.conv2.membrane_levels have no effect",
    )
    assert one_step("layers={all: {weight_bits: [2, 4]}}", "search.references=[{weight_bits: 4}]").space.notes == ()
    assert prepare(SPACES / "tiny.yaml").space.notes == ()


def test_tables_say_why_there_are_no_levels() -> None:
    prepared = one_step()
    config = prepared.space.references[0]
    assert short_form(config) == "4444 4444 4"
    assert legend([config]) == "bits: one character a layer; no membrane: one time step"
    report = cost_report(prepared.shapes, config)
    notes = cost_table(report, title="", energy_columns=False).notes
    assert "no membrane: one time step" in notes
    assert not any("1 steps" in note for note in notes)
