"""The accuracy that lower precision costs, layer by layer, as tables and a picture; and the budget ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spquant_search.report.accuracy_words import one_sample_note
from spquant_search.report.drawing import INK, SOFT, plain_text, write_png
from spquant_search.report.forms import bits_form, legend, levels_form
from spquant_search.report.numbers import MISSING, interval_text, kib, percent, reduction
from spquant_search.report.step_words import column_note, steps_words
from spquant_search.report.text_table import TextTable
from spquant_search.runs.budget_ladder import BudgetPoint
from spquant_search.runs.intervals import CONFIDENCE, wilson_interval
from spquant_search.runs.sensitivity import LOWERED, Choice, Sensitivity, choice_words
from spquant_search.space.configuration import precision

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLES = {"weight_bits": "weights", "membrane_levels": "membranes"}
NARROWEST = 5.5  # inches, for the words below the maps
TITLE_CHARACTERS = 10  # that fit an inch
LARGEST_SHADE = 0.05  # the darkest colour is at least this loss of accuracy, a fraction


def sensitivity_tables(found: Sensitivity, *, run: str) -> tuple[TextTable, ...]:
    """Make a table for weights and one for membranes: points of accuracy lost and KiB saved, layer by choice.

    And one for fewer time steps, where the space has any.
    """
    made = [_table(found, parameter, run) for parameter in LOWERED if _columns(found, parameter)]
    at_most = at_once = ""
    if found.fewer_steps:
        made.append(_steps_table(found, run))
        at_most = f" and {steps_words(found.reference.time_steps)}"
        at_once = ", or all at fewer time steps (operations: dense ones, against those of the most steps)"
    interval = interval_text(wilson_interval(found.accuracy, found.samples), " to ")
    notes = (
        f"points of validation accuracy lost, and KiB saved, against {percent(found.accuracy)} % and "
        f"{kib(found.memory_bytes)} KiB with every layer at its most precise choice{at_most}; one layer lowered at a "
        f"time{at_once}",
        f"{100 * CONFIDENCE:g} % interval (Wilson) of that accuracy on {found.samples:,} samples: {interval}; "
        "differences between two accuracies are less uncertain, as both are measured on the same samples",
        *filter(None, [one_sample_note(found.samples)]),
    )
    return (*made[:-1], *(replace(table, notes=notes) for table in made[-1:]))


def _steps_table(found: Sensitivity, run: str) -> TextTable:
    most = found.reference.time_steps
    return TextTable(
        title=f"{run}: what fewer time steps cost",
        header=("time steps", "points", "KiB", "operations"),
        rows=tuple(
            (
                str(choice.value),
                points(found.loss(choice)),
                kib(found.bytes_saved(choice)),
                reduction(most, choice.value),
            )
            for choice in found.fewer_steps
        ),
    )


def _table(found: Sensitivity, parameter: str, run: str) -> TextTable:
    columns, cells = _columns(found, parameter), _cells(found, parameter)
    layers = list(dict.fromkeys(layer for layer, _ in cells))

    def pair(layer: str, value: int) -> tuple[str, str]:
        choice = cells.get((layer, value))
        return ("", "") if choice is None else (points(found.loss(choice)), kib(found.bytes_saved(choice)))

    return TextTable(
        title=f"{run}: what lower precisions of {TITLES[parameter]} cost",
        header=("layer", *(word for value in columns for word in (choice_words(parameter, value), "KiB"))),
        rows=tuple((layer, *(cell for value in columns for cell in pair(layer, value))) for layer in layers),
        left=frozenset({"layer"}),
    )


def points(loss: float) -> str:
    """Write points of accuracy, ``0.35`` or ``-0.10``; never a zero with a sign."""
    return f"{100 * loss:.2f}".replace("-0.00", "0.00")


def _columns(found: Sensitivity, parameter: str) -> list[int]:
    """List the choices that some layer can be lowered to, precise choices first."""
    values = {choice.value for choice in found.choices if choice.parameter == parameter}
    return sorted(values, key=lambda value: -precision(parameter, value))


def _cells(found: Sensitivity, parameter: str) -> dict[tuple[str, int], Choice]:
    return {(choice.layer, choice.value): choice for choice in found.choices if choice.parameter == parameter}


def ladder_table(ladder: Sequence[BudgetPoint]) -> TextTable:
    """Make the table of the budget ladder: configurations that should lose least within a memory.

    With several numbers of time steps each has a ladder of its own.
    """
    time_steps = sorted({point.config.time_steps for point in ladder})
    several = len(time_steps) > 1
    return TextTable(
        title="Budget ladder: what should lose least within a memory"
        + (" and so many time steps" if several else "")
        + ", if losses add up over layers",
        header=(*(("T",) if several else ()), "budget KiB", "KiB", "points lost", "bits", "levels"),
        rows=tuple(
            (
                *((str(point.config.time_steps),) if several else ()),
                kib(point.budget_bytes),
                kib(point.memory_bytes),
                points(point.loss),
                bits_form(point.config),
                levels_form(point.config, none=MISSING if several else ""),
            )
            for point in ladder
        ),
        notes=(
            "predicted and not measured",
            *((column_note(time_steps),) if several else ()),
            legend(point.config for point in ladder),
        ),
        left=frozenset({"bits", "levels"}),
    )


def write_sensitivity_figure(found: Sensitivity, path: Path, *, title: str) -> None:
    """Save :func:`draw_sensitivity` as a PNG at ``path``, whole or not at all."""
    write_png(draw_sensitivity(found, title=title), path)


def draw_sensitivity(found: Sensitivity, *, title: str) -> Figure:
    """Draw two maps, weights and membranes: a row a layer, a column a choice, coloured by accuracy lost."""
    from matplotlib.figure import Figure

    parameters = [parameter for parameter in LOWERED if _columns(found, parameter)]
    columns = [len(_columns(found, parameter)) for parameter in parameters]
    names = [name for name, _ in found.reference.layers]
    width = max(NARROWEST, 2.6 + 0.95 * sum(columns))
    figure = Figure(figsize=(width, 1.7 + 0.42 * len(names)), layout="constrained")
    figure.suptitle(plain_text(title, wrap=int(TITLE_CHARACTERS * width)), color=INK, fontsize=11)
    if not parameters:
        words = "\n".join(["no layer has more than one choice", *_fewer_steps_words(found)])
        figure.text(0.5, 0.5, words, ha="center", color=SOFT)
        return figure
    panels: Any = figure.subplots(1, len(parameters), sharey=True, squeeze=False, width_ratios=columns)[0]
    limit = max([LARGEST_SHADE, *(found.loss(choice) for choice in found.choices)])
    for axes, parameter in zip(panels, parameters, strict=True):
        drawn = _map(axes, found, parameter, names, limit=limit)
    bar = figure.colorbar(drawn, ax=list(panels), pad=0.015, aspect=28)
    bar.ax.tick_params(color=SOFT, labelcolor=INK, labelsize=9)
    bar.outline.set_visible(False)
    bar.set_label("points of validation accuracy lost", color=INK, fontsize=9)
    words = f"of {percent(found.accuracy)} % on n = {found.samples:,} samples; small: KiB saved"
    text = f"large: points lost {words} of {kib(found.memory_bytes)}"
    figure.supxlabel("\n".join([text, *_fewer_steps_words(found)]), color=SOFT, fontsize=8.5)
    return figure


def _fewer_steps_words(found: Sensitivity) -> list[str]:
    """Say what fewer time steps lose, of all layers at once; nothing where the space has one number of them."""
    fewer = ", ".join(f"{points(found.loss(choice))} at {choice.value}" for choice in found.fewer_steps)
    most = steps_words(found.reference.time_steps)
    return [f"points lost by fewer than {most}, in all layers: {fewer}"] if fewer else []


def _map(axes: Axes, found: Sensitivity, parameter: str, names: Sequence[str], *, limit: float) -> Any:
    """Draw one panel; the reference's choices and those that a layer does not have stay blank."""
    columns, cells = _columns(found, parameter), _cells(found, parameter)
    lost = np.full((len(names), len(columns)), np.nan)
    for (layer, value), choice in cells.items():
        lost[names.index(layer), columns.index(value)] = found.loss(choice)
    # Gains are noise: they have the colour of no loss.
    drawn = axes.imshow(100 * lost, cmap="YlOrRd", vmin=0, vmax=100 * limit, aspect="auto")
    for (layer, value), choice in cells.items():
        x, y, loss = columns.index(value), names.index(layer), found.loss(choice)
        ink = "white" if loss > 0.6 * limit else INK
        axes.text(x, y - 0.14, points(loss), ha="center", va="center", color=ink, fontsize=9)
        axes.text(x, y + 0.28, kib(found.bytes_saved(choice)), ha="center", va="center", color=ink, fontsize=6.5)
    axes.set_title(TITLES[parameter], loc="left", color=INK, fontsize=10)
    axes.set_xticks(range(len(columns)), [choice_words(parameter, value) for value in columns])
    axes.set_yticks(range(len(names)), [plain_text(name) for name in names])
    axes.tick_params(length=0, labelcolor=INK, labelsize=9)
    axes.spines[:].set_visible(False)
    return drawn
