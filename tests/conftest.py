"""What every test starts from: one thread, no compiler unless a test asks for it, a cache of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported by any test: its threads, and those of the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest


@pytest.fixture(autouse=True, scope="session")
def cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Recordings are simulated and neurons compiled once for all tests, and never into the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["SPQUANT_CACHE"] = str(folder)
    yield folder
    del os.environ["SPQUANT_CACHE"]


@pytest.fixture
def plain_neurons() -> Iterator[None]:
    """Neurons run as they stand: a test of seconds must not wait for a compiler."""
    from spquant_search.snn.compiled import compile_kernels

    compile_kernels(False)
    yield
    compile_kernels(True)
