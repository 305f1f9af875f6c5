"""The table of what a network costs, layer by layer, before any training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spquant_search.costs.memory import FLOPS_PER_MAC, CostReport
from spquant_search.report.cost_words import and_list
from spquant_search.report.energy_columns import ENERGY_COLUMNS, ENERGY_NOTES, energy_cells
from spquant_search.report.forms import NO_MEMBRANE
from spquant_search.report.layer_table import levels_cell
from spquant_search.report.numbers import flops, kib, quantity, reduction, with_unit
from spquant_search.report.step_words import steps_words
from spquant_search.report.text_table import TextTable
from spquant_search.runs.energy import Energy, total_energy, upper_bounds
from spquant_search.space.configuration import FLOAT_BITS
from spquant_search.space.objectives import COSTS
from spquant_search.training.prepared import Prepared


def cost_document(report: CostReport, prepared: Prepared) -> dict[str, Any]:
    """Return a configuration's cost ready for JSON; flash and RAM are null where it keeps floating-point numbers."""
    document, device = report.as_dict(), prepared.footprint(report)
    on_device = {"flash_bytes": device and device.flash, "ram_bytes": device and device.ram}
    return {**document, "total": document["total"] | on_device}


def device_notes(report: CostReport, prepared: Prepared) -> tuple[str, ...]:
    """Say what a configuration takes of a device, and what the smallest and the dearest of its space take."""
    device, ranges = prepared.footprint(report), prepared.byte_ranges()
    if device is None:
        own = "on a device: no flash and RAM, as it keeps floating-point numbers, which no integer form has"
    else:
        own = f"on a device, with the program in C: flash {kib(device.flash)} KiB, RAM {kib(device.ram)} KiB"
    spans = [f"{kib(low)} to {kib(high)} KiB of {COSTS[name].words}" for name, (low, high) in ranges.items()]
    return own, f"configurations of this space take {and_list(spans)}"


def cost_table(report: CostReport, *, title: str, energy_columns: bool, further: tuple[str, ...] = ()) -> TextTable:
    """Make the table of bytes and dense operations of every layer, with ``further`` notes.

    A note estimates the most energy that a sample takes; with ``energy_columns`` two columns estimate every layer's.
    """
    header = ("layer", "weights", "neurons", "bits", "levels", "W KiB", "U KiB", "other", "MACs", "FLOPs")
    rows: list[tuple[str, ...]] = [
        (
            layer.shape.name,
            f"{layer.shape.weights:,}",
            f"{layer.shape.neurons:,}",
            "float" if layer.precision.weight_bits == FLOAT_BITS else str(layer.precision.weight_bits),
            levels_cell(layer.precision),
            kib(layer.weight_bytes),
            kib(layer.membrane_bytes),
            kib(layer.overhead_bytes),
            quantity(layer.shape.dense_macs),
            quantity(layer.shape.dense_macs * FLOPS_PER_MAC),
        )
        for layer in report.layers
    ]
    totals, bounds = _cost_totals(report), upper_bounds(report)
    if energy_columns:
        rows = [(*row, *energy_cells(bound)) for row, bound in zip(rows, bounds, strict=True)]
        totals += energy_cells(total_energy(bounds))
    return TextTable(
        title=title,
        header=header + (ENERGY_COLUMNS if energy_columns else ()),
        rows=tuple(rows),
        total=totals,
        notes=(*_cost_notes(report), *further, _bound_note(total_energy(bounds), report.time_steps), *ENERGY_NOTES),
        left=frozenset({"layer"}),
    )


def steps_table(reports: Sequence[CostReport], baseline: CostReport) -> TextTable:
    """Make the table of a configuration's costs by the time steps that a space lets it have, the most last.

    ``baseline`` is the float network's, at the most, which factors are taken against.
    """
    most = steps_words(baseline.time_steps)
    return TextTable(
        title=f"The same at every number of time steps of the space; the table of layers is that at {most}",
        header=("T", "U KiB", "KiB", "factor", "FLOPs", "factor"),
        rows=tuple(
            (
                str(report.time_steps),
                kib(report.membrane_bytes),
                kib(report.memory_bytes),
                reduction(baseline.memory_bytes, report.memory_bytes),
                quantity(report.dense_macs_all_steps * FLOPS_PER_MAC),
                reduction(baseline.dense_macs_all_steps, report.dense_macs_all_steps),
            )
            for report in reports
        ),
        notes=(
            "T: time steps; FLOPs: dense, 2 per MAC, a sample over all of them; factor: against the float network at "
            f"{most}",
            *(["with 1 no membrane (U) is stored"] if reports[0].time_steps == 1 else []),
        ),
    )


def _bound_note(bound: Energy, time_steps: int) -> str:
    fp32, integer = energy_cells(bound)
    steps = f" in all {time_steps} steps" if time_steps > 1 else ""
    return (
        f"a sample takes at most {fp32} uJ fp32 or {integer} uJ int: an upper bound, at full density, with every input "
        f"non-zero{steps}; sparse spikes stay far below, and a trained network's estimate is made from its measured "
        "operations"
    )


def _cost_notes(report: CostReport) -> tuple[str, ...]:
    steps, macs = report.time_steps, report.dense_macs_all_steps
    no_membrane = (NO_MEMBRANE,) if steps == 1 else ()
    counted = f"of one time step; over all {steps} steps" if steps > 1 else "of the only time step:"
    return (
        *no_membrane,
        f"memory {kib(report.memory_bytes)} KiB = W weights + U membranes + other (scales, offsets, "
        "gate predictors), for one sample, every tensor packed at its own bits",
        f"as the SpQuant-SNN paper counts it (W, U and one more buffer): {kib(report.paper_total_bytes)} KiB",
        f"MACs and FLOPs (2 per MAC): dense, {counted} {with_unit(macs, 'MAC')} = {flops(macs * FLOPS_PER_MAC)}",
    )


def _cost_totals(report: CostReport) -> tuple[str, ...]:
    return (
        "total",
        f"{sum(layer.shape.weights for layer in report.layers):,}",
        f"{sum(layer.shape.neurons for layer in report.layers):,}",
        "",
        "",
        kib(report.weight_bytes),
        kib(report.membrane_bytes),
        kib(report.overhead_bytes),
        quantity(report.dense_macs),
        quantity(report.dense_macs * FLOPS_PER_MAC),
    )
