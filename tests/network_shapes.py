"""The shapes of a network's layers alone, for tests that need nothing else of it."""

from __future__ import annotations

from spquant_search.snn.inspection import inspect_network
from spquant_search.space.schema import ModelSpace
from spquant_search.space.shapes import InputShape, LayerShape


def layer_shapes(model: ModelSpace, shape: InputShape, *, source: str) -> tuple[LayerShape, ...]:
    return inspect_network(model, shape, time_steps=1, source=source).shapes
