"""The costs that the sampler knows before any training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from driver.study_examples import SHAPES, a_space

from spquant_search.costs.memory import cost_report
from spquant_search.driver.grey_box.candidates import Grid
from spquant_search.driver.grey_box.distribution_axes import axis_of
from spquant_search.driver.known_costs import known_costs
from spquant_search.driver.optuna_samplers import distributions
from spquant_search.space.address import Address
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.search_space import SearchSpace


def rows_of(space: SearchSpace, count: int) -> tuple[Grid, Any, list[NetworkConfig]]:
    """Draw random rows of a space's grid; return the grid, the rows and their configurations."""
    grid = Grid(axes=tuple(axis_of(name, one) for name, one in sorted(distributions(space).items())))
    rows = grid.uniform(np.random.default_rng(0), count)
    fixed = {address: options[0] for address, options in space.choices().items() if len(options) == 1}
    values = [{Address.parse(name): value for name, value in one.items()} for one in grid.parameters(rows)]
    return grid, rows, [space.config({**fixed, **one}) for one in values]


@pytest.mark.parametrize("mask", ["[none, 0]", "none", "0"])
def test_the_costs_that_the_sampler_knows_are_those_of_the_configuration(mask):
    """Ranges and fixed parameters are included."""
    space = a_space(
        "layers.all.weight_bits=[1, 2, 4, 8]",
        "layers.all.membrane_levels=[3, 16, 256]",
        "layers.all.channel_mass=1",
        "layers.conv1.weight_bits=8",
        "layers.conv2.channel_mass={from: 0.5, to: 1.0, step: 0.05}",
        "layers.all.skip_below=none",
        f"layers.conv2.skip_below={mask}",
        "search.references=[]",
    )
    costs = known_costs(space, SHAPES)
    grid, rows, configs = rows_of(space, 300)
    expected = [cost_report(SHAPES, config) for config in configs]
    assert costs["memory_bytes"].most(grid)(rows).tolist() == [report.memory_bytes for report in expected]
    assert costs["effective_flops"].most(grid)(rows).tolist() == [
        2 * report.dense_macs_all_steps for report in expected
    ]
    dense = [all(one.channel_mass == 1 and one.skip_below is None for _, one in config.layers) for config in configs]
    assert costs["effective_flops"].is_most(grid)(rows).tolist() == dense
    assert any(dense) == (mask != "0")


def test_a_layer_whose_gate_is_fixed_has_no_dense_macs():
    space = a_space("layers.conv2={channel_mass: 0.8}", "layers.all.skip_below=none", "search.references=[]")
    grid, rows, _ = rows_of(space, 20)
    assert not known_costs(space, SHAPES)["effective_flops"].is_most(grid)(rows).any()
