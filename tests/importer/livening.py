"""Weights with which every layer of a network that was never trained spikes, and batch norms as after a training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spquant_search.importer.libraries import neurons_of, reset_states


def liven(network: nn.Module, example: Tensor, run: Any = None, *, seed: int = 0) -> nn.Module:
    """Give batch norms random statistics, and scale what goes into neurons until some of each layer spike."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            _after_a_training(module, generator)
    network.eval()
    with torch.no_grad():
        for _ in range(6 * len(list(neurons_of(network)))):
            if not _scale_what_is_silent(network, example, run):
                break
    return network


def _after_a_training(norm: Any, generator: torch.Generator) -> None:
    size = norm.weight.shape
    norm.running_mean.copy_(0.3 * torch.randn(size, generator=generator))
    norm.running_var.copy_(0.5 + torch.rand(size, generator=generator))
    signs = torch.where(torch.rand(size, generator=generator) < 0.15, -1.0, 1.0)
    norm.weight.data.copy_(signs * (0.7 + torch.rand(size, generator=generator)))
    norm.bias.data.copy_(0.2 * torch.randn(size, generator=generator))


def _scale_what_is_silent(network: nn.Module, example: Tensor, run: Any) -> bool:
    """Scale the weights before the first neurons that hardly spike; return whether there are some."""
    seen: dict[str, list[tuple[float, float]]] = {}
    hooks = []

    def watching(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            spikes = output[0] if isinstance(output, tuple) else output
            seen.setdefault(name, []).append((float((spikes != 0).float().mean()), float(args[0].std())))

        return hook

    for name, module, _ in neurons_of(network):
        hooks.append(module.register_forward_hook(watching(name)))
    reset_states(network)
    network(example) if run is None else run(network, example)
    reset_states(network)
    for hook in hooks:
        hook.remove()
    order = [name for name, _ in network.named_modules()]
    for name, steps in seen.items():
        rate, spread = (sum(values) / len(steps) for values in zip(*steps, strict=True))
        infinite = getattr(network.get_submodule(name), "v_threshold", 0.0) == float("inf")
        if rate < 0.05 and not infinite and spread > 0:
            before = [other for other in order[: order.index(name)] if _has_scale(network.get_submodule(other))]
            if before:
                _scale(network.get_submodule(before[-1]), max(2.0 / spread, 1.5))
                return True
    return False


def _has_scale(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear, nn.modules.batchnorm._BatchNorm))


def _scale(module: Any, factor: float) -> None:
    module.weight.data.mul_(factor)
    if module.bias is not None:
        module.bias.data.mul_(factor)
