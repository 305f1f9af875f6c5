"""The front as a picture: accuracy against memory, coloured by operations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
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
    from matplotlib.figure import Figure
SIZE_INCHES = (7.4, 4.8)
Box = Sequence[float]  # left, bottom, right, top
Segment = tuple[Sequence[float], Sequence[float]]
# Where a label may stand beside its point, in points of 1/72 inch, the best place first.
_PLACES = tuple(
    (distance * x, distance * y)
    for distance in (9, 16, 25, 36, 50, 68, 90)
    for x, y in ((1, -0.6), (1, 0.6), (-1, 0.6), (-1, -0.6), (0, -1.2), (0, 1.2))
)
_NEAR = 20  # points; a label further off needs a leader


def write_front_figure(summary: RunSummary, path: Path) -> None:
    """Save :func:`draw_front` as a PNG at ``path``, whole or not at all."""
    write_png(draw_front(summary), path)


def draw_front(summary: RunSummary) -> Figure:
    """Accuracy against memory, coloured by operations: the front, the other trials, references, baseline.

    Only what has weights to deploy is drawn: the accuracy of a stopped trial is not that of a last epoch, and a
    subnet that was fine-tuned without loss is shown as it is since.
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
    _colour_bar(figure, axes, _points(axes, complete, front))
    _best_line(axes, front)
    _legend(figure)
    _labels(figure, axes, complete)
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


def _limits(axes: Axes, complete: Sequence[TrialResult], front: Sequence[TrialResult]) -> None:
    """Log memory axis with plain numbers; accuracy from the lowest point that matters, not from a failed outlier."""
    memory = [_memory_kib(result) for result in complete]
    low, high = min(memory), max(memory)
    axes.set_xscale("log")
    axes.set_xlim(low / (high / low) ** 0.06 / 1.04, high * (high / low) ** 0.06 * 1.04)
    _log_ticks(axes.xaxis, high / low)
    members = {result.number for result in front}
    planned = (Origin.BASELINE, Origin.REFERENCE)
    matter = [100 * result.accuracy for result in complete if result.number in members or result.origin in planned]
    top = max(100 * result.accuracy for result in complete)
    # As far again below what matters as that reaches itself; a chance-level trial further down is only counted.
    reach = min(matter) - max(top - min(matter), 2.0)
    bottom = min(100 * result.accuracy for result in complete if 100 * result.accuracy >= reach)
    margin = max(0.08 * (top - bottom), 0.5)
    axes.set_ylim(bottom - margin, min(top + margin, 101))
    below = sum(100 * result.accuracy < bottom - margin for result in complete)
    if below:
        text = f"{below} {'trial' if below == 1 else 'trials'} below the axis"
        axes.text(0.01, 0.012, text, transform=axes.transAxes, color=SOFT, fontsize=8)


def _log_ticks(axis: Any, spread: float) -> None:
    """Plain numbers on a logarithmic axis, the denser the fewer decades it has; ``spread`` is highest / lowest."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    subs = (1.0,) if spread > 1000 else (1.0, 2.0, 5.0) if spread > 5 else tuple(map(float, range(1, 10)))
    axis.set_major_locator(LogLocator(base=10, subs=subs))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def _points(axes: Axes, complete: Sequence[TrialResult], front: Sequence[TrialResult]) -> Any:
    """The trials; those on the front large and ringed, the others faint. Returns what the colour bar explains."""
    from matplotlib.colors import LogNorm

    megaflops = [result.effective_flops / 1e6 for result in complete]
    low, high = max(min(megaflops), 1e-9), max(megaflops)
    norm = LogNorm(low, high if high > low else 1.1 * low)
    members = {result.number for result in front}

    def draw(chosen: Sequence[TrialResult], **style: Any) -> Any:
        x, y = [_memory_kib(result) for result in chosen], [100 * result.accuracy for result in chosen]
        colour = [result.effective_flops / 1e6 for result in chosen]
        return axes.scatter(x, y, c=colour, cmap="viridis_r", norm=norm, **style)

    searched = [result for result in complete if result.origin not in (Origin.BASELINE, Origin.REFERENCE)]
    others = [result for result in searched if result.number not in members]
    if others:
        draw(others, s=26, alpha=0.45, linewidths=0, zorder=2, label="other trial")
    drawn = draw([result for result in searched if result.number in members], **_ringed("o", 58), label="front")
    for origin, marker, size, label in (
        (Origin.REFERENCE, "s", 50, "uniform precision"),
        (Origin.BASELINE, "*", 190, "float baseline"),
    ):
        chosen = [result for result in complete if result.origin is origin]
        if chosen:
            draw(chosen, **_ringed(marker, size), label=label)
    return drawn


def _ringed(marker: str, size: float) -> dict[str, Any]:
    return {"marker": marker, "s": size, "edgecolors": INK, "linewidths": 0.9, "zorder": 4}


def _best_line(axes: Axes, front: Sequence[TrialResult]) -> None:
    """The best accuracy within each memory. A member below it is on the front for its operations."""
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


def _colour_bar(figure: Figure, axes: Axes, points: Any) -> None:
    bar = figure.colorbar(points, ax=axes, pad=0.015, aspect=28)
    _log_ticks(bar.ax.yaxis, points.norm.vmax / points.norm.vmin)
    bar.ax.tick_params(color=SOFT, labelcolor=INK, labelsize=9)
    bar.outline.set_visible(False)
    bar.set_label("effective MFLOPs a sample (2 per MAC)", color=INK, fontsize=9)


def _legend(figure: Figure) -> None:
    """Below the axes: wherever it stood inside them it would cover a point of some run."""
    from matplotlib.collections import PathCollection

    legend = figure.legend(loc="outside lower center", ncols=3, fontsize=8.5, frameon=False)
    for text in legend.get_texts():
        text.set_color(INK)
    # The markers' colour means operations; in the legend it would mean nothing.
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_array(None)
            handle.set_facecolor("#c9cdd5")


def _labels(figure: Figure, axes: Axes, complete: Sequence[TrialResult]) -> None:
    """Name the baseline and the references, each label where it covers no point, no line and no other label."""
    from matplotlib.text import Text

    named = [(result, uniform_label(result.config)) for result in complete if result.origin is Origin.REFERENCE]
    named += [(result, "float baseline") for result in complete if result.origin is Origin.BASELINE]
    named.sort(key=lambda one: one[0].memory_bytes)  # from the edge, where the fewest places are inside
    figure.draw_without_rendering()  # the layout must be settled before anything is measured in pixels
    pixel, frame = figure.dpi / 72, axes.get_window_extent().extents
    drawn = _Drawn(covered=_occupied(axes, complete, pixel=pixel))
    for result, words in named:
        at = (_memory_kib(result), 100 * result.accuracy)
        label = axes.annotate(words, at, xytext=(0, 0), textcoords="offset points", fontsize=8.5, color=INK, zorder=5)
        size = Text.get_window_extent(label).size
        anchor = tuple(axes.transData.transform(at))
        box, leader = _free_place(anchor, size, drawn, frame=frame, pixel=pixel)
        drawn.labels.append(box)
        label.set_position(_offset(box[:2], anchor, pixel))
        if leader is not None:
            drawn.leaders.append((leader, anchor))
            style = {"arrowstyle": "-", "color": SOFT, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 5}
            begin = _offset(leader, anchor, pixel)
            axes.annotate("", at, xytext=begin, textcoords="offset points", arrowprops=style)


def _offset(place: Sequence[float], anchor: Sequence[float], pixel: float) -> tuple[float, float]:
    """From the anchor, in points."""
    return (place[0] - anchor[0]) / pixel, (place[1] - anchor[1]) / pixel


def _occupied(axes: Axes, complete: Sequence[TrialResult], *, pixel: float) -> list[Box]:
    """What labels must not cover: the points and the step line."""
    dots = axes.transData.transform([(_memory_kib(result), 100 * result.accuracy) for result in complete])
    radii = [pixel * (8 if result.origin is Origin.BASELINE else 5) for result in complete]
    boxes: list[Box] = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(dots, radii, strict=True)]
    for line in axes.lines:
        path = line.get_transform().transform_path(line.get_path()).vertices
        for (x1, y1), (x2, y2) in pairwise(np.asarray(path)):
            boxes.append((min(x1, x2) - pixel, min(y1, y2) - pixel, max(x1, x2) + pixel, max(y1, y2) + pixel))
    return boxes


def _free_place(
    anchor: Sequence[float], size: Sequence[float], drawn: _Drawn, *, frame: Box, pixel: float
) -> tuple[Box, Sequence[float] | None]:
    """A label's box in pixels, and where its leader begins if it stands so far off that it needs one.

    The first place that covers nothing; where there is none, the one that covers least.
    """
    width, height = size
    least, best = math.inf, None
    for x, y in _PLACES:
        left = anchor[0] + x * pixel - (width if x < 0 else width / 2 if x == 0 else 0)
        bottom = anchor[1] + y * pixel - height / 2
        box = (left, bottom, left + width, bottom + height)
        leader = None
        if math.hypot(x, y) > _NEAR:  # from the nearest point of the label
            leader = (min(max(anchor[0], box[0]), box[2]), min(max(anchor[1], box[1]), box[3]))
        inside = box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]
        covers = drawn.hidden_by(box, None if leader is None else (leader, anchor)) if inside else math.inf
        if best is None or covers < least:
            least, best = covers, (box, leader)
        if not covers:
            break
    assert best is not None
    return best


@dataclass(frozen=True, kw_only=True, slots=True)
class _Drawn:
    """What is in the picture already, in pixels."""

    covered: Sequence[Box]  # points and lines
    labels: list[Box] = field(default_factory=list)
    leaders: list[Segment] = field(default_factory=list)

    def hidden_by(self, box: Box, leader: Segment | None) -> float:
        """How much a label hides: pixels of points and lines; a label or a leader across weighs more than all these."""
        area = sum(_overlap(box, other) for other in self.covered)
        across = sum(_overlap(box, other) > 0 for other in self.labels)
        across += sum(_crosses(other, box) for other in self.leaders)
        if leader is not None:
            across += sum(_crosses(leader, other) for other in self.labels)
        return area + across * 1e6


def _crosses(line: Segment, box: Box) -> bool:
    from matplotlib.path import Path as Outline
    from matplotlib.transforms import Bbox

    return bool(Outline(np.array(line)).intersects_bbox(Bbox.from_extents(*box), filled=False))


def _overlap(one: Box, other: Box) -> float:
    """The area that two boxes have in common."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)
