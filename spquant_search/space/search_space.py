"""The configurations that a search may visit: a space file bound to the layers of its network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from spquant_search.space.address import Address
from spquant_search.space.configuration import (
    PARAMETERS,
    STORED,
    TIME_STEPS,
    LayerPrecision,
    NetworkConfig,
    precision,
)
from spquant_search.space.schema import SpaceFile


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerSpace:
    """One layer's choices; a parameter that the layer lacks has the single choice that means "none"."""

    name: str
    weight_bits: tuple[int, ...]
    membrane_levels: tuple[int | None, ...]
    channel_mass: tuple[float, ...]
    skip_below: tuple[float | None, ...]

    def choices(self) -> dict[Address, tuple[Any, ...]]:
        """Return the choices at each of the layer's addresses."""
        return {Address(self.name, parameter): getattr(self, parameter) for parameter in PARAMETERS}


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSpace:
    """A space file bound to its network's layers: the set of configurations that a search may visit."""

    source: str
    file: SpaceFile
    layers: tuple[LayerSpace, ...]
    references: tuple[NetworkConfig, ...]

    def choices(self) -> dict[Address, tuple[Any, ...]]:
        """Return every address with its choices, in the network's order; those with a single choice included."""
        return {TIME_STEPS: self.file.time_steps, **self.layer_choices()}

    def layer_choices(self) -> dict[Address, tuple[Any, ...]]:
        """Return the addresses of layers with their choices, in the network's order."""
        return {address: values for layer in self.layers for address, values in layer.choices().items()}

    def baseline(self) -> NetworkConfig:
        """Return the float network without gates and masks."""
        return NetworkConfig(
            time_steps=self.file.most_time_steps,
            layers=tuple(
                (layer.name, LayerPrecision(membrane_levels=None if layer.membrane_levels == (None,) else 0))
                for layer in self.layers
            ),
        )

    def config(self, values: Mapping[Address, Any]) -> NetworkConfig:
        """Return the configuration with these values.

        An address with a single choice may be absent, and the time steps where they are the most. With one time step
        there are no membranes, whatever their values are.
        """
        time_steps = values.get(TIME_STEPS, self.file.most_time_steps)
        return NetworkConfig(
            time_steps=time_steps,
            layers=tuple(
                (
                    layer.name,
                    LayerPrecision(
                        **{
                            address.parameter: values.get(address, options[0])
                            for address, options in layer.choices().items()
                        }
                    ).at(time_steps),
                )
                for layer in self.layers
            ),
        )

    def values(self, config: NetworkConfig) -> dict[Address, Any]:
        """Return values of which :meth:`config` makes a configuration.

        What a single time step leaves without effect has its most precise choice, so that one configuration has one
        set of values.
        """
        values = config.flat()
        if config.time_steps == 1:
            values |= {
                address: max(options, key=partial(precision, address.parameter))
                for address, options in self.layer_choices().items()
                if address.parameter in STORED
            }
        return values

    def __contains__(self, config: NetworkConfig) -> bool:
        """Return whether a search of this space may visit a configuration of its network."""
        values = config.flat()
        return all(
            values[address] in ((None,) if config.time_steps == 1 and address.parameter in STORED else options)
            for address, options in self.choices().items()
        )

    def size(self) -> float:
        """Return the number of configurations."""
        sizes = {address: float(len(options)) for address, options in self.layer_choices().items()}
        at_one_step = math.prod(size for address, size in sizes.items() if address.parameter not in STORED)
        several = sum(steps > 1 for steps in self.file.time_steps)
        return several * math.prod(sizes.values()) + (at_one_step if 1 in self.file.time_steps else 0.0)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the space file asks for that has no effect, as sentences without a full stop."""
        keys = [
            str(Address(f"layers.{name}", parameter))
            for name, choices in self.file.layers.items()
            for parameter in ("membrane_levels", "skip_below")
            if getattr(choices, parameter) is not None
        ]
        if self.file.most_time_steps > 1 or not keys:
            return ()
        words = f"{', '.join(keys)} {'has' if len(keys) == 1 else 'have'} no effect"
        return (f"no membrane: with one time step nothing is stored between steps; {words}",)
