"""Open a file with a NIR graph: HDF5 that may come from anywhere."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from spquant_search.errors import UserError

_MOST_BYTES = 2 << 30  # of all arrays of a file: far above what a network for a device has
_DEEPEST = 64  # groups in groups


def opened_graph(given: Any) -> Any:
    """Return a NIR graph as it was given, or from the file of this path.

    Types are not checked by the package nir, which takes grouped and oblong convolutions for wrong ones.

    Raises:
        UserError: it is neither, the package is missing, or the file is none of NIR or is damaged.
    """
    if isinstance(given, (str, os.PathLike)):
        return _read(Path(given))
    if kind_of(given) != "NIRGraph":
        raise UserError(f"a NIR graph is a nir.NIRGraph or the path of a file with one; it is {type(given).__name__}")
    return given


def kind_of(node: Any) -> str:
    """Return the name of a node's class; empty where it is none of the package nir."""
    cls = type(node)
    return cls.__name__ if cls.__module__.split(".")[0] == "nir" else ""


def _read(path: Path) -> Any:
    try:
        nir, h5py = import_module("nir"), import_module("h5py")
    except ImportError as error:
        raise UserError(
            f"{path}: reading it needs nir, which cannot be imported ({error}); pip install 'spquant-search[nir]'"
        ) from error
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give the path of a file that nir.write has written")
    try:
        with h5py.File(path, "r") as file:
            _check_plain(file, h5py)
        graph = nir.read(path, type_check=False)
    except Exception as error:  # whatever a damaged file makes of the two packages
        why = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UserError(f"{path}: it holds no NIR graph, or is damaged ({why}); write it with nir.write") from error
    if kind_of(graph) != "NIRGraph":
        raise UserError(f"{path}: it holds one node, {kind_of(graph)}, and no graph; give a file with a nir.NIRGraph")
    return graph


def _check_plain(file: Any, h5py: Any) -> None:
    """Raise where a file is more than groups and arrays of a sensible size, as links to other files are.

    Raises:
        ValueError: it says what it is.
    """
    total, seen, left = 0, set(), [(file, 0)]
    while left:
        group, depth = left.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen or depth > _DEEPEST:
            raise ValueError("its groups contain each other" if address in seen else "its groups are too deep")
        seen.add(address)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name} is a link to another place")
            item = group[name]
            if isinstance(item, h5py.Group):
                left.append((item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                if item.is_virtual or item.external:
                    raise ValueError(f"{name} lies in another file")
                total += item.nbytes
    if total > _MOST_BYTES:
        raise ValueError(f"its arrays take {total:,} bytes, and {_MOST_BYTES:,} are read")
