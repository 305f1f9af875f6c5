"""Run a trained network in PyTorch on frames, and keep its logits and spikes, or which channels its gates open."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spquant_search.snn.kernels.compile import uncompiled
from spquant_search.snn.layers import searchable_layers
from spquant_search.snn.spikes import spikes_from_frames
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.training.precision import exact_fp32

BATCH = 64  # samples whose open channels are found at a time


@dataclass(frozen=True, slots=True)
class PytorchOutputs:
    """The logits of a network summed over time, and the spikes of each layer before any pooling."""

    logits: NDArray[np.float64]  # [sample, class], in real units
    spikes: dict[str, NDArray[np.bool_]]  # [sample, time, row, column, channel]


def run_in_pytorch(network: nn.Module, frames: NDArray[np.uint8], form: dict[str, Any]) -> PytorchOutputs:
    """Evaluate a network on frames [sample, time or 1, channel, row, column]; of more frames than steps it is shown
    sums, as in training.

    ``form`` is the part of the manifest that describes the network; spikes have the order of its channels.
    """
    samples, time_steps, steps = len(frames), form["time_steps"], form["steps"]
    fired: dict[str, NDArray[np.bool_]] = {}

    def keep(step: dict[str, Any]) -> Any:
        def hook(_module: nn.Module, _inputs: Any, spikes: torch.Tensor) -> None:
            by_step = spikes.view(time_steps, samples, *step["positions"], step["out_channels"])
            as_trained = (by_step.transpose(0, 1) > 0).cpu().numpy()
            fired[step["name"]] = as_trained[..., step["order"]] if "order" in step else as_trained

        return hook

    layers = searchable_layers(network)
    firing = [step for step in steps if "neuron" in step]
    # Through the layers, as a name that holds a dot, or none at all, is no path of attributes.
    neurons = [layers[step["name"]].get_submodule("neuron.spikes") for step in firing]
    handles = [neuron.register_forward_hook(keep(step)) for neuron, step in zip(neurons, firing, strict=True)]
    try:
        logits = _evaluated(network, frames, largest=steps[0]["largest"], time_steps=time_steps)
    finally:
        for handle in handles:
            handle.remove()
    return PytorchOutputs(logits.double().sum(dim=0).cpu().numpy(), fired)


def open_channels(
    network: nn.Module, frames: NDArray[np.uint8], *, largest: int, time_steps: int
) -> dict[str, NDArray[np.bool_]]:
    """Return which channels the gates of a network open, by layer: [sample and time step, channel], as trained.

    ``frames`` as for :func:`run_in_pytorch`, with values up to ``largest``.
    """
    found: defaultdict[str, list[NDArray[np.bool_]]] = defaultdict(list)

    def keep(name: str) -> Any:
        def hook(layer: SpikingConv2d, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            assert layer.gate is not None
            spikes = args[0] if args else kwargs["spikes"]
            found[name].append(layer.gate.open(spikes.counts, layer.precision.channel_mass).cpu().numpy())

        return hook

    layers = searchable_layers(network).items()
    gated = {name: layer for name, layer in layers if isinstance(layer, SpikingConv2d) and layer.is_gated}
    handles = [layer.register_forward_pre_hook(keep(name), with_kwargs=True) for name, layer in gated.items()]
    try:
        for begin in range(0, len(frames) if gated else 0, BATCH):
            _evaluated(network, frames[begin : begin + BATCH], largest=largest, time_steps=time_steps)
    finally:
        for handle in handles:
            handle.remove()
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _evaluated(network: nn.Module, frames: NDArray[np.uint8], *, largest: int, time_steps: int) -> torch.Tensor:
    """Return the logits of every time step."""
    counts = torch.from_numpy(np.array(frames)).to(next(network.parameters()).device)
    spikes = spikes_from_frames(counts, largest=largest, dtype=torch.float32, time_steps=time_steps)
    with torch.inference_mode(), exact_fp32(), uncompiled():
        logits: torch.Tensor = network.eval()(spikes.repeated() if spikes.constant else spikes)
    return logits
