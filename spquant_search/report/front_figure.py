"""The picture of a front: accuracy against its first cost, coloured by its second: memory and operations, mostly.

Where all trials are equal in the second cost there is no colour, and where they are in the first the axis is that of
the second. Where networks differ in their time steps the shape of a point says how many it has, and a subnet that was
not fine-tuned has no ring.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spquant_search.report.accuracy_words import validation_words
from spquant_search.report.drawing import INK, SOFT, plain_text, write_png
from spquant_search.report.forms import uniform_label
from spquant_search.report.run_summary import RunSummary
from spquant_search.report.step_words import baseline_words, steps_words
from spquant_search.runs.intervals import CONFIDENCE, Interval, wilson_interval
from spquant_search.runs.pareto import figure as figure_of
from spquant_search.runs.results import Origin, Outcome, TrialResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

SIZE_INCHES = (7.4, 4.8)
COLOURS = "viridis_r"
PLAIN = "#8fb3d9"  # of all points, where colour would mean nothing
SHAPES = ("o", "^", "v", "P", "X", "p")  # by time steps, the most first; the fewest of more numbers share the last


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scale:
    """What a cost is called where it is drawn, and its unit."""

    what: str
    unit: str
    of_one: float  # units of the cost in one unit of the picture
    within: str  # of the line of the best accuracies


SCALES = {
    "memory_bytes": _Scale(what="memory: weights, membranes, scales", unit="KiB", of_one=1024, within="a memory"),
    "flash_bytes": _Scale(what="flash on a device, its program included", unit="KiB", of_one=1024, within="a flash"),
    "ram_bytes": _Scale(what="RAM on a device", unit="KiB", of_one=1024, within="a RAM"),
    "effective_flops": _Scale(
        what="effective MFLOPs a sample", unit="2 per MAC", of_one=1e6, within="so many operations"
    ),
    "synaptic_ops": _Scale(
        what="synaptic operations a sample", unit="millions", of_one=1e6, within="so many operations"
    ),
    "energy_uj": _Scale(
        what="energy of a sample, estimated at integer prices", unit="uJ", of_one=1, within="an energy"
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Picture:
    """What is drawn, and by which figures: ``scale`` None where the colour means nothing."""

    axes: Axes
    summary: RunSummary
    trials: Sequence[TrialResult]
    scale: LogNorm | None
    along: str  # the cost along the axis
    coloured: str  # the cost that colours mean

    def cost(self, result: TrialResult) -> float:
        return _shown(result, self.along)

    def colour(self, result: TrialResult) -> float:
        return _shown(result, self.coloured)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the time steps by the shape that stands for them."""
        found: dict[str, tuple[int, ...]] = {}
        for place, steps in enumerate(reversed(self.summary.time_steps)):
            shape = SHAPES[min(place, len(SHAPES) - 1)]
            found[shape] = (steps, *found.get(shape, ()))
        return found

    def interval(self, result: TrialResult) -> Interval:
        """Return the interval of an accuracy; of an unknown number of samples that accuracy alone."""
        found = wilson_interval(result.accuracy, self.summary.samples_of(result))
        return found or Interval(low=result.accuracy, high=result.accuracy)


def write_front_figure(summary: RunSummary, path: Path) -> None:
    """Save :func:`draw_front` as a PNG at ``path``, whole or not at all."""
    write_png(draw_front(summary), path)


def draw_front(summary: RunSummary) -> Figure:
    """Draw accuracy against the first cost, coloured by the second: front, other trials, references, baseline.

    Only trials that left weights, and have both costs, are drawn: the accuracy of a stopped trial is not that of a last
    epoch, and a subnet that was fine-tuned without loss is replaced by the result.
    """
    # Imported here: half a second that `front` and `--help` need not wait. The Figure object itself draws by Agg,
    # so neither a display nor pyplot's global state is involved.
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    trials = summary.compared
    _style(axes)
    _titles(axes, summary, trials)
    if not trials:
        axes.text(0.5, 0.5, "no trial has completed yet", ha="center", color=SOFT, transform=axes.transAxes)
        return figure
    along, coloured, has_colour = _drawn_costs(summary)
    scale = _colour_scale([_shown(result, coloured) for result in trials]) if has_colour else None
    picture = _Picture(axes=axes, summary=summary, trials=trials, scale=scale, along=along, coloured=coloured)
    _limits(picture)
    _points(picture)
    _best_line(picture)
    _error_bars(picture)
    _references(picture)
    if scale is not None:
        _colour_bar(figure, picture, scale)
    _legend(figure)
    return figure


def _drawn_costs(summary: RunSummary) -> tuple[str, str, bool]:
    """Return the cost along the axis, the cost that colours would mean, and whether they mean anything."""
    first, last = summary.costs[0], summary.costs[-1]
    along = last if first in summary.hidden_costs else first
    return along, last, along != last and last not in summary.hidden_costs


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.grid(True, which="major", color="#e6e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", color=SOFT, labelcolor=INK, labelsize=9)
    axes.set_ylabel("validation accuracy (%)", color=INK)


def _titles(axes: Axes, summary: RunSummary, trials: Sequence[TrialResult]) -> None:
    # Wrapped, not cut: that the data are simulated may stand at the end.
    title = plain_text(f"{summary.network} on {summary.data}", wrap=78)
    ends = Counter(result.outcome for result in summary.trials)
    words = f"{ends[Outcome.COMPLETE]} of {len(summary.trials)} trials trained to the end"
    if ends[Outcome.SUBNET]:
        words += f", {ends[Outcome.SUBNET]} subnets"
    text = f"run {summary.run}: {words}; accuracy on {validation_words(summary, tuple(trials))}"
    text = plain_text(text, wrap=100)
    axes.set_title(title, loc="left", color=INK, fontsize=11, pad=22 + 11 * text.count("\n"))
    line = axes.text(0, 1.018, text, transform=axes.transAxes, color=SOFT, fontsize=8.5, verticalalignment="bottom")
    line.set_in_layout(False)  # the title leaves room for it


def _shown(result: TrialResult, cost: str) -> float:
    return figure_of(result, cost) / SCALES[cost].of_one


def _limits(picture: _Picture) -> None:
    """Choose a log axis for the cost; let accuracy begin at the lowest point that matters, not at a failed outlier."""
    axes, trials, front = picture.axes, picture.trials, picture.summary.front
    costs = [max(picture.cost(result), 1e-9) for result in trials]
    low, high = min(costs), max(costs)
    axes.set_xscale("log")
    axes.set_xlim(low / (high / low) ** 0.06 / 1.04, high * (high / low) ** 0.06 * 1.04)
    _log_ticks(axes.xaxis, high / low)
    axes.set_xlabel(f"{SCALES[picture.along].what} ({SCALES[picture.along].unit}, log scale)", color=INK)
    members = {result.number for result in front}
    planned = (Origin.BASELINE, Origin.REFERENCE)
    matter = [100 * result.accuracy for result in trials if result.number in members or result.origin in planned]
    top = max(100 * result.accuracy for result in trials)
    # The axis may reach as far below the points that matter as they reach themselves; trials below it are counted.
    reach = min(matter) - max(top - min(matter), 2.0)
    bars = [picture.interval(result) for result in front]
    bottom = min(100 * result.accuracy for result in trials if 100 * result.accuracy >= reach)
    bottom, top = min([bottom, *(100 * bar.low for bar in bars)]), max([top, *(100 * bar.high for bar in bars)])
    margin = max(0.08 * (top - bottom), 0.5)
    axes.set_ylim(bottom - margin, min(top + margin, 101))
    below = sum(100 * result.accuracy < bottom - margin for result in trials)
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


def _colour_scale(costs: Sequence[float]) -> LogNorm:
    """Return the scale from costs to colours, 0 to 1."""
    from matplotlib.colors import LogNorm

    low, high = max(min(costs), 1e-9), max(costs)
    return LogNorm(low, high if high > low else 1.1 * low)


def _points(picture: _Picture) -> None:
    """Draw what was searched and the baseline: members of the front large and ringed, other trials faint."""
    members = {result.number for result in picture.summary.front}
    searched = [result for result in picture.trials if result.origin not in (Origin.BASELINE, Origin.REFERENCE)]
    others = [result for result in searched if result.number not in members]
    _shaped(picture, others, "o", "other trial", s=26, alpha=0.45, linewidths=0, zorder=2)
    drawn = [result for result in searched if result.number in members]
    trained, subnets = ([result for result in drawn if result.is_trained is kind] for kind in (True, False))
    _shaped(picture, trained, "o", "front, trained", **_ringed(58))
    thin = {"edgecolors": "white", "linewidths": 0.5} if picture.summary.searches_steps else {}
    _shaped(picture, subnets, "D", "front, not fine-tuned (subnet)", **(_ringed(40) | thin))
    if picture.summary.searches_steps:
        for shape, steps in picture.shapes.items():
            picture.axes.scatter([], [], marker=shape, **_ringed(58), label=steps_words(*steps))
    baseline = [result for result in picture.trials if result.origin is Origin.BASELINE]
    if baseline:
        _scatter(picture, baseline, marker="*", **_ringed(190), label=baseline_words(picture.summary.time_steps)[4:])


def _shaped(picture: _Picture, results: Sequence[TrialResult], shape: str, label: str | None, **style: Any) -> None:
    """Draw results in ``shape``, or each in that of its time steps where networks differ in them; one legend entry."""
    groups = {shape: results}
    if picture.summary.searches_steps:
        groups = {
            marker: [result for result in results if result.config.time_steps in steps]
            for marker, steps in picture.shapes.items()
        }
    for marker, found in groups.items():
        if found:
            _scatter(picture, found, marker=marker, label=label, **style)
            label = None


def _references(picture: _Picture) -> None:
    """Draw references of uniform precision as squares that hold their trials' numbers; the legend says the rest."""
    references = [result for result in picture.trials if result.origin is Origin.REFERENCE]
    for reference in sorted(references, key=picture.cost):
        label = f"trial {reference.number}: {uniform_label(reference.config)}"
        if picture.summary.searches_steps:
            label += f", {steps_words(reference.config.time_steps)}"
        if not reference.is_trained:
            label += " (subnet)"
        _scatter(picture, [reference], marker="s", **_ringed(100), label=label)
        place = (picture.cost(reference), 100 * reference.accuracy)
        # The colours of high costs are dark.
        is_dark = picture.scale is not None and picture.scale(picture.colour(reference)) > 0.5
        ink = "white" if is_dark else INK
        picture.axes.text(
            *place, str(reference.number), color=ink, fontsize=7, ha="center", va="center_baseline", zorder=5
        )


def _scatter(picture: _Picture, results: Sequence[TrialResult], **style: Any) -> None:
    x, y = [picture.cost(result) for result in results], [100 * result.accuracy for result in results]
    if picture.scale is None:
        picture.axes.scatter(x, y, color=PLAIN, **style)
        return
    costs = [picture.colour(result) for result in results]
    picture.axes.scatter(x, y, c=costs, cmap=COLOURS, norm=picture.scale, **style)


def _ringed(size: float) -> dict[str, Any]:
    return {"s": size, "edgecolors": INK, "linewidths": 0.9, "zorder": 4}


def _error_bars(picture: _Picture) -> None:
    """Draw the interval of the accuracy of every member of the front."""
    front = picture.summary.front
    if not front:
        return
    bars = [picture.interval(member) for member in front]
    below = [100 * (member.accuracy - bar.low) for member, bar in zip(front, bars, strict=True)]
    above = [100 * (bar.high - member.accuracy) for member, bar in zip(front, bars, strict=True)]
    picture.axes.errorbar(
        [picture.cost(member) for member in front],
        [100 * member.accuracy for member in front],
        yerr=(below, above),
        fmt="none",
        ecolor=SOFT,
        elinewidth=0.8,
        capsize=1.5,
        alpha=0.6,
        zorder=2.5,
        label=f"{100 * CONFIDENCE:g} % interval (Wilson)",
    )


def _best_line(picture: _Picture) -> None:
    """Draw the best accuracy within each cost. A member below the line is on the front for its other cost."""
    front = sorted(picture.summary.front, key=picture.cost)
    if not front:
        return
    costs = np.array([picture.cost(member) for member in front])
    best = np.maximum.accumulate([100 * member.accuracy for member in front])
    edge = picture.axes.get_xlim()[1]
    picture.axes.step(
        np.append(costs, edge),
        np.append(best, best[-1]),
        where="post",
        color=INK,
        linewidth=1.1,
        alpha=0.7,
        zorder=3,
        label=f"best accuracy within {SCALES[picture.along].within}",
    )


def _colour_bar(figure: Figure, picture: _Picture, scale: LogNorm) -> None:
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(ScalarMappable(norm=scale, cmap=COLOURS), ax=picture.axes, pad=0.015, aspect=28)
    low, high = bar.ax.get_ylim()
    _log_ticks(bar.ax.yaxis, high / low)
    bar.ax.tick_params(color=SOFT, labelcolor=INK, labelsize=9)
    bar.outline.set_visible(False)
    bar.set_label(f"{SCALES[picture.coloured].what} ({SCALES[picture.coloured].unit})", color=INK, fontsize=9)


def _legend(figure: Figure) -> None:
    """Explain markers below the axes: wherever the legend stood inside them it would cover a point of some run."""
    from matplotlib.collections import PathCollection

    for columns in (3, 2, 1):
        legend = figure.legend(loc="outside lower center", ncols=columns, fontsize=8.5, frameon=False)
        figure.draw_without_rendering()  # only then are widths known
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()
    for text in legend.get_texts():
        text.set_color(INK)
    # The markers' colour means a cost; in the legend it would mean nothing.
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_array(None)
            handle.set_facecolor("#c9cdd5")
