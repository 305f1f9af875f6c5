"""Find the shapes of a network's layers without running it on any data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spquant_search.errors import Problem, SpaceError
from spquant_search.snn.layers import SearchableLayer, searchable_layers
from spquant_search.snn.networks.catalog import build
from spquant_search.snn.spikes import Spikes
from spquant_search.space.schema import ModelSpace
from spquant_search.space.shapes import InputShape, LayerShape


def layer_shapes(model: ModelSpace, shape: InputShape, *, source: str) -> tuple[LayerShape, ...]:
    """Return the shapes of a network's layers, from one frame on the meta device: no memory, no arithmetic."""
    with torch.device("meta"):
        network = build(model, shape, source=source).eval()
        frame = torch.empty(1, shape.channels, shape.height, shape.width)
    found: list[LayerShape] = []

    def record(name: str, layer: SearchableLayer) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            found.append(layer.shape(name, *(value for value in inputs if isinstance(value, Spikes))))

        return hook

    for name, layer in searchable_layers(network).items():
        layer.register_forward_pre_hook(record(name, layer))
    try:
        with torch.no_grad():
            logits = network(Spikes(values=frame, time_steps=1, largest=shape.largest))
    except Exception as error:
        if model.build is None:
            raise
        words = f"{type(error).__name__}: {error}"
        sentence = f"{model.build} fails on an input of {tuple(frame.shape)}: {words}"
        raise SpaceError(source, [Problem("model.build", sentence)]) from error
    expected = (1, 1, shape.classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        sentence = f"{model.build} must give logits of [time, batch, classes], here {expected}; got {got}"
        raise SpaceError(source, [Problem("model.build", sentence)])
    return tuple(found)
