"""The parameters of a neuron: where a cut lies, and the gain of a threshold."""

from __future__ import annotations

import math

import pytest
import torch

from spquant_search.snn.neuron.parameters import neuron_parameters, threshold_gain
from spquant_search.space.grid import membrane_grid


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 7, 16, 256])
def test_a_cut_on_the_stored_value_is_a_cut_on_the_potential_after_the_reset(levels: int) -> None:
    grid = membrane_grid(levels)
    ties = torch.arange(grid.lowest - 2, grid.highest + 2, grid.step / 2)
    near = [torch.nextafter(ties, torch.tensor(end)) for end in (math.inf, -math.inf)]
    resets = torch.cat([ties, *near])
    stored = torch.tensor([min(grid.values, key=lambda v: (abs(v - x), abs(v))) for x in resets.tolist()])
    for cut in {*grid.values, grid.lowest - 1, 0.1, -0.3, grid.highest + 1}:
        p = neuron_parameters(leak=0.5, grid=grid, skip_below=cut)
        assert torch.equal(resets >= p.reset_cut, stored >= torch.tensor(cut)), cut


@pytest.mark.parametrize(
    ("theta", "gain"), [(1.0, 1.0), (1.02, 1.0), (1.04, 15 / 16), (0.3, 53 / 16), (1e-6, 255 / 16), (1e6, 1 / 16)]
)
def test_a_threshold_is_positive_and_its_reciprocal_in_sixteenths(theta: float, gain: float) -> None:
    log_threshold = torch.tensor(math.log(theta), requires_grad=True)
    found = threshold_gain(log_threshold)
    found.backward()
    assert found.item() == gain
    assert found.bfloat16().item() == gain
    assert log_threshold.grad is not None
    assert log_threshold.grad.item() == pytest.approx(-1 / theta, rel=1e-4)
