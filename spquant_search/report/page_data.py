"""The document that report.html draws: plain values, all of them figures that other reports show, too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from spquant_search.costs.memory import FLOPS_PER_MAC, cost_report
from spquant_search.errors import SpaceError
from spquant_search.report.cost_words import shown_unit
from spquant_search.report.data_files import null_for_nan
from spquant_search.report.forms import uniform_label
from spquant_search.report.numbers import duration
from spquant_search.report.pick_advice import run_words, why_nothing_is_pickable
from spquant_search.report.run_report import accuracy_sentence, searched_sentence, test_sentence
from spquant_search.report.run_summary import RunSummary
from spquant_search.report.text_table import one_line
from spquant_search.report.trainer_words import trainers_words
from spquant_search.runs import pareto, selection
from spquant_search.runs.intervals import CONFIDENCE, wilson_interval
from spquant_search.runs.results import Origin, TrialResult
from spquant_search.runs.sensitivity import LOWERED, Sensitivity, choice_words
from spquant_search.space.binding import bind
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.objectives import COSTS
from spquant_search.space.schema import SpaceFile
from spquant_search.space.shapes import LayerShape


@dataclass(frozen=True, kw_only=True, slots=True)
class PageSource:
    """All that a page is made from; what a run does not have is empty, and its part of the page is left out."""

    summary: RunSummary
    space: SpaceFile | None = None
    shapes: tuple[LayerShape, ...] = ()  # for the bytes of every layer
    sensitivity: Sensitivity | None = None
    profile: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    is_running: bool = False  # written by a search that goes on

    @property
    def layers(self) -> tuple[LayerShape, ...]:
        """The shapes, if they are of the network that was searched: a user may have changed it since."""
        searched = {tuple(name for name, _ in result.config.layers) for result in self.summary.results}
        return self.shapes if searched == {tuple(shape.name for shape in self.shapes)} else ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PageCost:
    """A row of the code's one list of costs, as the page needs it."""

    name: str
    words: str
    unit: str  # of what is shown
    of_one: float  # of the cost, in one of these units
    option: str  # of `pick`
    is_objective: bool
    of_floats: bool  # a network that keeps floats has it, too


@dataclass(frozen=True, kw_only=True, slots=True)
class PageTrial:
    """A trial; what is listed by layer is in the order of the document's layers."""

    number: int
    origin: str
    mark: str  # what a baseline, a preset or a reference is called; empty elsewhere
    outcome: str
    ended: str  # the outcome and its reason, in words
    on_front: bool
    pickable: bool
    compared: bool  # a point of the front's plane: it has a network, and no fine-tuned one replaces it
    trained: bool
    accuracy: float | None
    low: float | None  # of the accuracy's interval
    high: float | None
    samples: int
    seeds: tuple[int, float | None, float | None] | None  # how many were fine-tuned, mean accuracy, deviation
    test: float | None
    test_low: float | None
    test_high: float | None
    costs: tuple[float | None, ...]  # in the order of the document's
    parts: tuple[int, int, int]  # bytes of weights, membranes and everything else
    time_steps: int
    layers: Mapping[str, tuple[Any, ...]]  # columns: bits, levels, mass, skip, and as measured open, flops, sops, rate
    curve: tuple[tuple[int, float | None], ...]  # epoch, accuracy
    seconds: float
    seed: int
    parent: int | None


def page_document(source: PageSource) -> dict[str, Any]:
    """Return the document; equal results give equal documents."""
    summary = source.summary
    document = {
        "run": one_line(summary.run),
        "network": one_line(summary.network),
        "data": one_line(summary.data),
        "sentences": [sentence.replace("`", "") for sentence in _sentences(summary)],
        "classes": [one_line(name) for name in summary.classes],
        "running": source.is_running,
        "confidence": CONFIDENCE,
        "pick": f"spquant-search pick {run_words(summary)}",
        "unpickable": "" if summary.pickable else why_nothing_is_pickable(summary),
        "costs": [_as_dict(_cost(name, summary)) for name in COSTS],
        "layers": [name for name, _ in summary.results[0].config.layers] if summary.results else [],
        "steps": list(summary.time_steps),
        "budget": summary.budget.as_dict(),
        "baseline": None if summary.baseline is None else summary.baseline.number,
        "trials": [_as_dict(trial) for trial in _trials(source)],
        "volume": [list(point) for point in volume_history(summary)],
        "shapes": [_shape(shape) for shape in source.layers],
        "sensitivity": None if source.sensitivity is None else _sensitivity(source.sensitivity),
        "profile": {process: dict(seconds) for process, seconds in source.profile.items()},
        "made": _made(source),
    }
    clean: dict[str, Any] = null_for_nan(document)
    return clean


def _as_dict(value: PageCost | PageTrial) -> dict[str, Any]:
    """Return the fields by name; not by ``asdict``, which copies all that they hold."""
    return {each.name: getattr(value, each.name) for each in fields(value)}


def page_json(document: Mapping[str, Any]) -> str:
    """Write a document so that no text in it can end the element of the page that holds it."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))  # in ASCII: U+2028 and its like are escaped
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def volume_history(summary: RunSummary) -> Iterator[tuple[int, float, float]]:
    """Give, for every trial that added to the front's volume, its number, the seconds of trials so far, the volume.

    The last volume is that of the front. Seconds are those that trainers spent on the trials up to this one.
    """
    point, seconds = summary.reference_point, 0.0
    if point is None:
        return
    fitting = {result.number for result in selection.within(summary.compared, summary.budget)}
    kept = pareto.objectives([], summary.costs)
    highest = -1.0
    for result in summary.results:
        seconds += result.seconds
        if result.number not in fitting:
            continue
        points = np.vstack([kept, pareto.objectives([result], summary.costs)])
        stays = pareto.non_dominated(points)
        kept = points[stays]
        if not stays[-1]:  # another one dominates it: the volume is what it was
            continue
        volume = pareto.hypervolume(kept, point)
        if volume > highest:
            yield result.number, round(seconds, 3), volume
            highest = volume


def _sentences(summary: RunSummary) -> list[str]:
    return [searched_sentence(summary), accuracy_sentence(summary), test_sentence(summary)]


def _cost(name: str, summary: RunSummary) -> PageCost:
    unit, of_one = shown_unit(name)
    return PageCost(
        name=name,
        words=COSTS[name].words,
        unit=unit,
        of_one=of_one,
        option=COSTS[name].option,
        is_objective=name in summary.costs,
        of_floats=COSTS[name].of_floats,
    )


def _marks(source: PageSource) -> dict[NetworkConfig, str]:
    """Name the configurations that a space tries as presets."""
    if source.space is None or not source.layers:
        return {}
    presets = [reference for reference in source.space.search.references if "preset" in reference]
    names = {}
    for reference in presets:
        alone = replace(source.space, search=replace(source.space.search, references=(reference,)))
        with suppress(SpaceError):  # of a space that the run's own version understood otherwise
            (config,) = bind(alone, source.layers, source=source.summary.source).references
            names[config] = f"preset {reference['preset']}" + (", changed" if len(reference) > 1 else "")
    return names


def _trials(source: PageSource) -> Iterator[PageTrial]:
    summary, shapes, marks = source.summary, source.layers, _marks(source)
    front = {member.number for member in summary.front}
    pickable = {member.number for member in summary.pickable}
    compared = {result.number for result in summary.compared}
    for result in summary.results:
        found = wilson_interval(result.accuracy, summary.samples_of(result))
        test = summary.test_accuracy.get(result.number)
        of_test = None if test is None else wilson_interval(test, summary.test_samples)
        final = result.final
        yield PageTrial(
            number=result.number,
            origin=result.origin,
            mark=_mark(result, marks),
            outcome=result.outcome.name,
            ended=_ended(result),
            on_front=result.number in front,
            pickable=result.number in pickable,
            compared=result.number in compared,
            trained=result.is_trained,
            accuracy=result.accuracy,
            low=None if found is None else found.low,
            high=None if found is None else found.high,
            samples=summary.samples_of(result),
            seeds=None if final is None else (final.seeds, final.validation_mean, final.validation_std),
            test=test,
            test_low=None if of_test is None else of_test.low,
            test_high=None if of_test is None else of_test.high,
            costs=tuple(getattr(result, name) for name in COSTS),
            parts=(result.weight_bytes, result.membrane_bytes, result.overhead_bytes),
            time_steps=result.config.time_steps,
            layers=_layers(result, shapes),
            curve=tuple((epoch.epoch, epoch.accuracy) for epoch in result.epochs),
            seconds=result.seconds,
            seed=result.seed,
            parent=result.parent,
        )


def _mark(result: TrialResult, marks: Mapping[NetworkConfig, str]) -> str:
    if result.origin is Origin.BASELINE:
        return "float baseline"
    if result.origin is not Origin.REFERENCE:
        return ""
    return marks.get(result.config) or f"reference {uniform_label(result.config)}"


def _ended(result: TrialResult) -> str:
    """Say how a trial ended, and why where that says more."""
    reason = one_line(result.reason)
    return result.outcome.value if reason in ("", result.outcome.value) else f"{result.outcome.value}: {reason}"


def _layers(result: TrialResult, shapes: Sequence[LayerShape]) -> dict[str, tuple[Any, ...]]:
    """List what is known of every layer, a column for each figure."""
    precisions = [precision for _, precision in result.config.layers]
    columns: dict[str, tuple[Any, ...]] = {
        "bits": tuple(layer.weight_bits for layer in precisions),
        "levels": tuple(layer.membrane_levels for layer in precisions),
        "mass": tuple(layer.channel_mass for layer in precisions),
        "skip": tuple(layer.skip_below for layer in precisions),
    }
    if result.layers:
        measured = [dict(result.layers).get(name) for name, _ in result.config.layers]
        columns |= {
            "open": tuple(done and round(done.open_share, 6) for done in measured),
            "flops": tuple(done and round(FLOPS_PER_MAC * done.effective_macs, 3) for done in measured),
            "sops": tuple(done and round(done.synaptic_ops, 3) for done in measured),
            "rate": tuple(done and round(done.density, 6) for done in measured),
        }
    if shapes and result.outcome.has_weights:
        costs = cost_report(shapes, result.config).layers
        columns |= {
            "weight_bytes": tuple(cost.weight_bytes for cost in costs),
            "membrane_bytes": tuple(cost.membrane_bytes for cost in costs),
            "other_bytes": tuple(cost.overhead_bytes for cost in costs),
        }
    return columns


def _shape(shape: LayerShape) -> dict[str, Any]:
    flops = FLOPS_PER_MAC * shape.dense_macs
    return {"kind": shape.kind, "weights": shape.weights, "neurons": shape.neurons, "dense_flops": flops}


def _sensitivity(found: Sensitivity) -> dict[str, Any]:
    """List what every lower precision loses, and saves."""
    maps = [
        {
            "parameter": parameter,
            "choices": [
                {
                    "layer": choice.layer,
                    "value": choice.value,
                    "words": choice_words(parameter, choice.value),
                    "loss": found.loss(choice),
                    "bytes_saved": found.bytes_saved(choice),
                }
                for choice in found.choices
                if choice.parameter == parameter
            ],
        }
        for parameter in LOWERED
    ]
    steps = [{"value": choice.value, "loss": found.loss(choice)} for choice in found.fewer_steps]
    return {
        "accuracy": found.accuracy,
        "memory_bytes": found.memory_bytes,
        "samples": found.samples,
        "steps": found.reference.time_steps,
        "maps": [drawn for drawn in maps if drawn["choices"]],
        "fewer_steps": steps,
    }


def _made(source: PageSource) -> list[list[str]]:
    """List what a run was made with: names and values as people read them."""
    summary = source.summary
    rows = [
        ("command", summary.command or "unknown"),
        ("space file", summary.source),
        ("data", summary.data),
        *([] if source.space is None else [("seed of the search", str(source.space.search.seed))]),
        ("validation samples", f"{summary.validation_samples:,}"),
        ("test samples", f"{summary.test_samples:,}"),
        ("wall clock, all starts", duration(summary.seconds)),
        *(("trainers", trainers_words(trainers)) for trainers in summary.trainers),
        *summary.environment.items(),
    ]
    return [[one_line(name), one_line(value)] for name, value in rows]
