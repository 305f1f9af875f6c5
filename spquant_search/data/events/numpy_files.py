"""Read arrays that numpy saved, and name what is no array: nothing is unpickled."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.data.events.event_columns import Columns, columns_of_table, names_of_axes
from spquant_search.data.events.refusals import damaged, damaged_if_it_fails, unfit
from spquant_search.errors import UserError

FRAMES_KEY = "frames"  # of an .npz with frames that another program has made
_PICKLED = "allow_pickle=False"  # in what numpy says of a pickle


def read_npy(path: Path, columns: str | None) -> Columns:
    """Read the columns x, y, t, p of the array in a .npy file; ``columns`` orders those without names.

    Raises:
        UserError: the file is damaged, or its array holds no events.
    """
    return columns_of_table(path, saved_array(path), columns)


def saved_array(path: Path) -> NDArray[Any]:
    """Read the array of a .npy file.

    Raises:
        UserError: the file is damaged, or holds a pickle.
    """
    with _numpy_reads(path), path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def read_npz(path: Path, columns: str | None) -> Columns:
    """Read arrays x, y, t and p, or the only array with events, of a file that np.savez wrote.

    Raises:
        UserError: the file is damaged, or its arrays hold no events.
    """
    with opened_archive(path) as archive:
        names = list(archive.files)
        axes = names_of_axes(names)
        if not axes and FRAMES_KEY in names and len(archive[FRAMES_KEY].shape) == 4:
            raise UserError(
                f"{path}: holds frames, and other files of data.root events; keep them in folders of their own"
            )
        axes = axes or ({"": names[0]} if len(names) == 1 else {})
        arrays = {axis: np.asarray(archive[name]) for axis, name in axes.items()}
    if not arrays:
        held = ", ".join(names) or "nothing"
        raise unfit(path, f"it must hold the arrays x, y, t, p, or one array of events; it holds {held}")
    return columns_of_table(path, arrays[""], columns) if "" in arrays else arrays


@contextmanager
def opened_archive(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """Open a file that np.savez wrote; arrays are read from it as long as it is open.

    Raises:
        UserError: the file is damaged, or an array of it, or that is a pickle.
    """
    with _numpy_reads(path), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise damaged(path, "it is one array, and no file of np.savez")
        yield archive


@contextmanager
def _numpy_reads(path: Path) -> Iterator[None]:
    with damaged_if_it_fails(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of arrays that Python 2 wrote, which are read all the same
        try:
            yield
        except ValueError as error:
            if _PICKLED in str(error):
                raise UserError(
                    f"{path}: holds a pickled Python object, which is not read, as reading one may run any program; "
                    "load it yourself and save its arrays: np.savez(file, x=..., y=..., t=..., p=...)"
                ) from error
            raise
