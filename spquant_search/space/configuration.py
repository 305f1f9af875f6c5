"""A configuration: the precision of every layer of a network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from spquant_search.space.address import Address

FLOAT_BITS = 32
FLOAT_MEMBRANE = 0
PARAMETERS = ("weight_bits", "membrane_levels", "channel_mass", "skip_below")
OFF: dict[str, float | None] = {"channel_mass": 1.0, "skip_below": None}  # values that switch a mechanism off


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerPrecision:
    """One layer's precision; ``membrane_levels`` is None where the layer has no membrane: a readout, and with one time
    step every layer."""

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
        """Return ``{layer: {weight_bits, membrane_levels, channel_mass, skip_below}}``, ready for JSON."""
        return {name: asdict(precision) for name, precision in self.layers}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Stand in documents as an object of precisions by layer, like :meth:`as_dict`."""
        by_layer = handler.generate_schema(dict[str, LayerPrecision])
        return core_schema.no_info_after_validator_function(
            lambda layers: cls(layers=tuple(layers.items())),
            by_layer,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda config: dict(config.layers), return_schema=by_layer
            ),
        )

    def flat(self) -> dict[Address, Any]:
        """Return every value by its address, layer after layer."""
        return {
            Address(name, parameter): getattr(precision, parameter)
            for name, precision in self.layers
            for parameter in PARAMETERS
        }
