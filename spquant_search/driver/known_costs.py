"""The costs that the sampler knows of a configuration before any training, from tables of a space's layers.

Bytes are exact. Of the operations and the energy it is the most that they can be: what no gate closes, no mask skips
and no missing spike saves. Every figure is a sum over layers of what a layer's own choices cost; what the engine in C
takes on top is looked up by what any layer needs of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.costs.device import Architecture, Needs, engine_bytes, flash_of, membranes_of, needs_of
from spquant_search.costs.memory import FLOPS_PER_MAC, LayerCost, cost_report
from spquant_search.driver.grey_box.bounds import (
    KnownCost,
    KnownCosts,
    rows_without_gates_and_masks,
    without_gates_and_masks,
)
from spquant_search.driver.grey_box.candidates import Grid
from spquant_search.runs.energy import most_energy
from spquant_search.space.address import Address
from spquant_search.space.configuration import STORED, TIME_STEPS, LayerPrecision
from spquant_search.space.search_space import LayerSpace, SearchSpace
from spquant_search.space.shapes import LayerShape

Rows = NDArray[np.int_]
OfRows = Callable[[Rows], NDArray[np.float64]]
Figures = Callable[[int, LayerCost], Sequence[float]]  # of a layer, by its place in the network
Table = Mapping[tuple[int, int | None, bool], Sequence[float]]  # by weight bits, levels, and whether there is a gate


def known_costs(
    space: SearchSpace, shapes: Sequence[LayerShape], architecture: Architecture | None = None
) -> KnownCosts:
    """Return what the sampler knows of a configuration from its sampled values alone.

    Flash and RAM are missing without an ``architecture``: such a network has no integer form.
    """
    fixed = {address: options[0] for address, options in space.layer_choices().items() if len(options) == 1}
    dense_a_step = cost_report(shapes, space.baseline()).dense_macs

    def dense_flops(grid: Grid) -> OfRows:
        steps_of = _steps_of_rows(grid, space)
        return lambda rows: (FLOPS_PER_MAC * dense_a_step * steps_of(rows)).astype(np.float64)

    def are_dense(grid: Grid) -> Callable[[Rows], NDArray[np.bool_]]:
        sampled, steps_of = rows_without_gates_and_masks(grid), _steps_of_rows(grid, space)
        at_several = without_gates_and_masks(_by_name(fixed))
        # With one time step nothing is skipped, whatever cut a layer is fixed to.
        at_one = without_gates_and_masks(
            _by_name({address: value for address, value in fixed.items() if address.parameter not in STORED})
        )
        return lambda rows: sampled(rows) & np.where(steps_of(rows) == 1, at_one, at_several)

    memory = _totals(space, shapes, lambda _place, layer: (layer.memory_bytes,))
    operations = _totals(space, shapes, lambda _place, layer: (layer.shape.dense_macs + layer.predictor_macs,))
    energy = _totals(space, shapes, _energy_of_a_step)
    found = {
        "memory_bytes": KnownCost(most=lambda grid: _first(memory(grid))),
        "effective_flops": KnownCost(most=dense_flops, is_most=are_dense),
        "synaptic_ops": KnownCost(most=partial(_over_all_steps, space, operations), is_most=_of_no_row),
        "energy_uj": KnownCost(most=partial(_over_all_steps, space, energy), is_most=_of_no_row),
    }
    return found if architecture is None else {**found, **_on_device(space, shapes, architecture)}


def _by_name(values: Mapping[Address, Any]) -> dict[str, Any]:
    return {str(address): value for address, value in values.items()}


def _energy_of_a_step(place: int, layer: LayerCost) -> tuple[float]:
    return (most_energy(layer, is_first=place == 0, time_steps=1).microjoules,)


def _of_no_row(grid: Grid) -> Callable[[Rows], NDArray[np.bool_]]:
    del grid
    return lambda rows: np.zeros(len(rows), bool)


def _first(totals: OfRows) -> OfRows:
    return lambda rows: totals(rows)[:, 0]


def _over_all_steps(space: SearchSpace, of_a_step: Callable[[Grid], OfRows], grid: Grid) -> OfRows:
    steps_of, totals = _steps_of_rows(grid, space), of_a_step(grid)
    return lambda rows: totals(rows)[:, 0] * steps_of(rows)


def _on_device(space: SearchSpace, shapes: Sequence[LayerShape], architecture: Architecture) -> KnownCosts:
    """Return flash and RAM, infinite where a layer keeps floating-point numbers."""

    def cost(part: int, numbers: Callable[[Architecture, LayerCost], int]) -> KnownCost:
        def figures(_place: int, layer: LayerCost) -> Sequence[float]:
            return (numbers(architecture, layer), *needs_of(architecture, layer).numbers)

        of_layers = _totals(space, shapes, figures, summed=1)

        def most(grid: Grid) -> OfRows:
            totals = of_layers(grid)

            def of_rows(rows: Rows) -> NDArray[np.float64]:
                own, *largest = totals(rows).T
                needs = Needs.of_numbers([column.astype(np.int64) for column in largest])
                size = own + engine_bytes(architecture, shapes, needs)[part]
                return np.where(needs.floats > 0, np.inf, size)

            return of_rows

        return KnownCost(most=most)

    return {
        "flash_bytes": cost(0, flash_of),
        "ram_bytes": cost(1, membranes_of),
    }


def _steps_of_rows(grid: Grid, space: SearchSpace) -> Callable[[Rows], Rows]:
    """Return the time steps of rows of a grid as a function."""
    for column, axis in enumerate(grid.axes):
        if axis.name == str(TIME_STEPS):
            choices = np.array(axis.choices, int)
            return lambda rows: choices[rows[:, column]]
    return lambda rows: np.full(len(rows), space.file.most_time_steps)


# ---------------------------------------------------------------- sums over layers


def _totals(
    space: SearchSpace, shapes: Sequence[LayerShape], figures: Figures, *, summed: int | None = None
) -> Callable[[Grid], OfRows]:
    """Return sums over layers as functions of rows of a grid: of every figure, a column.

    With ``summed`` so many figures are summed; of the others it is the largest of any layer.
    """
    layers = list(zip(space.layers, shapes, strict=True))
    # With a single time step no potential is stored, so that levels cost nothing.
    tables = {
        stores: [
            _table(layer, shape, partial(figures, place), stores=stores) for place, (layer, shape) in enumerate(layers)
        ]
        for stores in {steps > 1 for steps in space.file.time_steps}
    }

    def of_grid(grid: Grid) -> OfRows:
        steps_of = _steps_of_rows(grid, space)
        of_layers = {
            stores: [_of_rows(grid, layer, table) for layer, table in zip(space.layers, ones, strict=True)]
            for stores, ones in tables.items()
        }

        def of_rows(rows: Rows) -> NDArray[np.float64]:
            found = {
                stores: _together(np.array([one(rows) for one in ones], float), summed)
                for stores, ones in of_layers.items()
            }
            if len(found) == 1:
                return next(iter(found.values()))
            return np.where((steps_of(rows) == 1)[:, None], found[False], found[True])

        return of_rows

    return of_grid


def _together(of_layers: NDArray[np.float64], summed: int | None) -> NDArray[np.float64]:
    """Put the figures [layer, row, figure] of all layers together."""
    sums: NDArray[np.float64] = of_layers[..., :summed].sum(axis=0)
    return sums if summed is None else np.concatenate([sums, of_layers[..., summed:].max(axis=0)], axis=1)


def _table(
    layer: LayerSpace, shape: LayerShape, figures: Callable[[LayerCost], Sequence[float]], *, stores: bool
) -> Table:
    """Return a layer's figures by what they depend on; a gate's threshold does not matter, and cuts never do."""
    masses = {mass < 1.0: mass for mass in layer.channel_mass}
    return {
        (bits, levels, is_gated): figures(
            LayerCost(
                shape=shape,
                precision=LayerPrecision(
                    weight_bits=bits, membrane_levels=levels if stores else None, channel_mass=mass
                ),
            )
        )
        for bits, levels, (is_gated, mass) in itertools.product(
            layer.weight_bits, layer.membrane_levels, masses.items()
        )
    }


def _of_rows(grid: Grid, layer: LayerSpace, table: Table) -> OfRows:
    """Return a layer's figures as a function of rows of a grid."""
    columns = {axis.name: column for column, axis in enumerate(grid.axes)}
    first: dict[str, Any] = {
        str(Address(layer.name, parameter)): getattr(layer, parameter)[0]
        for parameter in ("weight_bits", "membrane_levels", "channel_mass")
    }
    sampled = [address for address in first if address in columns]
    choices = [grid.axes[columns[address]].choices for address in sampled]
    found = []
    for values in itertools.product(*choices):
        bits, levels, mass = {**first, **dict(zip(sampled, values, strict=True))}.values()
        found.append(table[bits, levels, mass < 1.0])
    by_choice = np.array(found, float).reshape([*(len(options) for options in choices), -1])

    def of_rows(rows: Rows) -> NDArray[np.float64]:
        of_layer = by_choice[tuple(rows[:, columns[address]] for address in sampled)]
        return np.broadcast_to(of_layer, (len(rows), by_choice.shape[-1]))

    return of_rows
