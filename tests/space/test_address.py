"""Addresses of searched values, as text and back."""

from __future__ import annotations

import pytest

from spquant_search.space.address import Address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("conv3.weight_bits", Address("conv3", "weight_bits")),
        ("stage1.block0.conv2.channel_mass", Address("stage1.block0.conv2", "channel_mass")),
        ("weight_bits", Address("", "weight_bits")),
    ],
)
def test_text_and_address_are_inverses(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert f"{address}" == text
