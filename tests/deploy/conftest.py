"""A small exported network, made once for each test module."""

from __future__ import annotations

import pytest
from deploy.networks import ABOUT, TIME, a_network

from spquant_search.deploy.export import Export, export


@pytest.fixture(scope="module")
def deployed() -> Export:
    from spquant_search.snn.kernels.compile import Compiled

    before, Compiled.enabled = Compiled.enabled, False
    try:
        network, shape, frames = a_network("vgg9", seed=3, width=1 / 32)
        return export(network, shape, frames, time_steps=TIME, about=ABOUT)
    finally:
        Compiled.enabled = before
