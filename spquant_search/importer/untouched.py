"""Run a user's network in evaluation, and leave it as it was."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from spquant_search.importer.libraries import neurons_of, reset_states
from spquant_search.importer.wrappers import uncompiled
from spquant_search.runs.random_streams import repeatable


@contextmanager
def untouched(network: nn.Module) -> Iterator[None]:
    """Evaluate a network in this context, from fresh states; at the end it is as before, with fresh states again."""
    stored: dict[Any, bool] = {
        module: bool(module.store_v_seq)
        for _, module, _ in neurons_of(network)
        if hasattr(module, "store_v_seq") and getattr(module, "step_mode", "s") == "m"
    }
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with ExitStack() as stack:
        stack.enter_context(repeatable(0))
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(uncompiled())
        reset_states(network)
        kept = _Kept(network)
        try:
            network.eval()
            for module in stored:
                module.store_v_seq = True
            reset_states(network)
            yield
        finally:
            for module, was in stored.items():
                module.store_v_seq = was
            kept.restore()
            reset_states(network)


class _Kept:
    """What the modules of a network hold: its code, and that of its neurons, may write into them while it runs.

    Attributes, the contents of dictionaries, lists and sets among them, and the values of weights and buffers.
    """

    def __init__(self, network: nn.Module) -> None:
        self._attributes = {module: dict(vars(module)) for module in network.modules()}
        self._containers: list[tuple[Any, Any]] = [
            (value, value.copy())
            for attributes in self._attributes.values()
            for value in attributes.values()
            if type(value) in (dict, OrderedDict, list, set)
        ]
        tensors = [one for one in (*network.parameters(), *network.buffers()) if one.layout == torch.strided]
        self._tensors = [(one, one.detach(), one.detach().clone(), one.requires_grad) for one in tensors]

    def restore(self) -> None:
        """Put everything back."""
        for module, attributes in self._attributes.items():
            now = vars(module)
            now.clear()
            now.update(attributes)
        for container, contents in self._containers:
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(contents)
        for tensor, values, were, requires_grad in self._tensors:
            if tensor.data_ptr() != values.data_ptr():
                tensor.data = values
            if not torch.equal(values, were):
                values.copy_(were)
            if tensor.requires_grad != requires_grad:
                tensor.requires_grad_(requires_grad)
