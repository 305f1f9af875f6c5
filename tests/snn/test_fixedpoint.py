"""Slopes and offsets in fixed point are as close to the real numbers as their bits allow."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from spquant_search.snn.fixedpoint import affine_in_fixed_point


@given(
    slope=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=8),
    offset=st.floats(-1000, 1000, width=32),
)
def test_fixed_point_is_as_fine_as_its_bits_allow(slope: list[float], offset: float) -> None:
    a, d = torch.tensor(slope), torch.full((len(slope),), offset)
    fixed = affine_in_fixed_point(a, d)
    shift = int(fixed.shift)
    assert fixed.slope.abs().max() <= 2**15 - 1
    assert fixed.offset.abs().max() <= 2**31 - 1
    values, offsets = fixed.values
    assert (values - a.double()).abs().max() <= 2.0 ** -(shift + 1)
    assert (offsets - d.double()).abs().max() <= 2.0 ** -(shift + 1)
    finer = 2.0 ** (shift + 1)
    assert shift == 24 or abs(a.double()).max() * finer > 2**15 - 1 or abs(offset) * finer > 2**31 - 1
