"""Turn a space file into what a search or a table of costs starts from, and check all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from spquant_search.costs.engine_limits import narrowest_sums, widest_sums
from spquant_search.data.description import DataInfo
from spquant_search.errors import Problem, SpaceError, first_of
from spquant_search.runs.folder import RunFolder
from spquant_search.snn.inspection import inspect_network
from spquant_search.snn.leaks import rounded_leak_words
from spquant_search.snn.networks.origin_words import origin_words
from spquant_search.snn.networks.planned import plan_of, unfit_input
from spquant_search.space.binding import bind
from spquant_search.space.configuration import FLOAT_BITS, FLOAT_MEMBRANE
from spquant_search.space.reading import read_space
from spquant_search.space.schema import Augmentation, LayerChoices, NeuronSpace, SpaceFile
from spquant_search.space.search_space import SearchSpace
from spquant_search.space.shapes import LayerShape
from spquant_search.training.data_set import describe_data, input_shape, with_channels
from spquant_search.training.importing import with_imported_network
from spquant_search.training.prepared import Prepared
from spquant_search.training.reachable import unreachable_budgets, without_integer_form

_MOST_NAMES = 5  # that a sentence lists
SIDED = ("dvs-gesture",)  # data sets whose classes tell left from right


def prepare(path: Path, overrides: Sequence[str] = (), *, run: RunFolder | None = None) -> Prepared:
    """Read a space file and check all of it, without simulating or training anything.

    ``run``: the one that is to go on, if it is there; a network that it has imported is not imported again.
    """
    file = with_imported_network(read_space(path, overrides), source=str(path), run=run)
    return bind_network(file, source=str(path))


def bind_network(file: SpaceFile, *, source: str) -> Prepared:
    """Bind a space to its data set and network."""
    info = describe_data(file, source=source)
    file = with_channels(file, info)
    mismatches = _unfit_augmentation(file.train.augment, info)
    shape = input_shape(info)
    origin = _origin_words(file, info, source)
    network = inspect_network(file.model, shape, time_steps=file.most_time_steps, source=source)
    shapes = tuple(_with_neurons(layer, file.neuron) if layer.has_neurons else layer for layer in network.shapes)
    try:
        space = bind(file, shapes, source=source, idle=network.idle, other_names=network.other_names)
    except SpaceError as error:
        raise SpaceError(source, [*mismatches, *error.problems]) from None
    notes = [*info.notes, *origin, *network.notes, *_notes_on_neurons(shapes, file)]
    no_integer_form = network.no_integer_form or _kept_in_floats(space, shapes)
    if network.architecture is not None:
        no_integer_form = no_integer_form or narrowest_sums(space.layers, shapes, network.architecture.largest)
        sums = widest_sums(space.layers, shapes, network.architecture.largest, time_steps=file.most_time_steps)
        notes += [f"{sentence}; pick would refuse such a network" for sentence in sums]
    mismatches += without_integer_form(space, no_integer_form) or unreachable_budgets(
        space, shapes, network.architecture
    )
    if mismatches:
        raise SpaceError(source, mismatches)
    return Prepared(
        space=space,
        shapes=shapes,
        input=shape,
        architecture=network.architecture,
        no_integer_form=no_integer_form,
        notes=tuple(notes),
    )


def _origin_words(file: SpaceFile, info: DataInfo, source: str) -> list[str]:
    """Check that a network that is data is one for a space's data, and say where it came from.

    Raises:
        SpaceError: its file cannot be read, or it takes something else.
    """
    if file.model.layers is None:
        return []
    plan = plan_of(file.model.layers, source=source)
    given = input_shape(info)
    if (unfit := unfit_input(plan, given, time_steps=file.most_time_steps, still=info.static)) is not None:
        function = None if plan.origin is None else plan.origin.function
        key, name = ("model.layers", file.model.layers) if function is None else ("model.import", function)
        raise SpaceError(source, [Problem(key, f"{name}: {unfit}")])
    return [] if plan.origin is None else origin_words(plan.origin, trains=file.train.baseline_epochs)


def _with_neurons(layer: LayerShape, neuron: NeuronSpace) -> LayerShape:
    """Return a layer with what a space says of its neurons."""
    form = layer.own_form or neuron.form
    return replace(
        layer,
        learns_threshold=neuron.learn_threshold,
        learns_leak=form.learn_leak,
        returns_to_rest=form.returns_to_rest,
        halves=form.halves and not neuron.lowest_level,
    )


def _notes_on_neurons(shapes: Sequence[LayerShape], file: SpaceFile) -> list[str]:
    """Say what of a space is otherwise in some neurons: leaks that are rounded, masks that are left out."""
    # Of layers with neurons, and of a readout of membranes.
    leaking = [shape for shape in shapes if shape.has_neurons or shape.own_form is not None]
    forms = {shape.name: shape.own_form or file.neuron.form for shape in leaking}
    notes = rounded_leak_words({name: form.leak for name, form in forms.items() if not form.learn_leak})
    if learned := [name for name, form in forms.items() if form.learn_leak]:
        notes.append(f"{first_of(learned, _MOST_NAMES)}: leaks that are learned are rounded to k/4096 in integers")
    unmasked = [shape.name for shape in shapes if shape.kind == "convolution" and not shape.can_skip]
    if unmasked and file.layers.get("all", LayerChoices()).skip_below not in (None, (None,)):
        words = "layers.all.skip_below is left out, as with a leak above 1/2 a neuron could be skipped for ever"
        notes.append(f"{first_of(unmasked, _MOST_NAMES)}: {words}")
    return notes


def _kept_in_floats(space: SearchSpace, shapes: Sequence[LayerShape]) -> str | None:
    """Say which layer keeps floating-point numbers in every configuration; None if there is none."""
    for layer, shape in zip(space.layers, shapes, strict=True):
        if shape.has_weights and set(layer.weight_bits) == {FLOAT_BITS}:
            return f"{layer.name} has float weights in every configuration; give it a choice of weight_bits"
        if set(layer.membrane_levels) == {FLOAT_MEMBRANE}:
            return f"{layer.name} has a float membrane in every configuration; give it a choice of membrane_levels"
    return None


def _unfit_augmentation(augment: Augmentation, info: DataInfo) -> list[Problem]:
    """Find the augmentations that do not fit the data set's samples."""
    problems: dict[str, str] = {}
    if augment.flip and info.name in SIDED:
        problems["flip"] = f"{info.name} has classes for left and right, which a flip would swap; set it to false"
    if info.static:
        name = f"{info.name}, whose samples are still images"
        if augment.roll:
            problems["roll"] = f"is for recordings, not for {name}; set it to 0 and take crop"
        if augment.event_drop:
            problems["event_drop"] = f"is for recordings, not for {name}; set it to 0"
    for key, pixels in (("roll", augment.roll), ("crop", augment.crop)):
        if pixels >= min(info.height, info.width):
            frame = f"the frame's height and width, {info.height}x{info.width}"
            problems.setdefault(key, f"must be less than {frame}; got {pixels}")
    return [Problem(f"train.augment.{key}", sentence) for key, sentence in problems.items()]
