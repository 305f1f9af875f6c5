"""Find the shapes of a network's layers without running it on any data."""

from __future__ import annotations

from spquant_search.snn.inspection import inspect_network
from spquant_search.space.schema import ModelSpace
from spquant_search.space.shapes import InputShape, LayerShape


def layer_shapes(model: ModelSpace, shape: InputShape, *, source: str) -> tuple[LayerShape, ...]:
    """Return the shapes of a network's layers, from one time step on the meta device: no memory, no arithmetic."""
    return inspect_network(model, shape, time_steps=1, source=source).shapes
