"""Read a user's recording as rows, or what is said of a file that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.event_writers import Rows

from spquant_search.data.events.event_files import read_event_file
from spquant_search.errors import UserError


def read(path: Path, time_unit: str = "us", columns: str | None = None, **options: Any) -> Rows:
    events = read_event_file(path, time_unit=time_unit, columns=columns, **options)
    return np.stack(events, axis=1)


def failure(path: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def is_read_or_named(path: Path) -> bool:
    """Say whether a file that may be damaged is read, or refused by its path."""
    try:
        read(path)
    except UserError as error:
        return str(error).startswith(f"{path}: ")
    return True
