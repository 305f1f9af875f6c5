"""The picture of a front: accuracy against memory, coloured by operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spquant_search.report.drawing import INK, SOFT, plain_text, write_png
from spquant_search.report.forms import uniform_label
from spquant_search.report.run_summary import RunSummary
from spquant_search.runs.results import Origin, Outcome, TrialResult
from spquant_search.runs.selection import deployable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

SIZE_INCHES = (7.4, 4.8)
COLOURS = "viridis_r"


def write_front_figure(summary: RunSummary, path: Path) -> None:
    """Save :func:`draw_front` as a PNG at ``path``, whole or not at all."""
    write_png(draw_front(summary), path)


def draw_front(summary: RunSummary) -> Figure:
    """Draw accuracy against memory, coloured by operations: the front, the other trials, references, baseline.

    Only trials that left weights are drawn: the accuracy of a stopped trial is not that of a last epoch, and a subnet
    that was fine-tuned without loss is replaced by the result.
    """
    # Imported here: half a second that `front` and `--help` need not wait. The Figure object itself draws by Agg,
    # so neither a display nor pyplot's global state is involved.
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    complete = deployable(summary.results)
    front = summary.front
    _style(axes)
    _titles(axes, summary)
    if not complete:
        axes.text(0.5, 0.5, "no trial has completed yet", ha="center", color=SOFT, transform=axes.transAxes)
        return figure
    _limits(axes, complete, front)
    scale = _colour_scale(complete)
    _points(axes, complete, front, scale)
    _best_line(axes, front)
    _references(axes, complete, scale)
    _colour_bar(figure, axes, scale)
    _legend(figure)
    return figure


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.grid(True, which="major", color="#e6e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", color=SOFT, labelcolor=INK, labelsize=9)
    axes.set_xlabel("memory: weights, membranes, scales (KiB, log scale)", color=INK)
    axes.set_ylabel("validation accuracy (%)", color=INK)


def _titles(axes: Axes, summary: RunSummary) -> None:
    # Wrapped, not cut: that the data are simulated may stand at the end.
    title = plain_text(f"{summary.network} on {summary.data}", wrap=78)
    axes.set_title(title, loc="left", color=INK, fontsize=11, pad=22)
    ends = Counter(result.outcome for result in summary.results)
    trials = f"{ends[Outcome.COMPLETE]} of {len(summary.results)} trials trained to the end"
    if ends[Outcome.SUBNET]:
        trials += f", {ends[Outcome.SUBNET]} subnets"
    text = f"run {summary.run}: {trials}; accuracy on n = {summary.validation_samples:,} validation samples"
    line = axes.text(0, 1.025, plain_text(text), transform=axes.transAxes, color=SOFT, fontsize=8.5)
    line.set_in_layout(False)  # a run's long name may leave the figure, and must not squeeze the axes


def _memory_kib(result: TrialResult) -> float:
    return result.memory_bytes / 1024


def _megaflops(result: TrialResult) -> float:
    return result.effective_flops / 1e6


def _limits(axes: Axes, complete: Sequence[TrialResult], front: Sequence[TrialResult]) -> None:
    """Choose a log axis for memory; let accuracy begin at the lowest point that matters, not at a failed outlier."""
    memory = [_memory_kib(result) for result in complete]
    low, high = min(memory), max(memory)
    axes.set_xscale("log")
    axes.set_xlim(low / (high / low) ** 0.06 / 1.04, high * (high / low) ** 0.06 * 1.04)
    _log_ticks(axes.xaxis, high / low)
    members = {result.number for result in front}
    planned = (Origin.BASELINE, Origin.REFERENCE)
    matter = [100 * result.accuracy for result in complete if result.number in members or result.origin in planned]
    top = max(100 * result.accuracy for result in complete)
    # The axis may reach as far below the points that matter as they reach themselves; trials below it are counted.
    reach = min(matter) - max(top - min(matter), 2.0)
    bottom = min(100 * result.accuracy for result in complete if 100 * result.accuracy >= reach)
    margin = max(0.08 * (top - bottom), 0.5)
    axes.set_ylim(bottom - margin, min(top + margin, 101))
    below = sum(100 * result.accuracy < bottom - margin for result in complete)
    if below:
        text = f"{below} {'trial' if below == 1 else 'trials'} below the axis"
        axes.text(0.01, 0.012, text, transform=axes.transAxes, color=SOFT, fontsize=8)


def _log_ticks(axis: Any, spread: float) -> None:
    """Put plain numbers on a log axis, the denser the fewer decades it has; ``spread`` is highest / lowest."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    subs = (1.0,) if spread > 1000 else (1.0, 2.0, 5.0) if spread > 5 else tuple(map(float, range(1, 10)))
    axis.set_major_locator(LogLocator(base=10, subs=subs))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def _colour_scale(complete: Sequence[TrialResult]) -> LogNorm:
    """Return the scale from MFLOPs to colours, 0 to 1."""
    from matplotlib.colors import LogNorm

    megaflops = [_megaflops(result) for result in complete]
    low, high = max(min(megaflops), 1e-9), max(megaflops)
    return LogNorm(low, high if high > low else 1.1 * low)


def _points(axes: Axes, complete: Sequence[TrialResult], front: Sequence[TrialResult], scale: LogNorm) -> None:
    """Draw what was searched and the baseline: members of the front large and ringed, other trials faint."""
    members = {result.number for result in front}
    searched = [result for result in complete if result.origin not in (Origin.BASELINE, Origin.REFERENCE)]
    others = [result for result in searched if result.number not in members]
    if others:
        _scatter(axes, others, scale, s=26, alpha=0.45, linewidths=0, zorder=2, label="other trial")
    drawn = [result for result in searched if result.number in members]
    _scatter(axes, drawn, scale, **_ringed("o", 58), label="front")
    baseline = [result for result in complete if result.origin is Origin.BASELINE]
    if baseline:
        _scatter(axes, baseline, scale, **_ringed("*", 190), label="float baseline")


def _references(axes: Axes, complete: Sequence[TrialResult], scale: LogNorm) -> None:
    """Draw references of uniform precision as squares that hold their trials' numbers; the legend says the rest."""
    references = [result for result in complete if result.origin is Origin.REFERENCE]
    for reference in sorted(references, key=lambda result: result.memory_bytes):
        label = f"trial {reference.number}: {uniform_label(reference.config)}"
        _scatter(axes, [reference], scale, **_ringed("s", 100), label=label)
        place = (_memory_kib(reference), 100 * reference.accuracy)
        # The colours of many operations are dark.
        ink = "white" if scale(_megaflops(reference)) > 0.5 else INK
        axes.text(*place, str(reference.number), color=ink, fontsize=7, ha="center", va="center_baseline", zorder=5)


def _scatter(axes: Axes, results: Sequence[TrialResult], scale: LogNorm, **style: Any) -> None:
    x, y = [_memory_kib(result) for result in results], [100 * result.accuracy for result in results]
    megaflops = [_megaflops(result) for result in results]
    axes.scatter(x, y, c=megaflops, cmap=COLOURS, norm=scale, **style)


def _ringed(marker: str, size: float) -> dict[str, Any]:
    return {"marker": marker, "s": size, "edgecolors": INK, "linewidths": 0.9, "zorder": 4}


def _best_line(axes: Axes, front: Sequence[TrialResult]) -> None:
    """Draw the best accuracy within each memory. A member below the line is on the front for its operations."""
    if not front:
        return
    memory = np.array([_memory_kib(member) for member in front])  # the front comes smallest memory first
    best = np.maximum.accumulate([100 * member.accuracy for member in front])
    edge = axes.get_xlim()[1]
    axes.step(
        np.append(memory, edge),
        np.append(best, best[-1]),
        where="post",
        color=INK,
        linewidth=1.1,
        alpha=0.7,
        zorder=3,
        label="best accuracy within a memory",
    )


def _colour_bar(figure: Figure, axes: Axes, scale: LogNorm) -> None:
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(ScalarMappable(norm=scale, cmap=COLOURS), ax=axes, pad=0.015, aspect=28)
    low, high = bar.ax.get_ylim()
    _log_ticks(bar.ax.yaxis, high / low)
    bar.ax.tick_params(color=SOFT, labelcolor=INK, labelsize=9)
    bar.outline.set_visible(False)
    bar.set_label("effective MFLOPs a sample (2 per MAC)", color=INK, fontsize=9)


def _legend(figure: Figure) -> None:
    """Explain markers below the axes: wherever the legend stood inside them it would cover a point of some run."""
    from matplotlib.collections import PathCollection

    legend = figure.legend(loc="outside lower center", ncols=3, fontsize=8.5, frameon=False)
    for text in legend.get_texts():
        text.set_color(INK)
    # The markers' colour means operations; in the legend it would mean nothing.
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_array(None)
            handle.set_facecolor("#c9cdd5")
