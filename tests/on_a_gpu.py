"""Tests that need a GPU: how they are marked, and that nothing in them falls back to uncompiled functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from spquant_search.snn.kernels.compile import Compiled

NEEDS_A_GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))


@contextmanager
def all_compiled() -> Iterator[None]:
    """Check that functions are compiled in this context and that none fails to be.

    Raises:
        AssertionError: compilation is switched off, or was given up.
    """
    assert Compiled.enabled, "$SPQUANT_COMPILE is 0: nothing would be compiled"
    Compiled.failed = False  # by an earlier test, which failed itself
    yield
    assert Compiled.works(), "the compiler gave up: functions ran as they stand"
