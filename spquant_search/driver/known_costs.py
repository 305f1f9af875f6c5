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
from spquant_search.space.configuration import STORED, TIME_STEPS
from spquant_search.space.search_space import LayerSpace, SearchSpace
from spquant_search.space.shapes import LayerShape


def known_costs(space: SearchSpace, shapes: Sequence[LayerShape]) -> KnownCosts:
    """Return what the sampler knows of a configuration from its sampled values alone, by tables for every layer."""

    def tables(*, stores: bool) -> list[Callable[[Mapping[str, Any]], int]]:
        return [
            _bytes_by_choice(layer, shape, stores=stores) for layer, shape in zip(space.layers, shapes, strict=True)
        ]

    stored, unstored = tables(stores=True), tables(stores=False)
    dense_a_step = cost_report(shapes, space.baseline()).dense_macs
    fixed = {address: options[0] for address, options in space.layer_choices().items() if len(options) == 1}

    def by_name(values: Mapping[Address, Any]) -> dict[str, Any]:
        return {str(address): value for address, value in values.items()}

    def memory_bytes(grid: Grid) -> Callable[[NDArray[np.int_]], NDArray[np.int_]]:
        steps_of = _steps_of_rows(grid, space)

        def total(tables: Sequence[Callable[[Mapping[str, Any]], int]]) -> Callable[[NDArray[np.int_]], Any]:
            layers = [_bytes_of_rows(grid, layer, table) for layer, table in zip(space.layers, tables, strict=True)]
            return lambda rows: np.sum([bytes_of(rows) for bytes_of in layers], axis=0)

        at_several, at_one = total(stored), total(unstored)
        return lambda rows: np.where(steps_of(rows) == 1, at_one(rows), at_several(rows))

    def dense_macs(grid: Grid) -> Callable[[NDArray[np.int_]], NDArray[np.float64]]:
        steps_of = _steps_of_rows(grid, space)
        return lambda rows: (dense_a_step * steps_of(rows)).astype(np.float64)

    def are_dense(grid: Grid) -> Callable[[NDArray[np.int_]], NDArray[np.bool_]]:
        sampled, steps_of = rows_without_gates_and_masks(grid), _steps_of_rows(grid, space)
        at_several = without_gates_and_masks(by_name(fixed))
        at_one = without_gates_and_masks(
            by_name({address: value for address, value in fixed.items() if address.parameter not in STORED})
        )
        return lambda rows: sampled(rows) & np.where(steps_of(rows) == 1, at_one, at_several)

    return KnownCosts(memory_bytes=memory_bytes, dense_macs=dense_macs, are_dense=are_dense)


def _steps_of_rows(grid: Grid, space: SearchSpace) -> Callable[[NDArray[np.int_]], NDArray[np.int_]]:
    """Return the time steps of rows of a grid as a function."""
    for column, axis in enumerate(grid.axes):
        if axis.name == str(TIME_STEPS):
            choices = np.array(axis.choices, int)
            return lambda rows: choices[rows[:, column]]
    return lambda rows: np.full(len(rows), space.file.most_time_steps)


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


def _bytes_by_choice(layer: LayerSpace, shape: LayerShape, *, stores: bool) -> Callable[[Mapping[str, Any]], int]:
    """Return a layer's bytes as a function of its sampled values."""
    addresses = _addresses_with_bytes(layer)
    first = (layer.weight_bits[0], layer.membrane_levels[0], layer.channel_mass[0])
    known = bytes_by_choice(layer, shape, stores=stores)

    def memory_bytes(values: Mapping[str, Any]) -> int:
        bits, levels, mass = (values.get(address, only) for address, only in zip(addresses, first, strict=True))
        return known[bits, levels, mass]

    return memory_bytes
