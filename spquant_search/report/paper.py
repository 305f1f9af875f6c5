"""SpQuant-SNN's memory table: its cells, and the memory of a configuration beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from spquant_search.costs.memory import CostReport
from spquant_search.report.numbers import MISSING
from spquant_search.report.text_table import TextTable
from spquant_search.space.presets import Preset
from spquant_search.space.schema import ModelSpace
from spquant_search.space.shapes import LayerShape

PAPER = "SpQuant-SNN (Frontiers in Neuroscience 2024, 10.3389/fnins.2024.1440000), table in its code's README"
PaperUnit = Literal["MB", "MiB"]
UNIT_BYTES: dict[PaperUnit, int] = {"MB": 10**6, "MiB": 2**20}
# The paper does not say how its total is made. Inferred from the totals of VGG-9 and ResNet-19: W + U + a buffer of one
# value a neuron (X), 8 bits wide beside quantized and 32 beside float membranes.


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperRow:
    """A system of SpQuant-SNN's memory table: its cells in ``unit``, for inputs of one size.

    A reason says why a cell does not follow from the architecture; it is empty where the cell does.
    """

    system: str
    network: str
    height: int
    width: int
    is_float: bool
    unit: PaperUnit  # VGG-9's cells are in 10^6 bytes, ResNet-19's in 2^20: each is the unit in which they come out
    weights: float
    membranes: float
    total: float
    why_weights: str = ""
    why_membranes: str = ""
    why_total: str = ""


_VGG9_WEIGHTS = (
    "41.12 MB are 10.28 M weights of 4 bytes, and 2.57 MB the same in 2 bits; VGG-9 as the paper's code has it "
    "has 9.26 M, and what the other million is the paper does not say"
)
_RESNET19_WEIGHTS = (
    "49.94 MiB are 13.09 M weights of 4 bytes, and 6.24 MiB the same in 4 bits; the ResNet-19 of tdBN has 12.69 M "
    "with batch norm left out, and what the others are the paper does not say"
)
_RESNET19_MEMBRANES = (
    "0.25 MiB would be the float row's 5.5 MiB / 22; its 1,441,792 neurons take 0.344 MiB in the 2 bits that fit VGG-9 "
    "(0.272 MiB in log2 3 = 1.58 bits)"
)
_RESNET19_TOTAL = "7.49 MiB = 6.24 + 0.25 + 4 x 0.25: it follows from the 0.25 MiB cell, which does not follow itself"
_NCALTECH101 = "the cell repeats that of DVS-CIFAR10 with 48x48 frames and 10 classes; at 48x64 maps are a third larger"
_SPIKFORMER = "no way of counting was found that gives the cells of this row; its unit is a guess, too"

_VGG9_FLOAT = PaperRow(
    system="VGG-9 on DVS-CIFAR10",
    network="vgg9",
    height=48,
    width=48,
    is_float=True,
    unit="MB",
    weights=41.12,
    membranes=3.68,
    total=48.58,
    why_weights=_VGG9_WEIGHTS,
)
_VGG9_QUANTIZED = replace(_VGG9_FLOAT, is_float=False, weights=2.57, membranes=0.23, total=3.75)
_AT_48X64 = {
    "system": "VGG-9 on N-Caltech101",
    "width": 64,
    "why_weights": _NCALTECH101,
    "why_membranes": _NCALTECH101,
    "why_total": _NCALTECH101,
}
_RESNET19_FLOAT = PaperRow(
    system="ResNet-19 on CIFAR-10",
    network="resnet19",
    height=32,
    width=32,
    is_float=True,
    unit="MiB",
    weights=49.94,
    membranes=5.5,
    total=60.94,
    why_weights=_RESNET19_WEIGHTS,
)
PAPER_ROWS = (
    _VGG9_FLOAT,
    _VGG9_QUANTIZED,
    replace(_VGG9_FLOAT, **_AT_48X64),  # type: ignore[arg-type]
    replace(_VGG9_QUANTIZED, **_AT_48X64),  # type: ignore[arg-type]
    _RESNET19_FLOAT,
    replace(
        _RESNET19_FLOAT,
        is_float=False,
        weights=6.24,
        membranes=0.25,
        total=7.49,
        why_membranes=_RESNET19_MEMBRANES,
        why_total=_RESNET19_TOTAL,
    ),
    PaperRow(
        system="Spikformer-4-256 on CIFAR-10",
        network="spikformer4-256",
        height=32,
        width=32,
        is_float=False,
        unit="MiB",
        weights=9.62,
        membranes=0.25,
        total=15.26,
        why_weights=_SPIKFORMER,
        why_membranes=_SPIKFORMER,
        why_total=_SPIKFORMER,
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperCell:
    """A cell: our value beside the paper's, which is None where the paper has no such cell."""

    name: str
    ours: float
    paper: float | None
    reason: str = ""

    @property
    def difference_percent(self) -> float | None:
        return None if self.paper is None else 100 * (self.ours / self.paper - 1)

    def as_dict(self) -> dict[str, Any]:
        return {
            "cell": self.name,
            "ours": self.ours,
            "paper": self.paper,
            "difference_percent": self.difference_percent,
            "reason": self.reason or None,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperComparison:
    """A configuration's memory as SpQuant-SNN counts it, beside the row of the same system."""

    row: PaperRow
    preset: Preset
    cells: tuple[PaperCell, ...]
    neurons_left_out: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "source": PAPER,
            "system": self.row.system,
            "unit": self.row.unit,
            "unit_bytes": UNIT_BYTES[self.row.unit],
            "neurons_left_out": self.neurons_left_out,
            "cells": [cell.as_dict() for cell in self.cells],
        }


def paper_comparison(
    report: CostReport, preset: Preset, *, model: ModelSpace, height: int, width: int
) -> PaperComparison | None:
    """Compare a preset's costs with the paper's row for this network and input; None where there is no such row."""
    row = _paper_row(preset, model, (height, width))
    if row is None:
        return None
    unit = UNIT_BYTES[row.unit]
    weights = report.weight_bytes / unit
    # The neurons between ResNet-19's linear layers are in none of the paper's cells: 5.5 MiB are its convolutions'.
    mapped = [layer for layer in report.layers if not _is_linear(layer.shape)]
    membranes = sum(layer.membrane_bytes for layer in mapped) / unit
    buffer = sum(layer.input_buffer_bytes for layer in mapped) / unit
    early = row.network == "vgg9" and model.pool == "before"
    why = "pool: before leaves fewer neurons than the paper's network has; model.pool=after is the paper's"
    cells = (
        PaperCell(name="W", ours=weights, paper=row.weights, reason=row.why_weights),
        PaperCell(name="U", ours=membranes, paper=row.membranes, reason=why if early else row.why_membranes),
        PaperCell(name="X", ours=buffer, paper=None),
        PaperCell(
            name="W + U + X",
            ours=weights + membranes + buffer,
            paper=row.total,
            reason=why if early else row.why_total or "our W is in it; the next row has the paper's",
        ),
        PaperCell(
            name="paper's W + U + X",
            ours=row.weights + membranes + buffer,
            paper=row.total,
            reason=why if early else row.why_total,
        ),
    )
    left_out = sum(layer.shape.neurons for layer in report.layers if _is_linear(layer.shape))
    return PaperComparison(row=row, preset=preset, cells=cells, neurons_left_out=left_out)


def _paper_row(preset: Preset, model: ModelSpace, size: tuple[int, int]) -> PaperRow | None:
    """Find the row; Quant-SNN and SpQuant-SNN share one, and a scaled or custom network has none."""
    wanted = (model.network, *size, preset is Preset.SNN_BL)
    rows = [row for row in PAPER_ROWS if (row.network, row.height, row.width, row.is_float) == wanted]
    return rows[0] if rows and model.width == 1.0 and model.own is None else None


def _is_linear(shape: LayerShape) -> bool:
    return shape.kernel_area == shape.positions == 1


def paper_table(comparison: PaperComparison) -> TextTable:
    """Make the table of memory as SpQuant-SNN counts it, in its units, beside its cells."""
    row = comparison.row
    reasons: dict[str, list[str]] = {}  # a reason once, with the cells that it is for
    for cell in comparison.cells:
        if cell.reason:
            reasons.setdefault(cell.reason, []).append(cell.name)
    notes = [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]
    if comparison.neurons_left_out:
        notes.append(
            f"{comparison.neurons_left_out:,} neurons between linear layers, which our network's memory counts, are "
            "in none of the paper's cells, and not in this table"
        )
    return TextTable(
        title=f"{row.system}, {comparison.preset}: memory as the paper counts it, beside its table",
        header=("cell", f"ours {row.unit}", f"paper {row.unit}", "difference %"),
        rows=tuple(_paper_cells(cell) for cell in comparison.cells),
        notes=(
            f"{row.unit} is {'10^6' if row.unit == 'MB' else '2^20'} bytes; the paper: {PAPER}",
            "W weights, U membranes, X one more buffer of a value a neuron (8 bits; 32 beside float membranes), "
            "inferred from the paper's totals",
            *notes,
        ),
        left=frozenset({"cell"}),
    )


def _paper_cells(cell: PaperCell) -> tuple[str, ...]:
    if cell.paper is None or cell.difference_percent is None:
        return (cell.name, f"{cell.ours:.4f}", MISSING, MISSING)
    return (cell.name, f"{cell.ours:.4f}", f"{cell.paper:.2f}", f"{cell.difference_percent:+.1f}")
