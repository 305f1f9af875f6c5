"""Quantized spiking networks; this package exports the parts that users' networks are made of."""

from spquant_search.snn.attention import SpikingSelfAttention
from spquant_search.snn.between import AvgPool2d, Flatten, MaxPool2d
from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.linear import SpikingLinear
from spquant_search.snn.pools import Pool
from spquant_search.snn.readout import CountReadout, Readout
from spquant_search.snn.spikes import Spikes, added, global_average
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.neuron_form import NeuronForm
from spquant_search.space.shapes import InputShape

__all__ = [
    "AvgPool2d",
    "CountReadout",
    "Flatten",
    "InputShape",
    "MaxPool2d",
    "NeuronForm",
    "Pool",
    "Readout",
    "Shortcut",
    "Spikes",
    "SpikingConv2d",
    "SpikingLinear",
    "SpikingSelfAttention",
    "added",
    "global_average",
]
