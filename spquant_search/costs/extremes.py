"""The smallest and the dearest configurations of a space, in bytes; exact, without trying all of them.

Fewer bits of a weight, no gate, fewer time steps and narrower potentials each make nothing larger, with one exception:
where potentials laid end to end do not come out even with a byte, as with 3 bits, the engine takes some more code. So
the smallest and the dearest of any cost are among two configurations each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from spquant_search.costs.device import Architecture, footprint
from spquant_search.costs.memory import cost_report, membrane_bits
from spquant_search.space.address import Address
from spquant_search.space.configuration import FLOAT_BITS, FLOAT_MEMBRANE, TIME_STEPS, NetworkConfig
from spquant_search.space.search_space import SearchSpace
from spquant_search.space.shapes import LayerShape

Levels = Callable[[Sequence[int | None]], int | None]


def byte_figures(
    shapes: Sequence[LayerShape], architecture: Architecture | None, config: NetworkConfig
) -> dict[str, int]:
    """Return the bytes of a configuration by cost: memory and, where it has an integer form, flash and RAM."""
    cost = cost_report(shapes, config)
    found = {"memory_bytes": cost.memory_bytes}
    device = None if architecture is None else footprint(architecture, cost)
    return found if device is None else found | {"flash_bytes": device.flash, "ram_bytes": device.ram}


def smallest_configurations(space: SearchSpace) -> tuple[NetworkConfig, ...]:
    """Return configurations of which one has the least of each cost, and one keeps all bounds if any of the space does.

    They have the fewest bits and time steps everywhere, and no gate where a layer can do without.
    """
    return tuple(_configuration(space, _least, levels) for levels in (_narrowest, _narrowest_even))


def smallest_figures(
    space: SearchSpace, shapes: Sequence[LayerShape], architecture: Architecture | None
) -> dict[str, float]:
    """Return the least that any configuration of a space takes, by cost: memory, and flash and RAM where it has any."""
    return _extreme(min, [byte_figures(shapes, architecture, config) for config in smallest_configurations(space)])


def dearest_figures(
    space: SearchSpace, shapes: Sequence[LayerShape], architecture: Architecture | None
) -> dict[str, float]:
    """Return the most that any configuration of a space takes, by cost: as :func:`smallest_figures`."""
    configs = [_configuration(space, _most, _widest, floats=True)]
    configs += [_configuration(space, _most, levels) for levels in (_widest, _widest_uneven)]
    # Where potentials are floats in every configuration, one time step, which stores none, has an integer form.
    fewest = {TIME_STEPS: space.file.time_steps[0]}
    configs += [_configuration(space, _most, _widest, fixed=fewest)]
    return _extreme(max, [byte_figures(shapes, architecture, config) for config in configs])


def _extreme(best: Callable[..., int], figures: Iterable[dict[str, int]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in figures:
        found |= {name: best(value, found.get(name, value)) for name, value in one.items()}
    return found


def _configuration(
    space: SearchSpace,
    choose: Callable[[str, Sequence[Any]], Any],
    levels: Levels,
    *,
    floats: bool = False,
    fixed: Mapping[Address, Any] | None = None,
) -> NetworkConfig:
    """Return the configuration of an extreme choice everywhere; without ``floats`` only where there is nothing else."""
    values: dict[Address, Any] = {}
    for address, options in space.choices().items():
        in_floats = {"weight_bits": FLOAT_BITS, "membrane_levels": FLOAT_MEMBRANE}.get(address.parameter)
        kept = options if floats else [option for option in options if option != in_floats] or options
        is_levels = address.parameter == "membrane_levels"
        values[address] = levels(kept) if is_levels else choose(address.parameter, kept)
    return space.config(values | dict(fixed or {}))


def _least(parameter: str, options: Sequence[Any]) -> Any:
    """Return the fewest bits or time steps, and no gate."""
    if parameter == "skip_below":  # costs nothing
        return options[0]
    return max(options) if parameter == "channel_mass" else min(options)


def _most(parameter: str, options: Sequence[Any]) -> Any:
    """Return the most bits or time steps, and a gate."""
    if parameter == "skip_below":
        return options[0]
    return min(options) if parameter == "channel_mass" else max(options)


def _narrowest(options: Sequence[int | None]) -> int | None:
    return min(options, key=membrane_bits)


def _narrowest_even(options: Sequence[int | None]) -> int | None:
    return _narrowest([levels for levels in options if _is_even(levels)] or options)


def _widest(options: Sequence[int | None]) -> int | None:
    return max(options, key=membrane_bits)


def _widest_uneven(options: Sequence[int | None]) -> int | None:
    return _widest([levels for levels in options if not _is_even(levels)] or options)


def _is_even(levels: int | None) -> bool:
    """Return whether potentials of so many levels, laid end to end, come out even with a byte."""
    return levels is None or 8 % membrane_bits(levels) == 0
