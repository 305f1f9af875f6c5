"""Networks without an integer form are refused, and the message says why."""

from __future__ import annotations

import pytest
from deploy.networks import TIME, mixed

from spquant_search.deploy.integer_form import integer_network
from spquant_search.deploy.segments import NoIntegerForm
from spquant_search.snn.layers import searchable_layers
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.schema import NeuronSpace


def test_what_has_no_integer_form_is_refused_with_its_reason(plain_neurons: None) -> None:
    for options, words in (
        ({"doubled": True}, "maps reads what Tensor.mul makes, and only layers"),
        ({"twice": True}, "grouped runs 2 times"),
    ):
        network, shape, _ = mixed(0, **options)
        with pytest.raises(NoIntegerForm, match=words):
            integer_network(network, shape, time_steps=TIME)
    network, shape, _ = mixed(0)
    layer = searchable_layers(network)["pooled"]
    layer.set_precision(LayerPrecision(weight_bits=32, membrane_levels=3), NeuronSpace())
    with pytest.raises(NoIntegerForm, match="pooled: keeps float weights"):
        integer_network(network, shape, time_steps=TIME)
    layer.set_precision(LayerPrecision(weight_bits=2, membrane_levels=0), NeuronSpace())
    with pytest.raises(NoIntegerForm, match="pooled: keeps a float membrane"):
        integer_network(network, shape, time_steps=TIME)
