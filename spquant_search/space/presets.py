"""Presets: the three systems that SpQuant-SNN compares on a network, each one value a parameter for all layers.

``snn-bl`` is the float network; ``quant-snn`` has the paper's weight bits and ternary membranes in every layer, the
first and the readout included; ``spquant-snn`` has the same with channel gates (the share 0.85 of a layer's activity,
in every layer that can have a gate) and the skip mask on membranes below 0 as well.
"""

from __future__ import annotations

from enum import StrEnum


class Preset(StrEnum):
    """The names, as the command line and a space file's references write them."""

    SNN_BL = "snn-bl"
    QUANT_SNN = "quant-snn"
    SPQUANT_SNN = "spquant-snn"


# SpQuant-SNN's results table (README of the authors' code): 2 bits on VGG-9, 4 on ResNet-19, 8 on Spikformer-4-256.
# The paper has no MobileNet, ResNet-34 or VGG-5; they take the bits of the nearest network of the table.
WEIGHT_BITS = {"vgg9": 2, "vgg5": 2, "mobilenet": 2, "resnet19": 4, "resnet34": 4, "spikformer4-256": 8}
OTHER_NETWORKS = "vgg9"  # a network that is not in the table takes its bits
MEMBRANE_LEVELS = 3
CHANNEL_MASS = 0.85
SKIP_BELOW = 0.0
FLOAT = {"weight_bits": 32, "membrane_levels": 0}


def preset_values(preset: Preset, network: str, *, weight_bits: int | None = None) -> dict[str, float]:
    """Return a value for each parameter; a parameter that is absent is off. ``weight_bits`` replaces the table's."""
    if preset is Preset.SNN_BL:
        return dict(FLOAT)
    bits = WEIGHT_BITS.get(network, WEIGHT_BITS[OTHER_NETWORKS]) if weight_bits is None else weight_bits
    values: dict[str, float] = {"weight_bits": bits, "membrane_levels": MEMBRANE_LEVELS}
    if preset is Preset.SPQUANT_SNN:
        values |= {"channel_mass": CHANNEL_MASS, "skip_below": SKIP_BELOW}
    return values
