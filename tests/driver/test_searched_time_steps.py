"""Time steps as a parameter of Optuna and the sampler: costs by row, and one row a configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from driver.study_examples import SHAPES, a_space, proceed, study_at
from driver.test_known_costs import rows_of

from spquant_search.costs.memory import cost_report
from spquant_search.driver.grey_box.candidates import Grid
from spquant_search.driver.known_costs import known_costs
from spquant_search.space.configuration import OFF, STORED

STEPS = ("time_steps=[1, 2, 4]", "search.references=[{weight_bits: 4, membrane_levels: 3, time_steps: 1}]")


@pytest.mark.parametrize("mask", ["[none, 0]", "none", "0"])
def test_costs_that_the_sampler_knows_are_those_of_the_configuration(mask: str) -> None:
    space = a_space(
        *STEPS[:1], "search.references=[]", "layers.conv1.membrane_levels=4", f"layers.all.skip_below={mask}"
    )
    grid, rows, configs = rows_of(space, 400)
    costs = known_costs(space, SHAPES)
    reports = [cost_report(SHAPES, config) for config in configs]
    assert {report.time_steps for report in reports} == {1, 2, 4}
    assert costs["memory_bytes"].most(grid)(rows).tolist() == [report.memory_bytes for report in reports]
    assert costs["effective_flops"].most(grid)(rows).tolist() == [2 * report.dense_macs_all_steps for report in reports]
    dense = [
        all(getattr(layer, name) == off for name, off in OFF.items() for _, layer in one.layers) for one in configs
    ]
    assert costs["effective_flops"].is_most(grid)(rows).tolist() == dense


def a_grid() -> Grid:
    grid, _, _ = rows_of(a_space(*STEPS), 1)
    return grid


def levels_of(one: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in one.items() if name.rpartition(".")[2] in STORED}


def test_every_configuration_of_one_step_is_one_row() -> None:
    grid, rng = a_grid(), np.random.default_rng(0)
    uniform = grid.uniform(rng, 300)
    for rows in (uniform, grid.tilted(rng, 300), grid.offspring(rng, uniform, 300)):
        values = grid.parameters(rows)
        at_one = [one for one in values if one["time_steps"] == 1]
        assert at_one
        for one in at_one:
            # The most precise choices: 16 levels, and no mask.
            assert set(levels_of(one).values()) == {16, None}
        assert len({tuple(levels_of(one).items()) for one in values if one["time_steps"] > 1}) > 10
        assert (grid.rows(values) == rows).all()


def test_what_another_sampler_drew_at_one_step_is_the_same_row() -> None:
    grid = a_grid()
    one = dict(grid.parameters(grid.uniform(np.random.default_rng(1), 1))[0], time_steps=1)
    other = one | {name: 3 if name.endswith("levels") else 0 for name in levels_of(one)}
    first, second = grid.rows([one, other])
    assert (first == second).all()


@pytest.mark.parametrize("sampler", ["grey-box", "tpe"])
def test_every_sampler_proposes_all_numbers_of_steps(tmp_path, sampler: str) -> None:
    space = a_space(*STEPS, f"search.sampler={sampler}")
    asked = proceed(study_at(tmp_path / "study.journal", space), 16)
    assert asked[0].config.time_steps == 4, "the baseline"
    assert asked[1].config == space.references[0], "whatever is stored for levels at one step"
    assert {one.config.time_steps for one in asked} == {1, 2, 4}
    assert all(one.config in space for one in asked[1:])
