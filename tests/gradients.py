"""Check that a training step reaches every parameter of a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from spquant_search.snn.layers import searchable_layers


def backward_of_a_step(network: nn.Module, logits: Tensor) -> int:
    """Compute gradients of a cross-entropy and the gates' losses; return how many gates have one."""
    layers = searchable_layers(network).values()
    gates = [layer.gate_loss for layer in layers if layer.gate_loss is not None]
    samples = logits.shape[0] * logits.shape[1]
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), torch.arange(samples) % logits.shape[2])
    (loss + sum(gates)).backward()
    return len(gates)


def assert_every_parameter_has_a_gradient(network: nn.Module, *, gates: bool) -> None:
    """Check that gradients are finite and not all zero; without ``gates``, those of gates must be missing."""
    for name, parameter in network.named_parameters():
        if not gates and ".gate." in name:
            assert parameter.grad is None
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
