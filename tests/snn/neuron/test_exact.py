"""From a convolution's sums to spikes, in one operation and in several."""

from __future__ import annotations

import pytest
import torch
from neurons import Setting, Sums, assert_fired, parameters, settings

from spquant_search.snn.neuron.exact import positions_together
from spquant_search.snn.neuron.reference import fire_step_by_step


@settings
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_sums_fire_as_one_operation_after_the_other(
    setting: Setting, residual: bool, groups: int, plain_neurons: None
) -> None:
    drawn = Sums.drawn(positions=9, groups=groups, channels=6 // groups)
    found = drawn.fired(setting, residual=residual)
    assert 0.05 < found.spikes.mean() < 0.95
    assert_fired(found, drawn.fired_one_after_the_other(setting, residual=residual))
    uncounted = drawn.fired(setting, residual=residual, reached=False)
    assert torch.equal(uncounted.spikes, found.spikes)
    assert uncounted[1:] == (None, None)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("positions", "channels", "together"), [(10, 8, 2), (24, 6, 8), (10, 16, 1), (2, 8, 1), (9, 8, 1)]
)
def test_positions_taken_together_fire_as_one_by_one(
    positions: int, channels: int, together: int, residual: bool, plain_neurons: None
) -> None:
    drawn = Sums.drawn(positions=positions, groups=1, channels=channels)
    assert positions_together(drawn.sums.shape) == together
    found = drawn.fired((16, 0.0, 0.5), residual=residual, reached=False)
    assert torch.equal(found.spikes, drawn.fired_one_after_the_other((16, 0.0, 0.5), residual=residual).spikes)


def test_sums_of_float_weights_are_not_rounded(plain_neurons: None) -> None:
    drawn = Sums.drawn(positions=9, groups=1, channels=6)
    drawn.slope, drawn.offset = drawn.slope.float(), drawn.offset.float()
    drawn.sums = drawn.sums + 0.3
    current = (drawn.sums.double() * drawn.slope + drawn.offset) * drawn.opened
    expected = fire_step_by_step(current, parameters((16, 0.0, 0.5))).float()
    assert torch.equal(drawn.fired((16, 0.0, 0.5), are_whole=False).spikes, expected)
    assert not torch.equal(drawn.fired((16, 0.0, 0.5)).spikes, expected)
