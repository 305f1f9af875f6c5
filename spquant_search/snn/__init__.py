"""Quantized spiking networks; this package exports the parts that users' networks are made of."""

from spquant_search.snn.attention import SpikingSelfAttention
from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.readout import CountReadout, Readout
from spquant_search.snn.spikes import Spikes, added, global_average
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.neuron_form import NeuronForm
from spquant_search.space.shapes import InputShape

__all__ = [
    "CountReadout",
    "InputShape",
    "NeuronForm",
    "Readout",
    "Shortcut",
    "Spikes",
    "SpikingConv2d",
    "SpikingSelfAttention",
    "added",
    "global_average",
]
