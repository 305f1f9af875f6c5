"""A configuration: the number of time steps of a network, and the precision of every layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, get_args

from pydantic import GetCoreSchemaHandler, GetPydanticSchema
from pydantic_core import CoreSchema, core_schema

from spquant_search.space.address import Address

FLOAT_BITS = 32
FLOAT_MEMBRANE = 0
PARAMETERS = ("weight_bits", "membrane_levels", "channel_mass", "skip_below")
TIME_STEPS = Address("", "time_steps")  # of the whole network
STORED = ("membrane_levels", "skip_below")  # parameters of what is stored between time steps: with one there are none
OFF: dict[str, float | None] = {"channel_mass": 1.0, "skip_below": None}  # values that switch a mechanism off


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerPrecision:
    """One layer's precision; ``membrane_levels`` is None where the layer has no membrane: a readout, and with one time
    step every layer."""

    weight_bits: int = FLOAT_BITS
    membrane_levels: int | None = FLOAT_MEMBRANE
    channel_mass: float = 1.0
    skip_below: float | None = None

    def at(self, time_steps: int) -> LayerPrecision:
        """Return the precision in so many time steps: with one, nothing is stored, and there is no membrane."""
        return self if time_steps > 1 else replace(self, membrane_levels=None, skip_below=None)

    @property
    def is_float(self) -> bool:
        return self.weight_bits == FLOAT_BITS and self.membrane_levels in (None, FLOAT_MEMBRANE)


def _by_name(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
    """Let a tuple of (name, value) pairs be an object by name in documents."""
    pair, *_ = get_args(source)
    _name, value = get_args(pair)
    by_name = handler.generate_schema(dict[str, value])  # type: ignore[valid-type]
    return core_schema.no_info_after_validator_function(
        lambda values: tuple(values.items()),
        by_name,
        serialization=core_schema.plain_serializer_function_ser_schema(dict, return_schema=by_name),
    )


BY_NAME = GetPydanticSchema(_by_name)


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """A network's time steps, and the precision of every layer in the network's order.

    With one time step nothing is stored from one step to the next: no layer has membrane levels or a cut.
    """

    time_steps: int
    layers: Annotated[tuple[tuple[str, LayerPrecision], ...], BY_NAME]

    def __getitem__(self, name: str) -> LayerPrecision:
        for layer, precision in self.layers:
            if layer == name:
                return precision
        raise KeyError(name)

    def as_dict(self) -> dict[str, Any]:
        """Return ``{time_steps, layers: {layer: {weight_bits, ...}}}``, as it stands in documents."""
        return {"time_steps": self.time_steps, "layers": self.layers_dict()}

    def layers_dict(self) -> dict[str, dict[str, Any]]:
        """Return ``{layer: {weight_bits, membrane_levels, channel_mass, skip_below}}``, ready for JSON."""
        return {name: asdict(precision) for name, precision in self.layers}

    def flat(self) -> dict[Address, Any]:
        """Return every value by its address: the time steps, and layer after layer."""
        by_layer = {
            Address(name, parameter): getattr(precision, parameter)
            for name, precision in self.layers
            for parameter in PARAMETERS
        }
        return {TIME_STEPS: self.time_steps, **by_layer}


def precision(parameter: str, value: float | None) -> float:
    """Return a number that grows with precision: bits and levels, where 0 levels are a float; no gate, no mask."""
    if parameter == "skip_below":
        return float("inf") if value is None else -value
    if value is None:
        return 0.0
    return float("inf") if parameter == "membrane_levels" and value == FLOAT_MEMBRANE else float(value)
