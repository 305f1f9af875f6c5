"""A space's network on a device, with weights from a seed or from files, and weights to files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from spquant_search.runs.files import write_bytes
from spquant_search.runs.random_streams import Purpose, derived_seed
from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.snn.networks.catalog import build
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.schema import SpaceFile
from spquant_search.space.shapes import InputShape


def new_network(space: SpaceFile, shape: InputShape, *, seed: int, device: torch.device) -> nn.Module:
    """Build a space's network with weights drawn from ``seed``, in the memory order in which convolutions are
    fastest."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, Purpose.INITIAL_WEIGHTS))
        network = build(space.model, shape, source="space")
    # Thresholds that are learned are among the weights: they must be there before any are loaded or trained.
    for layer in searchable_layers(network).values():
        layer.set_precision(layer.precision, space.neuron)
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def configured_network(
    space: SpaceFile,
    shape: InputShape,
    config: NetworkConfig,
    *,
    weights: Sequence[Path],
    device: torch.device,
    seed: int = 0,
) -> nn.Module:
    """Build a space's network at a configuration; without files of ``weights`` they are drawn from ``seed``."""
    network = new_network(space, shape, seed=seed, device=device)
    configure(network, config, space.neuron)
    if weights:
        load_weights(network, *weights)
    return network


def load_weights(network: nn.Module, *files: Path) -> None:
    """Copy weights into a network of the same architecture; a later file replaces what an earlier one holds too."""
    merged = {name: tensor for file in files for name, tensor in load_file(file).items()}
    # A part that has two names in a network is replaced by its first name alone.
    first: dict[int, str] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        earlier = first.setdefault(id(tensor), name)
        if earlier != name and earlier in merged:
            merged[name] = merged[earlier]
    network.load_state_dict(merged)


def write_weights(network: nn.Module, file: Path) -> None:
    """Write all weights and statistics of a network, the complete file or none."""
    write_tensors(network.state_dict(), file)


def write_tensors(tensors: Mapping[str, Tensor], file: Path, *, replaces: bool = True) -> None:
    """Write tensors by name, the complete file or none; with ``replaces`` False a file that exists is kept."""
    write_bytes(file, tensors_bytes(tensors), replaces=replaces)


def tensors_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors by name as a safetensors file; one that has two names is in it twice."""
    written: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in _on_host(tensors).items():
        copy = tensor.contiguous()
        place = copy.untyped_storage().data_ptr()
        written[name] = copy.clone() if place in places else copy
        places.add(place)
    return save(written)


def _on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors in the host's memory, where those of a GPU come together: each copy waits for it."""
    held = {name: tensor.detach() for name, tensor in tensors.items()}
    return held | _copied_together({name: tensor for name, tensor in held.items() if tensor.is_cuda})


def _copied_together(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors of any types to the host's memory as one tensor of bytes."""
    if not tensors:
        return {}
    pieces = [tensor.reshape(-1).view(torch.uint8) for tensor in tensors.values()]
    read = torch.cat(pieces).cpu().split_with_sizes([len(piece) for piece in pieces])
    # A clone begins where any type may.
    parts = (part.clone().view(tensor.dtype) for part, tensor in zip(read, tensors.values(), strict=True))
    return {name: part.view(tensors[name].shape) for name, part in zip(tensors, parts, strict=True)}
