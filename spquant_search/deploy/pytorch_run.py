"""Run a trained network in PyTorch on frames, and keep its logits and the spikes of every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spquant_search.snn.kernels.compile import uncompiled
from spquant_search.snn.layers import searchable_layers
from spquant_search.snn.spikes import spikes_from_frames
from spquant_search.training.precision import exact_fp32


@dataclass(frozen=True, slots=True)
class PytorchOutputs:
    """The logits of a network summed over time, and the spikes of each layer before any pooling."""

    logits: NDArray[np.float64]  # [sample, class], in real units
    spikes: dict[str, NDArray[np.bool_]]  # [sample, time, row, column, channel]


def run_in_pytorch(network: nn.Module, frames: NDArray[np.uint8], form: dict[str, Any]) -> PytorchOutputs:
    """Evaluate a network on frames [sample, time or 1, channel, row, column]; of more frames than steps it is shown
    sums, as in training.

    ``form`` is the part of the manifest that describes the network.
    """
    samples, time_steps, steps = len(frames), form["time_steps"], form["steps"]
    device = next(network.parameters()).device
    fired: dict[str, NDArray[np.bool_]] = {}

    def keep(step: dict[str, Any]) -> Any:
        def hook(_module: nn.Module, _inputs: Any, spikes: torch.Tensor) -> None:
            by_step = spikes.view(time_steps, samples, *step["positions"], step["out_channels"])
            fired[step["name"]] = (by_step.transpose(0, 1) > 0).cpu().numpy()

        return hook

    layers = searchable_layers(network)
    firing = [step for step in steps if "neuron" in step]
    # Through the layers, as a name that holds a dot, or none at all, is no path of attributes.
    neurons = [layers[step["name"]].get_submodule("neuron.spikes") for step in firing]
    handles = [neuron.register_forward_hook(keep(step)) for neuron, step in zip(neurons, firing, strict=True)]
    counts = torch.from_numpy(np.array(frames)).to(device)
    spikes = spikes_from_frames(counts, largest=steps[0]["largest"], dtype=torch.float32, time_steps=time_steps)
    try:
        with torch.inference_mode(), exact_fp32(), uncompiled():
            logits = network.eval()(spikes.repeated() if spikes.constant else spikes)
    finally:
        for handle in handles:
            handle.remove()
    return PytorchOutputs(logits.double().sum(dim=0).cpu().numpy(), fired)
