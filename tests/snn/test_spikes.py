"""Signals between layers: currents and averages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from layers_by_loops import BATCH, TIME, array, four_channels, whole_numbers

from spquant_search.snn.spikes import Spikes, global_average


def test_spikes_are_their_own_current_as_identity_shortcut() -> None:
    spikes = four_channels()
    assert torch.equal(spikes.current(), spikes.values / 4)
    plain = Spikes(values=whole_numbers(2, 3, 3), time_steps=TIME)
    assert plain.current() is plain.values


def test_a_global_average_is_a_sum_of_whole_numbers_and_its_divisor() -> None:
    spikes = four_channels()
    pooled = global_average(spikes)
    assert pooled.values.shape == (TIME * BATCH, 4, 1, 1)
    assert torch.equal(pooled.values, pooled.values.round())
    np.testing.assert_allclose(
        array(pooled.values) / pooled.divisor, array(spikes.values / 4).mean(axis=(2, 3), keepdims=True)
    )
    assert (pooled.largest, pooled.divisor) == (4 * 42, 4 * 42)
    assert pooled.open is spikes.open
    full = Spikes(values=torch.ones(1, 1, 19, 27, dtype=torch.bfloat16), time_steps=1)
    assert global_average(full).values.item() == 19 * 27, "more than bf16 counts"


def test_a_still_image_that_was_written_out_is_known_until_its_values_change() -> None:
    still = Spikes(values=torch.randint(0, 3, (2, 1, 4, 4)).float(), time_steps=3, largest=2, constant=True)
    for mode in (False, True):
        with torch.inference_mode(mode):
            written = still.repeated()
            once = written.of_one_step()
            assert once.constant
            assert torch.equal(once.values, still.values)
            assert torch.equal(once.repeated().values, written.values)
            other = replace(written, values=written.values + 1)
            assert other.of_one_step() is other
            written.values[0] += 1
            assert written.of_one_step() is written
            assert still.values.max() <= 2, "the image itself is another tensor"
    spikes = Spikes(values=still.values, time_steps=2)
    assert spikes.repeated() is spikes.of_one_step() is spikes
