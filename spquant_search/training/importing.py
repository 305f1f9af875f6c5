"""A network of another library that a space names by a user's function: called once, read, proved, and kept as data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor, nn

from spquant_search.errors import Problem, SpaceError, UserError
from spquant_search.importer import ImportedNetwork, NotImportable, from_torch
from spquant_search.runs.files import cache_folder, write_bytes
from spquant_search.runs.folder import RunFolder, given_weights_file, network_file
from spquant_search.runs.random_streams import repeatable
from spquant_search.snn.networks.plan import plan_bytes, read_plan
from spquant_search.snn.networks.planned import PlannedNetwork
from spquant_search.space.schema import SpaceFile
from spquant_search.space.user_functions import (
    FAILURES,
    NoSuchFunction,
    code_digest,
    failure_lines,
    find_function,
    prints_aside,
)
from spquant_search.training.network import tensors_bytes

KEY = "model.import"
OPTIONS = ("axes", "run", "output", "second", "unit")
_KEY_LENGTH = 16


def with_imported_network(file: SpaceFile, *, source: str, run: RunFolder | None = None) -> SpaceFile:
    """Return a space whose network is data, where it names a function that returns one of another library.

    The function is called here, once. It is not for a ``run`` that began with what it returned: that run goes on with
    its own copy as long as the function's code is what it was.

    Raises:
        SpaceError: there is no such function, it fails or returns something else, or the network cannot be imported:
            then all reasons are in it.
    """
    path = file.model.import_
    if path is None:
        return file
    if run is not None and _began_with(run, path):
        model = replace(file.model, import_=None, layers=str(network_file(run)), weights=str(given_weights_file(run)))
        return replace(file, model=model)
    try:
        network = _imported(path)
    except NotImportable as error:
        reasons = [Problem(KEY, f"{path}: cannot be imported: {reason}") for reason in error.reasons]
        raise SpaceError(source, reasons) from None
    except UserError as error:
        raise SpaceError(source, [Problem(KEY, str(error))]) from error
    origin = network.plan.origin
    assert origin is not None
    network.plan = replace(network.plan, origin=replace(origin, function=path, code=code_digest(path)))
    kept = keep_network(network)
    return replace(file, model=replace(file.model, import_=None, layers=kept.layers, weights=kept.weights))


class KeptNetwork(NamedTuple):
    """The files of a network that is data."""

    layers: str
    weights: str


def keep_network(network: PlannedNetwork) -> KeptNetwork:
    """Write the structure of a network and its weights into the cache, each into a file named by its content."""
    folder, names = cache_folder() / "networks", []
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"json": plan_bytes(network.plan), "safetensors": tensors_bytes(network.state_dict())}
    for suffix, content in contents.items():
        file = folder / f"{hashlib.sha256(content).hexdigest()[:_KEY_LENGTH]}.{suffix}"
        write_bytes(file, content, replaces=False)
        names.append(str(file))
    return KeptNetwork(*names)


def _began_with(run: RunFolder, path: str) -> bool:
    """Tell whether a run has the network of a function whose code has not changed since."""
    if not run.exists() or not network_file(run).is_file():
        return False
    origin = read_plan(network_file(run)).origin
    return origin is not None and (origin.function, origin.code) == (path, code_digest(path))


def _imported(path: str) -> ImportedNetwork:
    """Call the function at ``path``, and import what it returns.

    Raises:
        NotImportable: it cannot be; all reasons.
        UserError: there is no such function, it fails, or returns something else.
    """
    try:
        function = find_function(path)
    except NoSuchFunction as error:
        raise UserError(str(error)) from error
    try:
        with prints_aside(), repeatable(0):
            returned = function()
    except UserError:  # of from_torch or from_nir, which it may call itself
        raise
    except FAILURES as error:
        raise UserError(f"{path} failed: {failure_lines(error)}") from error
    if isinstance(returned, ImportedNetwork):  # by from_torch or from_nir
        return returned
    network, example, options = _taken_apart(path, returned)
    with prints_aside():
        return from_torch(network, example, **options)


def _taken_apart(path: str, returned: Any) -> tuple[nn.Module, Tensor, Mapping[str, Any]]:
    rule = (
        f"{path} must return (network, example), a torch.nn.Module and a tensor that it takes, or (network, example, "
        f"options) with a dictionary of {', '.join(OPTIONS)}, or what from_torch or from_nir gives"
    )
    if not isinstance(returned, tuple | list) or len(returned) not in (2, 3):
        raise UserError(f"{rule}; got {_words(returned)}")
    network, example, options = (*returned, {}) if len(returned) == 2 else returned
    if not isinstance(network, nn.Module) or not isinstance(example, Tensor) or not isinstance(options, Mapping):
        raise UserError(f"{rule}; got ({', '.join(_words(each) for each in returned)})")
    if unknown := [str(name) for name in options if name not in OPTIONS]:
        raise UserError(f"{rule}; got the option {', '.join(unknown)}")
    return network, example, options


def _words(value: object) -> str:
    return f"{len(value)} values" if isinstance(value, tuple | list) else f"an object of type {type(value).__name__}"
