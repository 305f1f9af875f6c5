"""Layer shapes for tests that need some layers and no network."""

from __future__ import annotations

from typing import Literal

from spquant_search.space.shapes import LayerShape


def layer(*, name: str, has_membrane: bool, can_gate: bool, has_weights: bool = True) -> LayerShape:
    """A layer of one input channel, one output channel and one position."""
    kind: Literal["convolution", "shortcut", "attention", "readout"] = "convolution" if has_membrane else "readout"
    return LayerShape(
        name=name,
        kind=kind if has_weights else "attention",
        in_channels=1,
        out_channels=1,
        kernel_area=1,
        positions=1,
        neurons=int(has_membrane),
        can_gate=can_gate,
    )
