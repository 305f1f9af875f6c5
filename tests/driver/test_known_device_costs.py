"""What the sampler knows of flash, RAM and the most operations, against reports of configurations drawn at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spquant_search.costs.extremes import byte_figures
from spquant_search.costs.memory import cost_report
from spquant_search.driver.grey_box.candidates import Grid
from spquant_search.driver.grey_box.distribution_axes import axis_of
from spquant_search.driver.known_costs import known_costs
from spquant_search.driver.optuna_samplers import distributions
from spquant_search.runs.energy import most_energy_uj
from spquant_search.space.address import Address
from spquant_search.training.prepare import prepare

SPACES = Path(__file__).parents[2] / "spaces"
CHOICES = (
    "layers.all={weight_bits: [1, 2, 3, 4, 8], membrane_levels: [3, 5, 16, 100, 256], channel_mass: [0.7, 0.9, 1], "
    "skip_below: none}",
    "search.references=[]",
)
FEW = ("layers.all={weight_bits: [2, 8], membrane_levels: [3, 16], skip_below: none}", "search.references=[]")


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("vgg9", CHOICES),
        ("vgg9", ("layers.all={weight_bits: [2, 8, 32], membrane_levels: [3, 0]}", "search.references=[]")),
        ("tiny", (*FEW, "layers.conv3={channel_mass: 0.8}", "time_steps=[1, 3]")),
        ("tiny", (*FEW, "time_steps=1")),
        ("resnet19-cifar10", (*CHOICES, "model.width=0.125")),
        ("spikformer4-256-cifar10", (*FEW, "model.width=0.25")),
        ("mobilenet-cifar10dvs", (*CHOICES, "model.width=0.25")),
    ],
)
def test_every_row_costs_what_the_report_of_its_configuration_says(name, overrides):
    prepared = prepare(SPACES / f"{name}.yaml", overrides)
    space, shapes, architecture = prepared.space, prepared.shapes, prepared.architecture
    assert architecture is not None
    known = known_costs(space, shapes, architecture)
    grid = Grid(axes=tuple(axis_of(axis, one) for axis, one in sorted(distributions(space).items())))
    rng = np.random.default_rng(1)
    # Half of them lean to small or to large choices as a whole, which is where the engine's needs change.
    rows = np.concatenate([grid.uniform(rng, 100), grid.tilted(rng, 100), [grid.sizes - 1, 0 * grid.sizes]])
    rows = grid.settled(rows)
    values = [{Address.parse(axis): value for axis, value in one.items()} for one in grid.parameters(rows)]
    configs = [space.config(one) for one in values]
    figures = [byte_figures(shapes, architecture, config) for config in configs]
    for cost in ("memory_bytes", "flash_bytes", "ram_bytes"):
        assert known[cost].is_exact
        assert known[cost].most(grid)(rows).tolist() == [one.get(cost, np.inf) for one in figures]
    reports = [cost_report(shapes, config) for config in configs]
    operations = [
        report.time_steps * sum(layer.shape.dense_macs + layer.predictor_macs for layer in report.layers)
        for report in reports
    ]
    assert known["synaptic_ops"].most(grid)(rows).tolist() == operations
    assert known["energy_uj"].most(grid)(rows) == pytest.approx([most_energy_uj(report) for report in reports])
    assert known["effective_flops"].most(grid)(rows).tolist() == [2 * one.dense_macs_all_steps for one in reports]
    for cost in ("synaptic_ops", "energy_uj"):
        assert not known[cost].is_most(grid)(rows).any()


def test_a_network_without_an_integer_form_has_neither_flash_nor_ram():
    prepared = prepare(SPACES / "tiny.yaml", ())
    assert known_costs(prepared.space, prepared.shapes).keys() == {
        *("memory_bytes", "effective_flops", "synaptic_ops", "energy_uj")
    }
