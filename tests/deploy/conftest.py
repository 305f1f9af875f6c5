"""Small exported networks, made once for each test module."""

from __future__ import annotations

import pytest
from deploy.emulated import Small, small_network
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


@pytest.fixture(scope="module")
def small() -> Small:
    from spquant_search.snn.kernels.compile import uncompiled

    with uncompiled():
        return small_network()
