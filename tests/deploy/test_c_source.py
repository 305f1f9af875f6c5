"""The text of the C library: what it uses, and which networks it refuses."""

from __future__ import annotations

import pytest
from deploy.networks import TIME, Choices, a_network

from spquant_search.deploy.c_source import c_source
from spquant_search.deploy.c_tables import TooLarge
from spquant_search.deploy.export import Export, manifest_and_weights
from spquant_search.deploy.integer_form import integer_network
from spquant_search.deploy.reference import Model


def test_the_library_uses_neither_floating_point_nor_allocation(deployed: Export) -> None:
    source = deployed.c.source
    includes = [line for line in source.splitlines() if line.startswith("#include")]
    assert includes == ['#include "model.h"', "#include <string.h>"]
    code = "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("/*", "*")))
    for word in ("malloc", "float ", "double ", "@"):
        assert word not in code


def test_what_the_c_engine_cannot_hold_is_refused(plain_neurons: None) -> None:
    network, shape, _ = a_network("vgg9", seed=3, width=1 / 32, choices=Choices(mass=(0.7,)))
    form, weights = manifest_and_weights(integer_network(network, shape, time_steps=TIME))
    for step in form["network"]["steps"]:
        if step.get("gated"):
            step["largest"] = 10**9
    with pytest.raises(TooLarge, match="conv2: the sums of its gate leave 32 bits"):
        c_source(Model.of(form, weights), weights)
    form["network"]["steps"][-1]["accumulator_bits"] = 33
    with pytest.raises(TooLarge, match="readout: sums of 33 bits leave the C engine's 32"):
        c_source(Model.of(form, weights), weights)
