"""What is known of a configuration's costs before any training, for the sampler."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.costs.memory import bytes_by_choice, cost_report
from spquant_search.driver.grey_box.candidates import Grid
from spquant_search.driver.grey_box.sampler import (
    KnownCosts,
    rows_without_gates_and_masks,
    without_gates_and_masks,
)
from spquant_search.space.address import Address
from spquant_search.space.search_space import LayerSpace, SearchSpace
from spquant_search.space.shapes import LayerShape


def known_costs(space: SearchSpace, shapes: Sequence[LayerShape]) -> KnownCosts:
    """What the sampler knows of a configuration from what is sampled alone, by tables for every layer."""
    tables = [_bytes_by_choice(layer, shape) for layer, shape in zip(space.layers, shapes, strict=True)]
    dense = cost_report(shapes, space.baseline(), time_steps=space.file.time_steps).dense_macs_all_steps
    fixed = {str(address): options[0] for address, options in space.choices().items() if len(options) == 1}

    def memory_bytes(configurations: Sequence[Mapping[str, Any]]) -> list[int]:
        return [sum(table(values) for table in tables) for values in configurations]

    def memory_of_rows(grid: Grid) -> Callable[[NDArray[np.int_]], NDArray[np.int_]]:
        found = [_bytes_of_rows(grid, layer, table) for layer, table in zip(space.layers, tables, strict=True)]
        return lambda rows: np.sum([of_layer(rows) for of_layer in found], axis=0)

    def dense_of_rows(grid: Grid) -> Callable[[NDArray[np.int_]], NDArray[np.bool_]]:
        sampled, others_are = rows_without_gates_and_masks(grid), without_gates_and_masks(fixed)
        return lambda rows: sampled(rows) & others_are

    return KnownCosts(
        memory_bytes=memory_bytes,
        memory_of_rows=memory_of_rows,
        dense_macs=float(dense),
        dense_of_rows=dense_of_rows,
        is_dense=lambda values: without_gates_and_masks({**fixed, **values}),
    )


def _with_bytes(layer: LayerSpace) -> list[str]:
    """The addresses on which a layer's bytes depend; cuts of the skip mask cost none."""
    return [str(Address(layer.name, parameter)) for parameter in ("weight_bits", "membrane_levels", "channel_mass")]


def _bytes_of_rows(
    grid: Grid, layer: LayerSpace, table: Callable[[Mapping[str, Any]], int]
) -> Callable[[NDArray[np.int_]], NDArray[np.int_]]:
    """A layer's bytes as a function of rows of a grid."""
    columns = {axis.name: column for column, axis in enumerate(grid.axes)}
    sampled = [address for address in _with_bytes(layer) if address in columns]
    choices = [grid.axes[columns[address]].choices for address in sampled]
    every = [table(dict(zip(sampled, values, strict=True))) for values in itertools.product(*choices)]
    found = np.array(every, int).reshape([len(options) for options in choices])
    return lambda rows: np.broadcast_to(found[tuple(rows[:, columns[address]] for address in sampled)], len(rows))


def _bytes_by_choice(layer: LayerSpace, shape: LayerShape) -> Callable[[Mapping[str, Any]], int]:
    """A layer's bytes as a function of what is sampled."""
    addresses = _with_bytes(layer)
    first = (layer.weight_bits[0], layer.membrane_levels[0], layer.channel_mass[0])
    found = bytes_by_choice(layer, shape)

    def memory_bytes(values: Mapping[str, Any]) -> int:
        bits, levels, mass = (values.get(address, only) for address, only in zip(addresses, first, strict=True))
        known = found.get((bits, levels, mass))
        # A stepped range gives 0.6500000000000001 for 0.65.
        return found[bits, levels, round(mass, 10)] if known is None else known

    return memory_bytes
