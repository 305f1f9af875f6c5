"""What a network may be wrapped in: several GPUs, a compiler, a script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from spquant_search.importer.refusals import NotImportable, Reason

_WRAPPERS = ("DataParallel", "DistributedDataParallel")
_SHARDED = ("FullyShardedDataParallel", "FSDPModule")


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network in a wrapper that spreads or compiles it.

    Raises:
        NotImportable: it is no module, or a part of it is scripted, spread over devices, or has no values.
    """
    if not isinstance(network, nn.Module):
        raise NotImportable([_no_module(network)])
    while True:
        inner: Any = getattr(network, "_orig_mod", None)  # of torch.compile
        if inner is None and type(network).__name__ in _WRAPPERS:
            inner = network.module
        if not isinstance(inner, nn.Module):
            break
        network = inner
    reasons = list(_refused("", network))
    if reasons:
        raise NotImportable(reasons)
    return network


def _no_module(given: object) -> Reason:
    if isinstance(given, type) and issubclass(given, nn.Module):
        why, remedy = "it is a class, and no network that was made of it", f"give {given.__name__}(...)"
        return Reason(module="", what=given.__name__, why=why, remedy=remedy)
    why, remedy = "it is no torch.nn.Module", "give the module itself, and run=, a function that calls it, if need be"
    return Reason(module="", what=type(given).__name__, why=why, remedy=remedy)


def _refused(name: str, module: nn.Module) -> Iterator[Reason]:
    """Yield what is wrong with a module, or, where nothing is, with those in it."""
    kind = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        why, remedy = (
            "it is scripted or traced, and its code cannot be followed",
            "give the module that it was made from",
        )
        yield Reason(module=name, what=getattr(module, "original_name", kind), why=why, remedy=remedy)
    elif any(cls.__name__ in (*_WRAPPERS, *_SHARDED) for cls in type(module).__mro__):
        remedy = (
            "give the network with its .module in this place" if kind in _WRAPPERS else "give the network as it was"
        )
        yield Reason(module=name, what=kind, why="it spreads its work over several devices", remedy=remedy)
    elif without := _without_values(module):
        why, remedy = without
        yield Reason(module=name, what=kind, why=why, remedy=remedy)
    else:
        for key, child in module.named_children():
            yield from _refused(f"{name}.{key}" if name else key, child)


def _without_values(module: nn.Module) -> tuple[str, str] | None:
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    for key, tensor in own:
        if is_lazy(tensor):
            return f"its {key} has no shape yet", "run the network once, and give it its weights"
        if tensor.is_meta:
            return f"its {key} is on the meta device and has no values", "make it on a device, and give it its weights"
    return None


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run what torch.compile has compiled as plain Python."""
    with torch.compiler.set_stance("force_eager"):
        yield
