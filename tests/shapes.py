"""Layer shapes for tests that need some layers and no network."""

from __future__ import annotations

from dataclasses import replace

from spquant_search.space.shapes import LayerShape


def convolution(
    name: str,
    into: int,
    out: int,
    positions: int,
    *,
    area: int = 9,
    neurons: int | None = None,
    gate: bool = True,
) -> LayerShape:
    """Return a convolution, whose neurons are not pooled unless their number is given."""
    return LayerShape(
        name=name,
        kind="convolution",
        in_channels=into,
        out_channels=out,
        kernel_area=area,
        positions=positions,
        neurons=out * positions if neurons is None else neurons,
        can_gate=gate,
        terms=1 if neurons is None else out * positions // neurons,
    )


def shortcut(name: str, into: int, out: int, positions: int) -> LayerShape:
    """Return a convolution of single pixels without neurons."""
    return LayerShape(
        name=name,
        kind="shortcut",
        in_channels=into,
        out_channels=out,
        kernel_area=1,
        positions=positions,
        neurons=0,
        can_gate=False,
    )


def attention(name: str, channels: int, positions: int, *, macs: int = 0) -> LayerShape:
    """Return an attention, which has neurons and no weights."""
    return LayerShape(
        name=name,
        kind="attention",
        in_channels=channels,
        out_channels=channels,
        kernel_area=1,
        positions=positions,
        neurons=channels * positions,
        can_gate=False,
        weightless_macs=macs,
    )


def readout(into: int, out: int, *, area: int = 1) -> LayerShape:
    """Return the last layer, which has no neurons."""
    return LayerShape(
        name="readout",
        kind="readout",
        in_channels=into,
        out_channels=out,
        kernel_area=area,
        positions=1,
        neurons=0,
        can_gate=False,
    )


def layer(*, name: str, has_membrane: bool, can_gate: bool, has_weights: bool = True) -> LayerShape:
    """Return a layer of one input channel, one output channel and one position."""
    if not has_membrane:
        return replace(readout(1, 1), name=name, can_gate=can_gate)
    return convolution(name, 1, 1, 1, area=1, gate=can_gate) if has_weights else attention(name, 1, 1)
