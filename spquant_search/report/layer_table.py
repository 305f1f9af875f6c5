"""The table of a trial's layers: their precision, and what they did on the validation split."""

from __future__ import annotations

import math

from spquant_search.costs.memory import FLOPS_PER_MAC
from spquant_search.report.forms import NO_MEMBRANE, has_membranes
from spquant_search.report.numbers import MISSING, mega, percent
from spquant_search.report.step_words import over_steps
from spquant_search.report.text_table import TextTable
from spquant_search.runs.results import LayerActivity, TrialResult
from spquant_search.space.configuration import FLOAT_BITS, FLOAT_MEMBRANE, LayerPrecision


def levels_cell(precision: LayerPrecision) -> str:
    if precision.membrane_levels is None:
        return MISSING
    return "float" if precision.membrane_levels == FLOAT_MEMBRANE else str(precision.membrane_levels)


def _notes(result: TrialResult) -> tuple[str, ...]:
    counted = f"MFLOPs: effective, 2 per MAC, a sample {over_steps((result.config.time_steps,))}"
    notes = (counted,) if result.layers else ()
    return notes if has_membranes(result.config) else (*notes, NO_MEMBRANE)


def layer_table(result: TrialResult) -> TextTable:
    """Make a row for every layer of a trial, with its activity on the validation split where that was measured."""
    header = ("layer", "weight bits", "membrane levels", "channel mass", "skip below")
    measured = ("open channels %", "spikes a neuron and step", "MFLOPs")
    activity = dict(result.layers)

    def spikes(done: LayerActivity) -> bool:
        # With one time step no precision says which layers have neurons.
        return done.density > 0 and not has_membranes(result.config)

    rows = []
    for name, precision in result.config.layers:
        cells: tuple[str, ...] = (
            name,
            "float" if precision.weight_bits == FLOAT_BITS else str(precision.weight_bits),
            levels_cell(precision),
            f"{precision.channel_mass:g}" if precision.channel_mass < 1 else MISSING,
            MISSING if precision.skip_below is None else f"{precision.skip_below:g}",
        )
        done = activity.get(name)
        if activity:
            cells += (
                percent(done.open_share if done else None),
                f"{done.density:.3f}" if done and (precision.membrane_levels is not None or spikes(done)) else MISSING,
                mega(done.effective_macs * FLOPS_PER_MAC if done else math.nan),
            )
        rows.append(cells)
    return TextTable(
        title=f"trial {result.number}",
        header=header + (measured if activity else ()),
        rows=tuple(rows),
        notes=_notes(result),
        left=frozenset({"layer"}),
    )
