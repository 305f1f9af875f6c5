"""What a network may be wrapped in: several GPUs, a compiler, a script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from spquant_search.importer.refusals import NotImportable, Reason

_WRAPPERS = ("DataParallel", "DistributedDataParallel")
_SHARDED = ("FullyShardedDataParallel",)


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network in a wrapper that spreads or compiles it.

    Raises:
        NotImportable: a part of it is scripted, or is spread over devices.
    """
    while True:
        inner: Any = getattr(network, "_orig_mod", None)  # of torch.compile
        if inner is None and type(network).__name__ in _WRAPPERS:
            inner = network.module
        if not isinstance(inner, nn.Module):
            break
        network = inner
    reasons = [reason for name, module in network.named_modules() if (reason := _refused(name, module)) is not None]
    if reasons:
        raise NotImportable(reasons)
    return network


def _refused(name: str, module: nn.Module) -> Reason | None:
    kind = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        why, remedy = "it is scripted, and its code cannot be followed", "give the module that it was made from"
        return Reason(module=name, what=getattr(module, "original_name", kind), why=why, remedy=remedy)
    if kind in (*_WRAPPERS, *_SHARDED):
        remedy = (
            "give the network with its .module in this place" if kind in _WRAPPERS else "give the network as it was"
        )
        return Reason(module=name, what=kind, why="it spreads its work over several devices", remedy=remedy)
    return None


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run what torch.compile has compiled as plain Python."""
    with torch.compiler.set_stance("force_eager"):
        yield
