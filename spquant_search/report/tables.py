"""Configurations, fronts and costs as tables: one value, shown by rich, as Markdown or as plain text.

People read KiB, FLOPs (2 per MAC) and reduction factors against the float baseline; the data files carry MACs too.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from spquant_search.costs.memory import FLOPS_PER_MAC, CostReport, membrane_bits
from spquant_search.report.paper import PAPER, PaperCell, PaperComparison
from spquant_search.report.summary import RunSummary
from spquant_search.runs import selection
from spquant_search.runs.energy import Energy, measured_energy, total_energy, upper_bounds
from spquant_search.runs.pareto import REFERENCE_SLACK, ReferencePoint
from spquant_search.runs.results import TrialResult
from spquant_search.space.configuration import FLOAT_BITS, FLOAT_MEMBRANE, LayerPrecision, NetworkConfig

MISSING = "-"
GROUP = 4
# Levels above 9 in one letter: that of the bits they are stored in.
LEVEL_LETTERS = {"A": "10..16 levels", "B": "17..32", "C": "33..64", "D": "65..128", "E": "129..256"}
SPARSITY_LEGEND = "g5s3: 5 layers with a channel gate, 3 layers that skip neurons"
ORIGIN_MARKS = {"baseline": "base", "reference": "ref"}
# At two prices: see spquant_search.runs.energy.
ENERGY_COLUMNS = ("uJ fp32", "uJ int")
ENERGY_NOTES = (
    "uJ: an estimate and no measurement, of the synaptic operations at 45 nm prices (Horowitz, ISSCC 2014) and of "
    "reading and writing every stored membrane once a step (10 pJ for 64 bits of SRAM)",
    "uJ fp32: an operation is an fp32 addition of 0.9 pJ, in the first layer an fp32 MAC of 4.6 pJ; uJ int: a 32-bit "
    "integer addition of 0.1 pJ, in the first layer with an 8-bit product 0.3 pJ; float weights as fp32",
    "extrapolated: membranes in proportion to their bits, products of weights below 8 bits as of 8; not counted: "
    "reading weights; a sum of spikes, behind pooling or a residual, counts as one addition",
)


# ---------------------------------------------------------------- numbers as people read them


def percent(fraction: float | None) -> str:
    """``86.4`` for 0.864; the column or the sentence adds the sign."""
    return MISSING if fraction is None or math.isnan(fraction) else f"{100 * fraction:.1f}"


def kib(size_bytes: float) -> str:
    """KiB without the unit: ``54.2``, or ``1,234`` where the tenth no longer matters."""
    return _thousands(size_bytes / 1024)


def mega(count: float) -> str:
    """Millions without the unit."""
    return _thousands(count / 1e6)


def quantity(count: float) -> str:
    """``38.2 M``: three digits and a decimal prefix."""
    if math.isnan(count):
        return MISSING
    for limit, prefix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        # 999,950 would otherwise read "1000 k".
        if abs(count) >= limit * 0.9995:
            return _three_digits(count / limit) + prefix
    return f"{count:.0f}"


def flops(count: float) -> str:
    """``38.2 MFLOPs``; ``count`` in FLOPs, not MACs."""
    return with_unit(count, "FLOPs")


def with_unit(count: float, unit: str) -> str:
    """``38.2 MMAC``, ``812 MAC``"""
    number = quantity(count)
    return number + unit if number[-1].isalpha() else f"{number} {unit}"


def reduction(baseline: float | None, value: float) -> str:
    """``1/14.2`` where ``value`` is the 14.2th part of the baseline's, ``x1.20`` where it is 1.2 times as much."""
    if baseline is None or math.isnan(value) or math.isnan(baseline) or value <= 0 or baseline <= 0:
        return MISSING
    factor = baseline / value
    if 0.995 <= factor < 1.005:
        return "1"
    return f"1/{_three_digits(factor)}" if factor > 1 else f"x{_three_digits(1 / factor)}"


def microjoules(picojoules: float) -> str:
    """Microjoules without the unit, in three digits: ``0.812``, ``12.3`` or ``1,234``."""
    value = picojoules / 1e6
    return f"{value:.3f}" if value < 0.9995 else _three_digits(value) if value < 999.5 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """``1:05`` or ``2:03:09``."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def one_line(text: str) -> str:
    """``text`` without control characters and line breaks: safe in a terminal, a log and a table's cell."""
    visible = "".join(" " if unicodedata.category(letter).startswith(("C", "Z")) else letter for letter in text)
    return " ".join(visible.split())


def standard_error(accuracy: float, samples: int) -> float:
    """sqrt(p (1 - p) / n), a fraction: how far an accuracy would wander with other samples of the same kind."""
    return math.sqrt(accuracy * (1 - accuracy) / samples) if samples > 0 else math.nan


def _thousands(value: float) -> str:
    if math.isnan(value):
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 999.95 else f"{value:.1f}"


def _three_digits(value: float) -> str:
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f}"


# ---------------------------------------------------------------- configurations in one line


def bits_form(config: NetworkConfig) -> str:
    """``8444 2222 4``: the weight bits of every layer, so that one layer stands in one place in every row."""
    return _grouped("F" if layer.weight_bits == FLOAT_BITS else str(layer.weight_bits) for _, layer in config.layers)


def levels_form(config: NetworkConfig) -> str:
    """``3333 3A33``: the membrane levels of every layer, as :func:`legend` explains them, up to the last membrane."""
    return _grouped(_levels_letter(layer.membrane_levels) for _, layer in config.layers).rstrip(f"{MISSING} ")


def sparsity_form(config: NetworkConfig) -> str:
    """``g5s3``: how many layers have a channel gate and how many skip neurons; empty where none does."""
    gates = sum(layer.channel_mass < 1 for _, layer in config.layers)
    skips = sum(layer.skip_below is not None for _, layer in config.layers)
    return "".join(f"{letter}{count}" for letter, count in (("g", gates), ("s", skips)) if count)


def short_form(config: NetworkConfig) -> str:
    """``8444 2222 4 / 3333 3A33 g5s3``: a whole configuration in one line."""
    return f"{bits_form(config)} / {levels_form(config)} {sparsity_form(config)}".rstrip()


def legend(configs: Iterable[NetworkConfig]) -> str:
    """How to read the forms of these configurations; what they do not use is left out."""
    configs = tuple(configs)
    letters = {letter for config in configs for letter in bits_form(config) + levels_form(config)}
    words = {"F": "F float", MISSING: f"{MISSING} no membrane"}
    words |= {letter: f"{letter} {levels}" for letter, levels in LEVEL_LETTERS.items()}
    used = ", ".join(text for letter, text in words.items() if letter in letters)
    return "bits, levels: one character a layer" + (f"; {used}" if used else "")


def uniform_label(config: NetworkConfig) -> str:
    """``4 bit / 3 levels, sparse``; with "mostly" before it where a layer, such as a fixed first one, differs.

    Sparse: some layer has a gate or skips neurons.
    """
    bits = Counter(layer.weight_bits for _, layer in config.layers)
    levels = Counter(layer.membrane_levels for _, layer in config.layers if layer.membrane_levels is not None)
    words = [_bits_words(bits.most_common(1)[0][0])]
    words += [_levels_words(level) for level, _ in levels.most_common(1)]
    sparse = any(layer.channel_mass < 1 or layer.skip_below is not None for _, layer in config.layers)
    uniform = len(bits) == 1 and len(levels) <= 1
    return ("" if uniform else "mostly ") + " / ".join(words) + (", sparse" if sparse else "")


def _grouped(letters: Iterable[str]) -> str:
    line = "".join(letters)
    return " ".join(line[start : start + GROUP] for start in range(0, len(line), GROUP))


def _levels_letter(levels: int | None) -> str:
    if levels is None:
        return MISSING
    if levels == FLOAT_MEMBRANE:
        return "F"
    return str(levels) if levels <= 9 else tuple(LEVEL_LETTERS)[membrane_bits(levels) - 4]


def _bits_words(bits: int) -> str:
    return "float" if bits == FLOAT_BITS else f"{bits} bit"


def _levels_words(levels: int) -> str:
    return "float membranes" if levels == FLOAT_MEMBRANE else f"{levels} levels"


# ---------------------------------------------------------------- a table and its three forms


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTable:
    """Cells ready to read. Columns are right-aligned but for those named in ``left``; ``notes`` stand below."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    left: frozenset[str] = frozenset()

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(title=Text(one_line(self.title)), title_justify="left", box=box.SIMPLE_HEAD)
        table.show_edge, table.pad_edge, table.padding = False, False, (0, 1, 0, 0)
        table.show_footer = bool(self.total)
        for name, total in zip(self.header, self.total or self.header, strict=True):
            side: JustifyMethod = "left" if name in self.left else "right"
            # Too narrow a terminal folds the forms of deep networks between their groups, and nothing else.
            table.add_column(Text(name), footer=Text(total), justify=side, no_wrap=name not in ("bits", "levels"))
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))
        if self.notes:
            table.caption, table.caption_justify = Text("\n".join(one_line(note) for note in self.notes)), "left"
        return table

    def markdown(self) -> str:
        """A GitHub table, its total in bold, its notes as a list; without the title."""
        rule = tuple(":--" if name in self.left else "--:" for name in self.header)
        total = tuple(f"**{cell}**" if cell else "" for cell in self.total)
        rows = [_escaped(self.header), rule, *(_escaped(row) for row in self.rows), *([total] if total else [])]
        lines = [f"| {' | '.join(row)} |" for row in rows]
        notes = ["", *(f"- {one_line(note)}" for note in self.notes)] if self.notes else []
        return "\n".join(lines + notes) + "\n"

    def plain(self) -> str:
        """Aligned columns without any colour, frame or wrapping: for pipes and logs."""
        rows = [self.header, *self.rows, *([self.total] if self.total else [])]
        widths = [max(len(row[column]) for row in rows) for column in range(len(self.header))]
        notes = (one_line(note) for note in self.notes)
        return "\n".join([one_line(self.title), *(self._aligned(row, widths) for row in rows), *notes]) + "\n"

    def _aligned(self, row: Sequence[str], widths: Sequence[int]) -> str:
        cells = zip(row, self.header, widths, strict=True)
        return "  ".join(
            cell.ljust(width) if name in self.left else cell.rjust(width) for cell, name, width in cells
        ).rstrip()


def _escaped(cells: Iterable[str]) -> tuple[str, ...]:
    return tuple(one_line(cell).replace("|", "\\|") for cell in cells)


def _without_empty_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [column for column in range(len(header)) if any(row[column] for row in rows) or not rows]


# ---------------------------------------------------------------- the tables


def front_table(summary: RunSummary, *, time_steps: int | None = None) -> TextTable:
    """The front, smallest memory first, each member with its factors against the float baseline.

    With ``time_steps`` (of a sample), also what a sample's energy is estimated at.
    """
    header = (
        *("trial", "val", "test", "mean val", "mean test", "KiB", "factor", "FLOPs", "factor"),
        *(*ENERGY_COLUMNS, "bits", "levels", "gate"),
    )
    rows = [_front_row(summary, member, time_steps) for member in summary.front]
    kept = _without_empty_columns(header, rows)
    has_energy = any(header[column] in ENERGY_COLUMNS for column in kept)
    return TextTable(
        title=f"{summary.run}: the front of accuracy, memory and operations",
        header=tuple(header[column] for column in kept),
        rows=tuple(tuple(row[column] for column in kept) for row in rows),
        notes=_front_notes(summary, has_energy=has_energy and bool(rows)),
        left=frozenset({"trial", "bits", "levels", "gate"}),
    )


def budget_words(summary: RunSummary) -> str:
    """The space file's constraints, and by how much the nearest trial misses them where none fits; empty without."""
    budget = summary.budget
    if not budget:
        return ""
    words = ", ".join(_bound_words(name, bound) for name, bound in budget.as_dict().items())
    if summary.meets_budget or not summary.front:
        return f"constraints: {words}; the front is that of the trials within them"
    near = selection.nearest(summary.front, budget)
    missed = sorted(budget.excess(near).items(), key=lambda item: item[1])
    listed = " and ".join(
        f"{name} by {100 * share:.3g} % ({_figure(name, getattr(near, name))})" for name, share in missed
    )
    return (
        f"NO TRIAL IS WITHIN THE CONSTRAINTS ({words}): the front is that of all trials. "
        f"Nearest is trial {near.number}, which misses {listed}"
    )


def _bound_words(name: str, bound: float) -> str:
    return f"{name} {'at least' if name == 'accuracy' else 'at most'} {_figure(name, bound)}"


def _figure(name: str, value: float) -> str:
    if name == "effective_flops":
        return flops(value)
    return f"{value:.4g}" if name == "accuracy" else f"{value:,.0f}"


def _front_row(summary: RunSummary, member: TrialResult, time_steps: int | None) -> tuple[str, ...]:
    baseline = summary.baseline
    energy = None if time_steps is None else measured_energy(member, time_steps=time_steps)
    test, final = summary.test_accuracy.get(member.number), member.final
    return (
        f"{member.number} {ORIGIN_MARKS.get(member.origin, '')}".rstrip(),
        percent(member.accuracy),
        "" if test is None else percent(test),
        "" if final is None else _mean_cell(final.validation_mean, final.validation_std),
        "" if final is None else _mean_cell(final.test_mean, final.test_std),
        kib(member.memory_bytes),
        reduction(baseline.memory_bytes if baseline else None, member.memory_bytes),
        quantity(member.effective_flops),
        reduction(baseline.effective_flops if baseline else None, member.effective_flops),
        *(("", "") if energy is None else _energy_cells(energy)),
        bits_form(member.config),
        levels_form(member.config),
        sparsity_form(member.config),
    )


def _mean_cell(mean: float | None, deviation: float | None) -> str:
    """``84.2 ±0.3``"""
    return percent(mean) if deviation is None else f"{percent(mean)} ±{percent(deviation)}"


def _final_notes(members: Sequence[TrialResult]) -> list[str]:
    """How members were fine-tuned at the end, and which are better off as they were."""
    tuned = [(member.number, member.final) for member in members if member.final is not None]
    notes = []
    if tuned:
        recipes = {(final.seeds, final.epochs) for _, final in tuned}
        words = ", ".join(f"{seeds} x {epochs} epochs" for seeds, epochs in sorted(recipes))
        notes.append(
            f"mean val, mean test: over the seeds of the last fine-tuning ({words}), ± one standard deviation; "
            "val and test are those of the weights that are kept, chosen by val"
        )
    kept = [str(number) for number, final in tuned if not final.improved]
    if kept:
        notes.append(
            f"no seed was more accurate than before, and the weights of before are kept: trial {', '.join(kept)}"
        )
    return notes


def _energy_cells(energy: Energy) -> tuple[str, str]:
    return microjoules(energy.at_fp32_price), microjoules(energy.at_integer_price)


def _front_notes(summary: RunSummary, *, has_energy: bool) -> tuple[str, ...]:
    tested = f", test: on {summary.test_samples:,} test samples" if summary.test_accuracy else ""
    members = summary.front
    notes = [
        f"val: accuracy in % on {summary.validation_samples:,} validation samples{tested}; {summary.data}",
        "FLOPs: 2 per MAC, effective ones, a sample over all time steps; factor: against the float baseline",
        *_final_notes(members),
        legend(member.config for member in members),
    ]
    if any(sparsity_form(member.config) for member in members):
        notes.append(SPARSITY_LEGEND)
    if summary.budget:
        notes.insert(0, budget_words(summary))
    if has_energy:
        notes += [f"{ENERGY_NOTES[0]}; operations as measured on the validation split", *ENERGY_NOTES[1:]]
    if any(member.origin in ORIGIN_MARKS for member in members):
        notes.append("base: the float baseline; ref: a reference of uniform precision")
    return tuple(notes)


def cost_table(
    report: CostReport, *, title: str = "Cost", energy: Literal["columns", "note"] | None = None
) -> TextTable:
    """Bytes and dense operations of every layer, before any training.

    With ``energy`` also the estimate of what a sample takes at most: of every layer, or where there is no room for two
    more columns of the network alone.
    """
    header = ("layer", "weights", "neurons", "bits", "levels", "W KiB", "U KiB", "other", "MACs", "FLOPs")
    rows: list[tuple[str, ...]] = [
        (
            layer.shape.name,
            f"{layer.shape.weights:,}",
            f"{layer.shape.neurons:,}",
            "float" if layer.precision.weight_bits == FLOAT_BITS else str(layer.precision.weight_bits),
            _levels_cell(layer.precision),
            kib(layer.weight_bytes),
            kib(layer.membrane_bytes),
            kib(layer.overhead_bytes),
            quantity(layer.shape.dense_macs),
            quantity(layer.shape.dense_macs * FLOPS_PER_MAC),
        )
        for layer in report.layers
    ]
    totals, notes = _cost_totals(report), _cost_notes(report)
    bounds = upper_bounds(report)
    if energy == "columns":
        rows = [(*row, *_energy_cells(bound)) for row, bound in zip(rows, bounds, strict=True)]
        totals += _energy_cells(total_energy(bounds))
    if energy is not None:
        notes += (_bound_note(total_energy(bounds), report.time_steps), *ENERGY_NOTES)
    return TextTable(
        title=title,
        header=header + (ENERGY_COLUMNS if energy == "columns" else ()),
        rows=tuple(rows),
        total=totals,
        notes=notes,
        left=frozenset({"layer"}),
    )


def _bound_note(bound: Energy, time_steps: int) -> str:
    fp32, integer = _energy_cells(bound)
    return (
        f"a sample takes at most {fp32} uJ fp32 or {integer} uJ int: an upper bound, at full density, with every input "
        f"non-zero in all {time_steps} steps; sparse spikes stay far below, and a trained network's is made from its "
        "measured operations"
    )


def _cost_notes(report: CostReport) -> tuple[str, ...]:
    steps, macs = report.time_steps, report.dense_macs_all_steps
    return (
        f"memory {kib(report.memory_bytes)} KiB = W weights + U membranes + other (scales, offsets, "
        "gate predictors), for one sample, every tensor packed at its own bits",
        f"as the SpQuant-SNN paper counts it (W, U and one more buffer): {kib(report.paper_total_bytes)} KiB",
        f"MACs and FLOPs (2 per MAC): dense, of one time step; over all {steps} steps "
        f"{with_unit(macs, 'MAC')} = {flops(macs * FLOPS_PER_MAC)}",
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


def paper_table(comparison: PaperComparison) -> TextTable:
    """Memory as SpQuant-SNN counts it, in its units, beside its table's cells."""
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


def _levels_cell(precision: LayerPrecision) -> str:
    if precision.membrane_levels is None:
        return MISSING
    return "float" if precision.membrane_levels == FLOAT_MEMBRANE else str(precision.membrane_levels)


def layer_table(result: TrialResult) -> TextTable:
    """Every layer of one configuration, with what it did on the validation split where that was measured."""
    header = ("layer", "weight bits", "membrane levels", "channel mass", "skip below")
    measured = ("open channels %", "spikes a neuron and step", "MFLOPs")
    activity = dict(result.layers)
    rows = []
    for name, precision in result.config.layers:
        cells: tuple[str, ...] = (
            name,
            "float" if precision.weight_bits == FLOAT_BITS else str(precision.weight_bits),
            _levels_cell(precision),
            f"{precision.channel_mass:g}" if precision.channel_mass < 1 else MISSING,
            MISSING if precision.skip_below is None else f"{precision.skip_below:g}",
        )
        done = activity.get(name)
        if activity:
            cells += (
                percent(done.open_share if done else None),
                f"{done.density:.3f}" if done and precision.membrane_levels is not None else MISSING,
                mega(done.effective_macs * FLOPS_PER_MAC if done else math.nan),
            )
        rows.append(cells)
    return TextTable(
        title=f"trial {result.number}",
        header=header + (measured if activity else ()),
        rows=tuple(rows),
        notes=("MFLOPs: effective ones, 2 per MAC, a sample over all time steps",) if activity else (),
        left=frozenset({"layer"}),
    )


def reference_text(point: ReferencePoint) -> str:
    """The reference point in words: a hypervolume says nothing without it."""
    operations = flops(point.effective_macs * FLOPS_PER_MAC)
    corner = f"accuracy {percent(point.accuracy)} %, {kib(point.memory_bytes)} KiB, {operations}"
    return f"{corner}: chance, {REFERENCE_SLACK:g} times the float baseline"


def hypervolume_text(hypervolume: float | None, point: ReferencePoint | None) -> str:
    """``hypervolume 0.412 of at most 0.9 (reference point: ...)``"""
    if hypervolume is None or point is None:
        return "hypervolume: not before the float baseline is trained"
    limit = 1 - point.accuracy
    return f"hypervolume {hypervolume:.4f} of at most {limit:.3g} (reference point: {reference_text(point)})"
