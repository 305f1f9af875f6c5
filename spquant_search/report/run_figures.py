"""The figures of the page as files: PNG for documents and slides, SVG for print. Drawn from the page's document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spquant_search.costs.memory import FLOPS_PER_MAC
from spquant_search.report.drawing import INK, SOFT, plain_text, write_png, write_svg
from spquant_search.report.front_figure import draw_front
from spquant_search.report.page_data import PageSource, page_document
from spquant_search.report.sensitivity_report import draw_sensitivity
from spquant_search.runs import selection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart with any colour vision (Okabe and Ito, 2008).
PARTS = ("#0072b2", "#e69f00", "#8a94a3")
STOPPED = "#d55e00"
BYTE_PARTS = {
    "weight_bytes": "weights",
    "membrane_bytes": "membranes",
    "other_bytes": "scales, offsets, gate predictors",
}
_CELL_INCHES = 0.26
_LONGEST_NAME = 21  # characters

Document = dict[str, Any]


def write_figures(source: PageSource, folder: Path) -> tuple[str, ...]:
    """Write every figure that a run has into ``folder``, which is made, and return the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in _figures(source).items():
        for ending, write in (("png", write_png), ("svg", write_svg)):
            write(figure, folder / f"{name}.{ending}")
            written.append(f"{name}.{ending}")
    return tuple(written)


def _figures(source: PageSource) -> dict[str, Figure]:
    """Draw what there is anything to draw of."""
    document = page_document(source)
    found: dict[str, Figure | None] = {
        "front": draw_front(source.summary),
        "layers": draw_layers(document),
        "bytes": draw_bytes(source, document),
        "operations": draw_operations(source, document),
        "volume": draw_volume(document),
        "curves": draw_curves(document),
    }
    if source.sensitivity is not None:
        title = f"{source.summary.network} on {source.summary.data}"
        found["sensitivity"] = draw_sensitivity(source.sensitivity, title=title)
    return {name: figure for name, figure in found.items() if figure is not None}


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(color=SOFT, labelcolor=INK, labelsize=9)
    return figure, axes


def _names(layers: Sequence[str]) -> list[str]:
    """Write the names of layers along an axis, the middle of long ones left out."""
    return [plain_text(name if len(name) <= _LONGEST_NAME else f"{name[:9]}...{name[-9:]}") for name in layers]


def _titled(axes: Axes, title: str) -> None:
    axes.set_title(plain_text(title, wrap=90), loc="left", color=INK, fontsize=10)


# ---------------------------------------------------------------- layers by members


def draw_layers(document: Document) -> Figure | None:
    """Draw the bits, levels and open channels of every layer of the front's members; None without a searched member."""
    from matplotlib.figure import Figure

    objectives = [place for place, cost in enumerate(document["costs"]) if cost["is_objective"]]
    members = [trial for trial in document["trials"] if trial["on_front"] and trial["number"] != document["baseline"]]
    members.sort(key=lambda trial: (*(trial["costs"][place] for place in objectives), trial["number"]))
    maps = [
        ("weight bits", _cells(members, "bits")),
        ("membrane levels", _cells(members, "levels")),
        ("open channels, %", _open_cells(members)),
    ]
    maps = [(words, cells) for words, cells in maps if cells.size and not np.isnan(cells).all()]
    if not maps:
        return None
    layers = len(document["layers"])
    width, height = 1.4 + len(maps) * layers * _CELL_INCHES * 1.15, 1.4 + len(members) * _CELL_INCHES
    figure = Figure(figsize=(width, height), layout="constrained")
    for axes, (words, cells) in zip(np.ravel(figure.subplots(1, len(maps), sharey=True)), maps, strict=True):
        _draw_cells(axes, cells)
        _titled(axes, words)
        axes.set_xticks(range(layers), _names(document["layers"]), rotation=90)
        numbers = [f"{trial['number']}: {100 * trial['accuracy']:.1f} %" for trial in members]
        axes.set_yticks(range(len(members)), numbers)
        axes.tick_params(length=0, labelcolor=INK, labelsize=7.5)
        axes.spines[:].set_visible(False)
    return figure


def _cells(members: Sequence[Document], column: str) -> np.ndarray:
    rows = [[np.nan if value is None else value for value in trial["layers"][column]] for trial in members]
    return np.array(rows, float)


def _open_cells(members: Sequence[Document]) -> np.ndarray:
    """Return the measured share of open channels of layers with a gate, in percent."""
    rows = []
    for trial in members:
        masses = trial["layers"]["mass"]
        shares = trial["layers"].get("open") or [None] * len(masses)
        pairs = zip(masses, shares, strict=True)
        rows.append([100 * share if mass < 1 and share is not None else np.nan for mass, share in pairs])
    return np.array(rows, float)


def _draw_cells(axes: Axes, cells: np.ndarray) -> None:
    shades = np.log2(np.where(cells == 0, 1024, cells) + 1)  # 0 levels are a float
    low, high = float(np.nanmin(shades)), float(np.nanmax(shades))
    axes.imshow(shades, cmap="Blues", vmin=low - 0.3 * (high - low + 1), vmax=high + 0.4 * (high - low), aspect="auto")
    for (row, column), value in np.ndenumerate(cells):
        if not np.isnan(value):
            words = "F" if value in (0, 32) else f"{value:.0f}"
            ink = "white" if shades[row, column] > low + 0.7 * (high - low) and high > low else INK
            axes.text(column, row, words, ha="center", va="center", color=ink, fontsize=6.5)


# ---------------------------------------------------------------- bytes and operations


def _shown_member(source: PageSource, document: Document) -> Document | None:
    """Return the member that the page shows first: the most accurate that can be picked."""
    summary = source.summary
    chosen = selection.pick(summary.pickable, summary.costs, selection.Budget())
    return next((trial for trial in document["trials"] if chosen and trial["number"] == chosen.number), None)


def draw_bytes(source: PageSource, document: Document) -> Figure | None:
    """Draw a bar of bytes for every layer; None where they are not known."""
    trial = _shown_member(source, document)
    if trial is None or "weight_bytes" not in trial["layers"]:
        return None
    parts = {words: [value / 1024 for value in trial["layers"][name]] for name, words in BYTE_PARTS.items()}
    return _bars(document["layers"], parts, f"memory of trial {trial['number']} by layer, KiB")


def draw_operations(source: PageSource, document: Document) -> Figure | None:
    """Draw a bar of effective operations for every layer; None where they were not measured."""
    trial = _shown_member(source, document)
    if trial is None or "flops" not in trial["layers"]:
        return None
    effective = [(value or 0.0) / 1e6 for value in trial["layers"]["flops"]]
    pairs = zip(trial["layers"]["sops"], effective, strict=True)
    active = [min(FLOPS_PER_MAC * (value or 0.0) / 1e6, most) for value, most in pairs]
    parts = {
        "at non-zero inputs": active,
        "at zeros": [most - part for part, most in zip(active, effective, strict=True)],
    }
    return _bars(document["layers"], parts, f"effective operations of trial {trial['number']} by layer, MFLOPs")


def _bars(layers: Sequence[str], parts: dict[str, list[float]], title: str) -> Figure:
    figure, axes = _figure(6.4, 1.3 + 0.3 * len(layers))
    begins = np.zeros(len(layers))
    for colour, (words, values) in zip(PARTS, parts.items(), strict=False):
        if any(values):
            axes.barh(range(len(layers)), values, left=begins, color=colour, label=words, height=0.7)
            begins += values
    axes.set_yticks(range(len(layers)), _names(layers))
    axes.invert_yaxis()
    axes.legend(fontsize=8.5, frameon=False, loc="best")
    _titled(axes, title)
    return figure


# ---------------------------------------------------------------- the search


def draw_volume(document: Document) -> Figure | None:
    """Draw how the front's volume grew with the trials; None where it did not."""
    if len(document["volume"]) < 2:
        return None
    figure, axes = _figure(6.4, 3.2)
    numbers, _, volumes = zip(*document["volume"], strict=True)
    last = document["trials"][-1]["number"]
    axes.step([*numbers, last], [*volumes, volumes[-1]], where="post", color=INK, linewidth=1.2)
    axes.set_xlabel("trial", color=INK)
    axes.set_ylim(bottom=0)
    _titled(axes, "the volume that the front dominates")
    return figure


def draw_curves(document: Document) -> Figure | None:
    """Draw the accuracy of every trained trial by epoch, stopped ones dashed; None where none was trained."""
    trained = [trial for trial in document["trials"] if len(trial["curve"]) > 1]
    if not trained:
        return None
    figure, axes = _figure(6.4, 3.6)
    styles: dict[str, dict[str, Any]] = {
        "stopped, diverged or failed": {"color": STOPPED, "linestyle": "--", "linewidth": 0.9},
        "trained to the end": {"color": SOFT, "linewidth": 0.9, "alpha": 0.6},
        "on the front": {"color": PARTS[0], "linewidth": 1.6},
    }
    for kind, style in styles.items():
        label: str | None = kind
        for trial in trained:
            if _curve_kind(trial, document) == kind:
                epochs, accuracies = zip(*trial["curve"], strict=True)
                shown = [np.nan if value is None else 100 * value for value in accuracies]
                axes.plot(epochs, shown, label=label, **style)
                label = None
    axes.set_xlabel("epoch (0: a subnet before any training of its own)", color=INK)
    axes.legend(fontsize=8.5, frameon=False)
    _titled(axes, "validation accuracy, %")
    return figure


def _curve_kind(trial: Document, document: Document) -> str:
    if trial["on_front"] or trial["number"] == document["baseline"]:
        return "on the front"
    return "trained to the end" if trial["outcome"] == "COMPLETE" else "stopped, diverged or failed"
