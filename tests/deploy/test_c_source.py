"""The text of the C library: what it uses, and which networks it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from deploy.networks import TIME, Choices, a_network

from spquant_search.deploy.c_source import c_source
from spquant_search.deploy.c_tables import TooLarge
from spquant_search.deploy.export import Export, manifest_and_weights
from spquant_search.deploy.integer_form import integer_network
from spquant_search.deploy.reference import Model
from spquant_search.deploy.weights_file import WEIGHTS_FILE


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
    (step,) = (step for step in form["network"]["steps"] if step["name"] == "conv2")
    step["in_shape"] = [2**15, 2**10, 1]
    with pytest.raises(TooLarge, match="conv2: the sums of its gate leave 32 bits"):
        c_source(Model.of(form, weights), weights)
    form["network"]["steps"][-1]["accumulator_bits"] = 33
    with pytest.raises(TooLarge, match="readout: sums of 33 bits leave the C engine's 32"):
        c_source(Model.of(form, weights), weights)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("kernel", [3, 257], "conv2: a kernel of 257 is more than the C engine's 255"),
        ("stride", [256, 1], "conv2: a stride of 256 is more than the C engine's 255"),
        ("padding", [0, 0, 0, 300], "conv2: a padding of 300 is more than the C engine's 255"),
        ("in_shape", [65_536, 1, 1], "conv2: a side of 65,536 is more than the C engine's 65,535"),
        ("in_shape", [8192, 8192, 8], r"conv2: a map of 536,870,912 numbers is more than the C engine's 268,435,456"),
        ("classes", 65_536, "readout: a side of 65,536 is more than the C engine's 65,535"),
        ("largest", 2**31, "conv2: sums of codes of up to [0-9,]+ leave the C engine's 32 bits"),
    ],
)
def test_sizes_that_do_not_fit_the_types_of_the_engine_are_refused(
    deployed: Export, key: str, value: Any, words: str
) -> None:
    manifest = copy.deepcopy(deployed.manifest)
    name = words.partition(":")[0]
    (step,) = (step for step in manifest["network"]["steps"] if step["name"] == name)
    step[key] = value
    weights = deployed.files[WEIGHTS_FILE]
    with pytest.raises(TooLarge, match=words):
        c_source(Model.of(manifest, weights), weights)


def test_the_text_names_each_step_as_the_network_does(deployed: Export) -> None:
    assert '/* "conv1": convolution, layer 0 of spq_trace */' in deployed.c.source
    assert '/* "readout": readout */' in deployed.c.source
