"""Attributes to sort by and notes to read, for Optuna Dashboard. Pure functions, without Optuna.

The dashboard cuts attributes that are not flat, so every number is an attribute. It lists best trials without regard to
constraints, so the deployable set is a table of our own.
"""

from __future__ import annotations

import math
import shlex

from spquant_search.costs.memory import membrane_bits
from spquant_search.report.forms import bits_form, levels_form, sparsity_form
from spquant_search.report.front_table import front_table, run_hypervolume_text
from spquant_search.report.layer_table import layer_table
from spquant_search.report.pick_advice import pick_advice, run_words, why_nothing_is_pickable
from spquant_search.report.run_summary import RunSummary
from spquant_search.report.text_table import one_line
from spquant_search.runs.results import TrialResult

TEXT_LIMIT = 1000  # characters; the dashboard cuts an attribute at 1024 once it is JSON


def trial_attributes(result: TrialResult, baseline: TrialResult | None) -> dict[str, float | int | str]:
    """List a trial's attributes, those that are known. FLOPs are 2 per MAC, a sample over all time steps."""
    weight_bits = [layer.weight_bits for _, layer in result.config.layers]
    levels = [layer.membrane_levels for _, layer in result.config.layers if layer.membrane_levels is not None]
    numbers = {
        "memory_kib": result.memory_bytes / 1024,
        "memory_reduction": _ratio(baseline.memory_bytes if baseline else math.nan, result.memory_bytes),
        "flops_m": result.effective_flops / 1e6,
        "flops_reduction": _ratio(baseline.effective_flops if baseline else math.nan, result.effective_flops),
        "synaptic_ops_m": result.synaptic_ops / 1e6,
        "energy_uj": result.energy_uj,
        "flash_kib": math.nan if result.flash_bytes is None else result.flash_bytes / 1024,
        "ram_kib": math.nan if result.ram_bytes is None else result.ram_bytes / 1024,
        "spikes_per_neuron_and_step": result.density,
        "weight_bits_mean_over_layers": _mean(weight_bits),
        "membrane_bits_mean_over_layers": _mean([membrane_bits(level) for level in levels]),
        "seconds": result.seconds,
    }
    words = {
        "origin": result.origin.value,
        "outcome": result.outcome.name,
        "trained": "yes" if result.is_trained else "no",
        "ending": result.outcome.value,
        "reason": one_line(result.reason)[:TEXT_LIMIT],
        "bits": bits_form(result.config),
        "levels": levels_form(result.config),
        "gates_and_skips": sparsity_form(result.config),
    }
    return {
        **{name: float(f"{value:.5g}") for name, value in numbers.items() if math.isfinite(value)},
        "time_steps": result.config.time_steps,
        "epochs": result.trained_epochs,
        "seed": result.seed,
        **{name: text for name, text in words.items() if text},
    }


def trial_note(result: TrialResult) -> str:
    """Write a trial's layers as Markdown, and how it ended."""
    ending = f"**{result.outcome.value}**"
    if result.reason and result.reason != result.outcome.value:
        ending += f": {one_line(result.reason)}"
    return f"{ending}\n\n{layer_table(result).markdown()}"


def study_note(summary: RunSummary) -> str:
    """Write the search as Markdown: its subject, the set to deploy from, the commands that go on from it."""
    command = one_line(summary.command) or (
        f"spquant-search --space {shlex.quote(summary.source)} --run {run_words(summary)}"
    )
    advice = pick_advice(summary)
    pick = f"Nothing can be picked: {why_nothing_is_pickable(summary)}." if advice is None else f"    {advice.at_knee}"
    return f"""# {one_line(summary.run)}

{summary.network} on {one_line(summary.data)}, space `{summary.source}`, {len(summary.trials)} trials besides the
float baseline. Written when the dashboard was started; what has ended since is not in it.

## The front

The trials that left a network and that no other one beats. The dashboard's own list of best trials may differ from it.

{front_table(summary).markdown()}
{run_hypervolume_text(summary)}

## Commands

    {command}

{pick}
"""


def _ratio(baseline: float, value: float) -> float:
    return baseline / value if value > 0 else math.nan


def _mean(values: list[int]) -> float:
    return sum(values) / len(values) if values else math.nan
