"""Bind a space file to the layers that its network reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spquant_search.errors import Problem, SpaceError
from spquant_search.space.address import Address
from spquant_search.space.configuration import FLOAT_BITS
from spquant_search.space.messages import MOST_SUGGESTIONS, path_below, suggestion
from spquant_search.space.references import reference_configurations
from spquant_search.space.schema import LayerChoices, SpaceFile
from spquant_search.space.search_space import LayerSpace, SearchSpace
from spquant_search.space.shapes import LayerShape

# In these words for one layer and for all of them.
_NO_RETURN = (
    "with a leak above 1/2, or one that is learned, a potential may be stored below the cut for ever, and its neuron "
    "would be skipped for ever"
)


def bind(
    file: SpaceFile,
    shapes: Sequence[LayerShape],
    *,
    source: str,
    idle: Sequence[str] = (),
    other_names: Mapping[str, str] | None = None,
) -> SearchSpace:
    """Bind a space file to the layers of its network.

    ``idle`` are layers that the network has and does not use, ``other_names`` further names of its layers.

    Raises:
        SpaceError: a layer that the network does not have, or a parameter that the layer does not have.
    """
    problems = _unknown_layers(file, shapes, idle, other_names or {})
    for_all = file.layers.get("all", LayerChoices())
    layers = []
    for shape in shapes:
        choices = file.layers.get(shape.name, LayerChoices())
        problems += _unfit_parameters(choices, shape)
        layers.append(_layer_space(shape, choices, for_all, stores=file.most_time_steps > 1))
    space = SearchSpace(source=source, file=file, layers=tuple(layers), references=())
    if for_all.skip_below not in (None, (None,)) and _none_returns(shapes):
        problems.append(
            Problem(
                "layers.all.skip_below", f"{_NO_RETURN}; remove the key, or take a fixed neuron.leak of at most 0.5"
            )
        )
    references, more = reference_configurations(space, shapes)
    if problems + more:
        raise SpaceError(source, problems + more)
    return SearchSpace(source=source, file=file, layers=tuple(layers), references=references)


def _none_returns(shapes: Sequence[LayerShape]) -> bool:
    """Tell whether there are layers that could skip neurons, and in none of them a skipped neuron returns for sure."""
    convolutions = [shape for shape in shapes if shape.kind == "convolution"]
    return bool(convolutions) and not any(shape.returns_to_rest for shape in convolutions)


def _unknown_layers(
    file: SpaceFile, shapes: Sequence[LayerShape], idle: Sequence[str], other_names: Mapping[str, str]
) -> list[Problem]:
    names = [shape.name for shape in shapes]
    problems: list[Problem] = []
    for name in file.layers:
        if name == "all" or name in names:
            continue
        if name in idle:
            sentence = f"the output of {file.model.network} does not depend on this layer, so that it is not searched; "
            sentence += "remove the key"
        elif name in other_names:
            sentence = f"this layer is known as {other_names[name]}, its first name; write that"
        else:
            words = f"{names[0]} .. {names[-1]}: {', '.join(names)}"
            near = suggestion(name, names) if len(problems) < MOST_SUGGESTIONS else "."
            sentence = f"unknown layer{near} {file.model.network} has {words}, and `all`"
        problems.append(Problem(path_below("layers", name), sentence))
    return problems


def _unfit_parameters(choices: LayerChoices, shape: LayerShape) -> list[Problem]:
    problems = []
    if choices.channel_mass not in (None, (1.0,)) and not shape.can_gate:
        sentence = "this layer has no channel gate (the first and the readout never do)"
        problems.append(Problem(f"layers.{shape.name}.channel_mass", sentence))
    if choices.weight_bits is not None and not shape.has_weights:
        problems.append(Problem(f"layers.{shape.name}.weight_bits", "this layer has no weights; remove the key"))
    if not shape.has_neurons:
        for parameter in ("membrane_levels", "skip_below"):
            if getattr(choices, parameter) is not None:
                address = Address(shape.name, parameter)
                problems.append(Problem(f"layers.{address}", "this layer has no membrane; remove the key"))
    elif choices.skip_below not in (None, (None,)) and not shape.can_skip:
        sentence = "this layer's potentials are never negative, so that no neuron could be skipped; remove the key"
        if shape.kind == "convolution":
            sentence = f"{_NO_RETURN}; remove the key"
        problems.append(Problem(f"layers.{shape.name}.skip_below", sentence))
    return problems


def _layer_space(shape: LayerShape, choices: LayerChoices, for_all: LayerChoices, *, stores: bool) -> LayerSpace:
    """Return a layer's choices; ``stores``: potentials are stored, from one time step to the next."""
    gated, skipped, has_membrane = shape.can_gate, shape.can_skip and stores, shape.has_neurons and stores
    return LayerSpace(
        name=shape.name,
        weight_bits=(shape.has_weights and (choices.weight_bits or for_all.weight_bits)) or (FLOAT_BITS,),
        membrane_levels=(choices.membrane_levels or for_all.membrane_levels or (0,)) if has_membrane else (None,),
        channel_mass=(gated and (choices.channel_mass or for_all.channel_mass)) or (1.0,),
        skip_below=(skipped and (choices.skip_below or for_all.skip_below)) or (None,),
    )
