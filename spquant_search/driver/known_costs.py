"""The costs that the sampler knows of a configuration before any training, from tables of a space's layers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.costs.memory import bytes_by_choice, cost_report
from spquant_search.driver.grey_box.bounds import KnownCosts, rows_without_gates_and_masks, without_gates_and_masks
from spquant_search.driver.grey_box.candidates import Grid
from spquant_search.space.address import Address
from spquant_search.space.search_space import LayerSpace, SearchSpace
from spquant_search.space.shapes import LayerShape


def known_costs(space: SearchSpace, shapes: Sequence[LayerShape]) -> KnownCosts:
    """Return what the sampler knows of a configuration from its sampled values alone, by tables for every layer."""
    tables = [_bytes_by_choice(layer, shape) for layer, shape in zip(space.layers, shapes, strict=True)]
    dense = cost_report(shapes, space.baseline()).dense_macs_all_steps
    fixed = {str(address): options[0] for address, options in space.choices().items() if len(options) == 1}

    def memory_bytes(grid: Grid) -> Callable[[NDArray[np.int_]], NDArray[np.int_]]:
        layers = [_bytes_of_rows(grid, layer, table) for layer, table in zip(space.layers, tables, strict=True)]
        return lambda rows: np.sum([bytes_of(rows) for bytes_of in layers], axis=0)

    def are_dense(grid: Grid) -> Callable[[NDArray[np.int_]], NDArray[np.bool_]]:
        sampled, others_are = rows_without_gates_and_masks(grid), without_gates_and_masks(fixed)
        return lambda rows: sampled(rows) & others_are

    return KnownCosts(memory_bytes=memory_bytes, dense_macs=float(dense), are_dense=are_dense)


def _addresses_with_bytes(layer: LayerSpace) -> list[str]:
    """Return the addresses on which a layer's bytes depend; cuts of the skip mask cost none."""
    return [str(Address(layer.name, parameter)) for parameter in ("weight_bits", "membrane_levels", "channel_mass")]


def _bytes_of_rows(
    grid: Grid, layer: LayerSpace, table: Callable[[Mapping[str, Any]], int]
) -> Callable[[NDArray[np.int_]], NDArray[np.int_]]:
    """Return a layer's bytes as a function of rows of a grid."""
    columns = {axis.name: column for column, axis in enumerate(grid.axes)}
    sampled = [address for address in _addresses_with_bytes(layer) if address in columns]
    choices = [grid.axes[columns[address]].choices for address in sampled]
    all_bytes = [table(dict(zip(sampled, values, strict=True))) for values in itertools.product(*choices)]
    by_choice = np.array(all_bytes, int).reshape([len(options) for options in choices])
    return lambda rows: np.broadcast_to(by_choice[tuple(rows[:, columns[address]] for address in sampled)], len(rows))


def _bytes_by_choice(layer: LayerSpace, shape: LayerShape) -> Callable[[Mapping[str, Any]], int]:
    """Return a layer's bytes as a function of its sampled values."""
    addresses = _addresses_with_bytes(layer)
    first = (layer.weight_bits[0], layer.membrane_levels[0], layer.channel_mass[0])
    known = bytes_by_choice(layer, shape)

    def memory_bytes(values: Mapping[str, Any]) -> int:
        bits, levels, mass = (values.get(address, only) for address, only in zip(addresses, first, strict=True))
        return known[bits, levels, mass]

    return memory_bytes
