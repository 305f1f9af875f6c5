"""A space's network and data on a device, and weights from and to files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from spquant_search.data.loading import DataSet, Split
from spquant_search.runs.files import write_bytes
from spquant_search.snn.layers import searchable_layers
from spquant_search.snn.networks.catalog import build
from spquant_search.space.schema import SpaceFile
from spquant_search.space.shapes import InputShape
from spquant_search.training.loader import LoadedSplit, to_device


def input_shape(data: DataSet) -> InputShape:
    """What a network for this data set is fed with."""
    return InputShape(
        channels=data.channels,
        height=data.height,
        width=data.width,
        classes=len(data.classes),
        largest=data.largest,
    )


def on_device(
    data: DataSet, name: Literal["train", "validation", "test"], device: torch.device, *, sharers: int = 1
) -> LoadedSplit:
    """A split, still as bytes, as batches of which the device trains; ``sharers`` processes train on that device."""
    split: Split = getattr(data, name)
    return to_device(
        split.frames,
        split.labels,
        time_steps=data.time_steps,
        largest=data.largest,
        device=device,
        sharers=sharers,
    )


def new_network(space: SpaceFile, shape: InputShape, *, seed: int, device: torch.device) -> nn.Module:
    """The network of a space with weights drawn from ``seed``, in the memory order that convolutions are fastest in."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(space.model, shape, source="space")
    # Thresholds that are learned are among the weights: they must be there before any are loaded or trained.
    for layer in searchable_layers(network).values():
        layer.set_precision(layer.precision, space.neuron)
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def load_weights(network: nn.Module, *files: Path) -> None:
    """Copy weights into a network of the same architecture; what several files hold is that of the last of them."""
    merged = {name: tensor for file in files for name, tensor in load_file(file).items()}
    network.load_state_dict(merged)


def write_weights(network: nn.Module, file: Path) -> None:
    """All weights and statistics, whole or not at all."""
    write_tensors(network.state_dict(), file)


def write_tensors(tensors: Mapping[str, Tensor], file: Path, *, replaces: bool = True) -> None:
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_bytes(file, content, replaces=replaces)
