"""A configuration: the precision of every layer of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from spquant_search.space.address import Address

FLOAT_BITS = 32
FLOAT_MEMBRANE = 0
PARAMETERS = ("weight_bits", "membrane_levels", "channel_mass", "skip_below")
OFF: dict[str, float | None] = {"channel_mass": 1.0, "skip_below": None}  # values that switch a mechanism off


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerPrecision:
    """One layer's choice. ``membrane_levels`` None: the layer has no membrane (a readout)."""

    weight_bits: int = FLOAT_BITS
    membrane_levels: int | None = FLOAT_MEMBRANE
    channel_mass: float = 1.0
    skip_below: float | None = None

    @property
    def is_float(self) -> bool:
        return self.weight_bits == FLOAT_BITS and self.membrane_levels in (None, FLOAT_MEMBRANE)


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """The precision of every layer, in the network's order."""

    layers: tuple[tuple[str, LayerPrecision], ...]

    def __getitem__(self, name: str) -> LayerPrecision:
        for layer, precision in self.layers:
            if layer == name:
                return precision
        raise KeyError(name)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """``{layer: {weight_bits, membrane_levels, channel_mass, skip_below}}``, ready for JSON."""
        return {name: asdict(precision) for name, precision in self.layers}

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, Any]]) -> NetworkConfig:
        return cls(layers=tuple((name, LayerPrecision(**precision)) for name, precision in values.items()))

    def flat(self) -> dict[Address, Any]:
        """Return every value by its address, layer after layer."""
        return {
            Address(name, parameter): getattr(precision, parameter)
            for name, precision in self.layers
            for parameter in PARAMETERS
        }
