"""Configurations that are tried first: presets, and those that a space file names as references."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spquant_search.errors import Problem
from spquant_search.space.address import Address
from spquant_search.space.configuration import FLOAT_BITS, OFF, PARAMETERS, TIME_STEPS, LayerPrecision, NetworkConfig
from spquant_search.space.messages import path_below, shown, suggestion
from spquant_search.space.presets import Preset, preset_values
from spquant_search.space.search_space import SearchSpace
from spquant_search.space.shapes import LayerShape

KEYS = (*PARAMETERS, TIME_STEPS.parameter)  # of a reference


def preset_config(
    preset: Preset,
    *,
    network: str,
    shapes: Sequence[LayerShape],
    time_steps: int,
    weight_bits: int | None = None,
) -> NetworkConfig:
    """Return the configuration of a preset on a network with these shapes, whatever a space file's choices are.

    ``weight_bits`` replaces those that the preset has for ``network``; otherwise a network that SpQuant-SNN does not
    have takes the bits of vgg9.
    """
    return _uniform(preset_values(preset, network, weight_bits=weight_bits), shapes, time_steps=time_steps)


def _uniform(values: Mapping[str, Any], shapes: Sequence[LayerShape], *, time_steps: int) -> NetworkConfig:
    """Return the configuration of one value a parameter; a layer without a parameter has the value for "none"."""
    return NetworkConfig(
        time_steps=time_steps,
        layers=tuple(
            (
                shape.name,
                LayerPrecision(
                    weight_bits=values["weight_bits"] if shape.has_weights else FLOAT_BITS,
                    membrane_levels=values["membrane_levels"] if shape.has_neurons else None,
                    channel_mass=values.get("channel_mass", 1.0) if shape.can_gate else 1.0,
                    skip_below=values.get("skip_below") if shape.can_skip else None,
                ).at(time_steps),
            )
            for shape in shapes
        ),
    )


def reference_configurations(
    space: SearchSpace, shapes: Sequence[LayerShape]
) -> tuple[tuple[NetworkConfig, ...], list[Problem]]:
    """Return the reference configurations, each of which the space must contain, and what is wrong with them.

    References that are one configuration, as those that differ in levels are with one time step, count once.
    """
    configs, problems = [], []
    for index, reference in enumerate(space.file.search.references):
        path = f"search.references.{index}"
        for key in reference:
            if key not in (*KEYS, "preset"):
                near = suggestion(key, (*KEYS, "preset"))
                problems.append(Problem(path_below(path, key), f"unknown key{near} Known here: {', '.join(KEYS)}"))
        if "preset" in reference:
            values, mismatches = _preset_reference(space, shapes, reference)
        else:
            values, mismatches = _reference_values(space, reference)
        problems += [Problem(f"{path}.{parameter}", sentence) for parameter, sentence in mismatches.items()]
        configs.append(space.config(values))
    return tuple(dict.fromkeys(configs)), problems


def _preset_reference(
    space: SearchSpace, shapes: Sequence[LayerShape], reference: Mapping[str, Any]
) -> tuple[dict[Address, Any], dict[str, str]]:
    """Return a preset's value at every address, and its mismatches; a layer fixed to another value is one, too."""
    name = reference["preset"]
    known = [str(preset) for preset in Preset]
    if name not in known:
        return {}, {"preset": f"unknown preset {shown(name)}{suggestion(str(name), known)} Known: {', '.join(known)}"}
    # Keys beside the preset replace its values: a custom network may need other bits than vgg9's.
    replaced = {key: None if value == "none" else value for key, value in reference.items() if key in PARAMETERS}
    values, mismatches = _time_steps(space, reference)
    wanted = _uniform(
        preset_values(Preset(name), space.file.model.network) | replaced, shapes, time_steps=space.file.most_time_steps
    ).flat()
    for address, options in space.layer_choices().items():
        value, parameter = wanted[address], address.parameter
        key = parameter if parameter in replaced else "preset"
        if value in options and not isinstance(value, bool):
            values[address] = options[options.index(value)]
        elif key not in mismatches:
            words = "none" if value is None else shown(value)
            mismatches[key] = (
                f"{name} has {parameter} {words}, which is no choice of {address}: {_listed_choices(options)}; "
                f"add it to layers.{address} or layers.all.{parameter}, or remove this reference"
            )
    return values, mismatches


def _listed_choices(options: Iterable[float | None]) -> str:
    return ", ".join("none" if option is None else f"{option:g}" for option in options)


def _reference_values(space: SearchSpace, reference: Mapping[str, Any]) -> tuple[dict[Address, Any], dict[str, str]]:
    """Return a reference's value at every address, and its mismatches; gates and masks not named are off."""
    values, mismatches = _time_steps(space, reference)
    for address, options in space.layer_choices().items():
        if len(options) == 1:
            continue
        parameter = address.parameter
        value = reference.get(parameter, OFF.get(parameter))
        value = None if value == "none" else value
        if value in options and not isinstance(value, bool):
            values[address] = options[options.index(value)]
        elif parameter not in mismatches:
            mismatches[parameter] = (
                f"must be a choice of {address}: {_listed_choices(options)}; "
                f"got {'nothing' if value is None else shown(value)}"
            )
    return values, mismatches


def _time_steps(space: SearchSpace, reference: Mapping[str, Any]) -> tuple[dict[Address, Any], dict[str, str]]:
    """Return a reference's time steps, the most where it names none, and what is wrong with them."""
    options, key = space.file.time_steps, TIME_STEPS.parameter
    value = reference.get(key, space.file.most_time_steps)
    if value in options and not isinstance(value, bool):
        return {TIME_STEPS: int(value)}, {}
    sentence = f"must be a choice of {key}: {_listed_choices(options)}; got {shown(value)}"
    return {}, {key: sentence}
