"""The laboratory of tests of whole searches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from driver.lab import Lab


@pytest.fixture
def new_lab(tmp_path: Path) -> Callable[..., Lab]:
    """Make a laboratory with a run of its own."""

    def make(*overrides: str, name: str = "run") -> Lab:
        return Lab(tmp_path / name, *overrides)

    return make
