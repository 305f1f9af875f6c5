"""Networks of a user's own for tests: a function in a module that only this process knows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

from torch import nn

from spquant_search.snn.inspection import NetworkFacts, inspect_network
from spquant_search.space.schema import ModelSpace
from spquant_search.space.shapes import InputShape

SHAPE = InputShape(channels=2, height=12, width=12, classes=3)
MODEL = ModelSpace(network="own", build="networks_of_a_test:build")

Build = Callable[[InputShape], nn.Module]


def known_as_build(build: Build) -> ModelSpace:
    """Make a function that builds a network known to Python; return the model section that names it."""
    module = ModuleType("networks_of_a_test")
    module.build = build  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    return MODEL


def inspected(build: Build, shape: InputShape = SHAPE, *, time_steps: int = 3) -> NetworkFacts:
    """Look at a network as `cost` does."""
    return inspect_network(known_as_build(build), shape, time_steps=time_steps, source="s.yaml")
