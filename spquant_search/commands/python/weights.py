"""Weights given in Python: a file, a network, or its state_dict."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spquant_search.errors import Problem, SpaceError, UserError

if TYPE_CHECKING:
    from spquant_search.training.prepared import Prepared

IN_PYTHON = "weights given in Python"  # stands for the file that they become


def is_network(value: object) -> bool:
    """Tell whether something is a module of torch, without importing it: who has one has done so."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def weights_named(weights: object) -> str | None:
    """Return the value of model.weights for weights as they were given: a path, or what stands for one.

    Raises:
        UserError: they are something else.
    """
    if weights is None:
        return None
    if isinstance(weights, str | os.PathLike):
        return str(Path(weights).expanduser().absolute())
    if is_network(weights) or isinstance(weights, Mapping):
        return IN_PYTHON
    raise UserError(f"weights: must be a file, a network or its state_dict, not an object of type {_name(weights)}")


def with_weights(prepared: Prepared, weights: Any) -> Prepared:
    """Write weights that are no file yet into the cache, and return the space that names them.

    The user's tensors are copied, and no network is changed.

    Raises:
        SpaceError: they are not those of the space's network.
    """
    from spquant_search.runs.files import cache_folder, write_bytes
    from spquant_search.training.given_weights import KEY, fitted

    if isinstance(weights, str | os.PathLike):
        return prepared
    file = prepared.space.file
    tensors = weights.state_dict() if is_network(weights) else weights
    try:
        content = fitted(tensors, file, prepared.input)
    except UserError as error:
        raise SpaceError(prepared.space.source, [Problem(KEY, str(error))]) from None
    path = cache_folder() / "weights" / f"{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    file = replace(file, model=replace(file.model, weights=str(path)))
    return replace(prepared, space=replace(prepared.space, file=file))


def _name(value: object) -> str:
    return type(value).__name__
