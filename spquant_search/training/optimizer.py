"""The optimizer of a recipe, and which parameters decay and at which rate they learn."""

from __future__ import annotations

import torch
from torch import nn

from spquant_search.snn.gate import channel_gates
from spquant_search.space.schema import Training
from spquant_search.training.schedule import Schedule

# Gates begin open, and a candidate has few epochs: at the network's own rate Adam, which moves a parameter by about the
# rate at each step, could not close a channel within them.
GATE_RATE = 3.0


def new_optimizer(network: nn.Module, recipe: Training, schedule: Schedule) -> torch.optim.Optimizer:
    """Make the recipe's optimizer. Only matrices and kernels decay: scales, offsets and gates need not stay small."""
    gates = [parameter for gate in channel_gates(network) for parameter in gate.parameters()]
    numbers = set(map(id, gates))
    others = [parameter for parameter in network.parameters() if id(parameter) not in numbers]
    decayed = [parameter for parameter in others if parameter.dim() > 1]
    kept = [parameter for parameter in others if parameter.dim() <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay, "rate": 1.0},
        {"params": kept, "weight_decay": 0.0, "rate": 1.0},
        {"params": gates, "weight_decay": 0.0, "rate": GATE_RATE},
    ]
    fused = True if _is_fused(network) else None
    if recipe.optimizer == "sgd":
        rate, momentum, nesterov = schedule.learning_rate, recipe.momentum, recipe.nesterov
        optimizer = torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=nesterov, fused=fused)
        if fused and momentum:
            _begin_momenta(optimizer)
            # Those of a processor, from whose checkpoint a training may go on, begin with a parameter's first gradient.
            optimizer.register_load_state_dict_post_hook(_begin_momenta)
        return optimizer
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=schedule.learning_rate, fused=fused)


def _is_fused(network: nn.Module) -> bool:
    """Tell whether an optimizer runs as one kernel: on a GPU only such ones take GradScaler's steps without asking the
    device, and waiting for it."""
    return all(parameter.is_cuda for parameter in network.parameters())


def _begin_momenta(optimizer: torch.optim.Optimizer) -> None:
    """Let momenta begin at zero, from which the first gradient makes what it makes of none.

    torch's fused SGD fails where some parameters have a momentum and others have their first gradient, as gates have
    that were off before.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate; gates learn faster by GATE_RATE."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]
