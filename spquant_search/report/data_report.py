"""A data set as tables, and a few of its samples as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from spquant_search.data.statistics import DataStatistics, Examples, SplitStatistics, Summary
from spquant_search.errors import UserError
from spquant_search.report.drawing import INK, SOFT, plain_text, write_png
from spquant_search.report.numbers import percent
from spquant_search.report.step_words import steps_words
from spquant_search.report.text_table import TextTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart with any colour vision (Okabe and Ito, 2008); where both polarities meet, both are taken from white.
ON, OFF = "#0072b2", "#d55e00"
_CELL_INCHES, _MARGIN_INCHES = 0.9, (1.9, 1.3)
_SMALLEST_INCHES, _LETTERS_AN_INCH = (4.5, 2.5), 12  # letters of the title
_GAP = 0.06  # between cells, of a cell


def split_table(facts: DataStatistics) -> TextTable:
    """Make a row for every split: samples, events of a sample (mean pixel value of an image), zeros, file size."""
    above = () if facts.static else (f"above {facts.largest} %", "fullest frame %")
    windows = () if facts.windows is None else ("left out % (worst)", "ended early")
    what = "pixel mean" if facts.static else "events mean"
    return TextTable(
        title=f"{facts.name}: {facts.description}",
        header=("split", "samples", what, "spread", "min..max", "non-zero %", *above, *windows, "MiB"),
        rows=tuple(_split_row(name, split) for name, split in facts.splits),
        notes=_notes(facts),
        left=frozenset({"split"}),
    )


def _split_row(name: str, split: SplitStatistics) -> tuple[str, ...]:
    spread = split.events or split.pixels
    words = ("", "", "") if spread is None else _spread_words(spread, decimals=0 if split.events else 1)
    above = () if split.fullest is None else (f"{100 * split.clamped:.2f}", percent(split.fullest.mean))
    windows = () if split.left_out is None else (_with_worst(split.left_out), f"{split.ended_early:,}")
    return (
        name,
        f"{split.samples:,}",
        *words,
        percent(split.density),
        *above,
        *windows,
        f"{split.bytes / 2**20:,.1f}",
    )


def _with_worst(shares: Summary) -> str:
    return f"{percent(shares.mean)} ({percent(shares.max)})"


def _spread_words(spread: Summary, *, decimals: int) -> tuple[str, str, str]:
    mean, deviation, least, most = (
        f"{value:,.{decimals}f}" for value in (spread.mean, spread.deviation, spread.min, spread.max)
    )
    return mean, deviation, f"{least}..{most}"


def _notes(facts: DataStatistics) -> tuple[str, ...]:
    shape = f"{facts.channels} x {facts.height} x {facts.width}"
    if facts.static:
        each = steps_words(*facts.steps_shown)
        frames = f"frames: {shape} (channels, height, width), the same in each of {each}"
    else:
        frames = f"frames: {facts.time_steps} x {shape} (time steps, channels, height, width)"
        frames += f"; {_fewer_words(facts)}" if len(facts.steps_shown) > 1 else ""
    counted = (
        "pixel mean: of a sample's pixels and channels; spread: the standard deviation over samples"
        if facts.static
        else "events: of a sample, as its frames count them; spread: the standard deviation over samples"
    )
    shown = (
        f"above {facts.largest}: share of the values that a network is shown as {facts.largest}",
        f"fullest frame: the share of a recording's events in the fullest of its {facts.time_steps}, on average",
    )
    windows = (
        f"left out: the share of a recording's events that come after its first {facts.windows}, on average (at most)",
        "ended early: recordings without an event in the last time step or after it",
    )
    folders = sorted({str(Path(split.file).parent) for _, split in facts.splits})
    cached = f"cache: {facts.cache_bytes / 2**20:,.1f} MiB in {', '.join(folders)}; it can be deleted at any time"
    figures = (*(() if facts.static else shown), *(() if facts.windows is None else windows))
    return (frames, counted, *figures, cached, *(f"note: {note}" for note in facts.notes))


def _fewer_words(facts: DataStatistics) -> str:
    *fewer, most = facts.steps_shown
    return f"a network of {steps_words(*fewer)} is shown sums of neighbouring ones, and all figures here are of {most}"


def steps_table(facts: DataStatistics) -> TextTable | None:
    """Make a row for every number of time steps: what summing frames does to the values that a network is shown.

    None where there is one number, and of images, which are the same in every step.
    """
    _, training = facts.splits[0]
    if len(facts.steps_shown) < 2 or facts.static:
        return None
    return TextTable(
        title=f"{facts.name} by the time steps of a network",
        header=("T", "frames each", "non-zero %", f"above {facts.largest} %", "counts lost %"),
        rows=tuple(
            (
                str(shown.time_steps),
                str(facts.time_steps // shown.time_steps),
                percent(shown.density),
                f"{100 * shown.clamped:.2f}",
                f"{100 * shown.lost:.2f}",
            )
            for shown in training.by_time_steps
        ),
        notes=(
            "of the training split; T: time steps; frames each: neighbouring frames that a step sums",
            f"above {facts.largest}: share of the values that a network is shown as {facts.largest}; counts lost: the "
            "share of all counts that these values are shown too small by",
        ),
    )


def class_table(facts: DataStatistics) -> TextTable:
    """Count the samples of each class in each split."""
    names = tuple(name for name, _ in facts.splits)
    counts = [split.samples_by_class for _, split in facts.splits]
    return TextTable(
        title=f"Samples of {len(facts.classes)} classes",
        header=("class", *names, "all"),
        rows=tuple(
            (name, *(f"{count:,}" for count in row), f"{sum(row):,}")
            for name, *row in zip(facts.classes, *counts, strict=True)
        ),
        total=("all", *(f"{sum(column):,}" for column in counts), f"{sum(map(sum, counts)):,}"),
        left=frozenset({"class"}),
    )


def write_sample_figure(facts: DataStatistics, examples: Examples, path: Path) -> None:
    """Save :func:`draw_samples` as a PNG at ``path``, whole or not at all."""
    figure = draw_samples(facts, examples)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(figure, path)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written: {error.strerror}. Give another path") from error


def draw_samples(facts: DataStatistics, examples: Examples) -> Figure:
    """Draw frames as a network sees them: a row a class, a column a time step (for images: a sample)."""
    from matplotlib.figure import Figure

    rows, columns, _, height, width = examples.frames.shape
    cell = _CELL_INCHES * np.array([width, height]) / max(height, width) * (1 + _GAP)
    size = np.maximum(cell * (columns, rows) + _MARGIN_INCHES, _SMALLEST_INCHES)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    pixels = coloured(examples.frames, largest=facts.largest, static=facts.static)
    _draw_grid(axes, pixels, black=facts.static)
    _name_cells(axes, examples, static=facts.static)
    title = plain_text(f"{facts.name}: {facts.description}", wrap=int(_LETTERS_AN_INCH * size[0]))
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=10)
    if not facts.static:
        _legend(figure, facts.channels)
    return figure


def coloured(
    frames: UInt8[np.ndarray, "row column channel height width"], *, largest: int, static: bool
) -> Float[np.ndarray, "row column height width rgb"]:
    """Return red, green and blue from 0 to 1: images as they are, events in two colours on white.

    A count's strength is its square root over that of its row's largest: one event can still be seen beside many.
    """
    from matplotlib.colors import to_rgb

    shown = np.minimum(frames, largest).astype(np.float64)
    if static:
        images = np.moveaxis(shown, 2, -1) / largest
        return images if images.shape[-1] == 3 else np.repeat(images, 3, axis=-1)
    most = np.maximum(shown.max(axis=(1, 2, 3, 4), keepdims=True), 1)
    strength = np.sqrt(shown / most)
    inks = (INK,) if frames.shape[2] == 1 else (OFF, ON)  # a third channel is the sum of the two
    rgb = np.ones((*frames.shape[:2], *frames.shape[3:], 3))
    for channel, ink in enumerate(inks):
        rgb -= strength[:, :, channel, ..., None] * (1 - np.array(to_rgb(ink)))
    return np.clip(rgb, 0, 1)


def _draw_grid(axes: Axes, pixels: Float[np.ndarray, "row column height width rgb"], *, black: bool) -> None:
    """Draw all cells side by side; a unit of the axes is a cell with its gap."""
    rows, columns, height, width, _ = pixels.shape
    for row in range(rows):
        for column in range(columns):
            place = (column, column + 1 - _GAP, row + 1 - _GAP, row)
            axes.imshow(pixels[row, column], extent=place, interpolation="nearest", aspect=height / width)
            if not black:
                corners = ([place[0], place[1], place[1], place[0], place[0]], [row, row, *[place[2]] * 2, row])
                axes.plot(*corners, color="#d5d8de", linewidth=0.6)
    axes.set_xlim(-_GAP, columns)
    axes.set_ylim(rows, -_GAP)


def _name_cells(axes: Axes, examples: Examples, *, static: bool) -> None:
    middle = (1 - _GAP) / 2
    axes.set_xticks([column + middle for column in range(len(examples.columns))], [str(c) for c in examples.columns])
    labels = [plain_text(name, wrap=18) for name in examples.classes]
    axes.set_yticks([row + middle for row in range(len(labels))], labels)
    axes.tick_params(length=0, labelcolor=INK, labelsize=9)
    axes.set_xlabel("training sample of the class" if static else "time step", color=SOFT, fontsize=9)
    axes.spines[:].set_visible(False)


def _legend(figure: Figure, channels: int) -> None:
    from matplotlib.patches import Patch

    inks = {"events": INK} if channels == 1 else {"ON events": ON, "OFF events": OFF, "both": "black"}
    patches = [Patch(color=ink, label=label) for label, ink in inks.items()]
    figure.legend(
        handles=patches,
        loc="outside lower center",
        ncols=3,
        fontsize=8.5,
        frameon=False,
        labelcolor=INK,
        handlelength=1,
    )
