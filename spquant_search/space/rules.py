"""Rules of a space file that concern several fields at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spquant_search.errors import Problem
from spquant_search.space.address import Address
from spquant_search.space.configuration import FLOAT_BITS, FLOAT_MEMBRANE, PARAMETERS
from spquant_search.space.fields import QUANTIZER_BITS
from spquant_search.space.schema import (
    DEFAULT_MOMENTUM,
    DataSpace,
    LayerChoices,
    ModelSpace,
    Search,
    SpaceFile,
    Training,
)
from spquant_search.space.yaml_text import MOST_VALUES

MOST_PROBLEMS = 100  # of one kind: each takes time to tell


def rules_between_fields(file: SpaceFile) -> list[Problem]:
    """Return what does not fit together: windows and time steps, the neuron's grids, quantizers and layers' choices."""
    problems = [problem.below("data") for problem in rules_of_windows(file.data, file.most_time_steps)]
    for levels, lowest in file.neuron.lowest_level.items():
        try:
            file.neuron.grid(levels)
        except ValueError as error:
            problems.append(Problem(f"neuron.lowest_level.{levels}", f"{error}; got {lowest:g}"))
    if problems:
        return problems
    for_all = file.layers.get("all", LayerChoices())
    for name, layer in file.layers.items():
        problems += _bits_without_quantizer(name, layer.weight_bits or (), file.model)
        if layer.skip_below is None and layer.membrane_levels is None:
            continue
        key = f"layers.{Address(name, 'membrane_levels' if layer.skip_below is None else 'skip_below')}"
        cuts = [cut for cut in layer.skip_below or for_all.skip_below or () if cut is not None]
        for levels in layer.membrane_levels or for_all.membrane_levels or ():
            problems += [Problem(key, sentence) for sentence in _cuts_off_the_grid(cuts, levels, file)]
        if len(problems) > MOST_PROBLEMS:
            break
    return problems


def rules_of_windows(data: DataSpace, time_steps: int) -> list[Problem]:
    """Return why a recording's windows cannot be shared out to time steps; keys are those of the section data."""
    if data.first_windows is None or data.first_windows % time_steps == 0:
        return []
    near = max(1, round(data.first_windows / time_steps)) * time_steps
    sentence = (
        f"must be a multiple of time_steps ({time_steps}), as each step is the sum of equally many windows; "
        f"got {data.first_windows}; set it to {near}, or change time_steps"
    )
    return [Problem("first_windows", sentence)]


def rules_of_size(layers: Mapping[str, LayerChoices]) -> list[Problem]:
    """Return why layers have more choices than can be written down: a run keeps its space with every one of them."""
    written = 2 + 2 * len(PARAMETERS)  # keys and what they lead to
    values = sum(
        written + sum(len(getattr(choices, parameter) or ()) for parameter in PARAMETERS) for choices in layers.values()
    )
    if values <= MOST_VALUES // 2:
        return []
    sentence = f"name {values:,} choices, where {MOST_VALUES // 2:,} are possible; let `all` hold what layers share"
    return [Problem("layers", sentence)]


def rules_of_the_optimizer(recipe: Training) -> list[Problem]:
    """Return the keys that the optimizer does not have, or cannot take in this combination."""
    rule = f"of the optimizers only sgd has it, not {recipe.optimizer}; remove the key or set train.optimizer: sgd"
    of_sgd = {"momentum": recipe.momentum != DEFAULT_MOMENTUM, "nesterov": recipe.nesterov}
    if recipe.optimizer != "sgd":
        keys = [key for key, is_set in of_sgd.items() if is_set]
        return [Problem(f"train.{key}", f"{rule}; got {getattr(recipe, key)}") for key in keys]
    if recipe.nesterov and recipe.momentum == 0:
        sentence = "needs a momentum above 0; set train.momentum or remove the key; got True"
        return [Problem("train.nesterov", sentence)]
    return []


def rules_of_given_weights(model: ModelSpace, recipe: Training) -> list[Problem]:
    """Return why there is no float baseline: it is not trained, and no weights are given."""
    if recipe.baseline_epochs or model.weights is not None or model.import_ is not None:
        return []
    sentence = "takes the given weights as they are, and there are none; set model.weights, or 1 or more; got 0"
    return [Problem("train.baseline_epochs", sentence)]


def rules_of_own_networks(model: ModelSpace) -> list[Problem]:
    """Return which keys say a second time what the network or its weights are."""
    if model.import_ is not None:
        brings = f"model.import brings the network and its weights from {model.import_}"
        given = {"build": model.build, "layers": model.layers, "weights": model.weights}
    elif model.layers is not None:
        brings, given = f"model.layers says that the network is {model.layers}", {"build": model.build}
    else:
        return []
    sentence = f"is one too many, as {brings}; remove one of the two"
    return [Problem(f"model.{key}", f"{sentence}; got {value}") for key, value in given.items() if value is not None]


def rules_of_the_ladder(search: Search) -> list[Problem]:
    """Return why a budget ladder cannot be climbed with the search's strategy."""
    if not search.budget_ladder or search.strategy == "supernet":
        return []
    sentence = (
        f"is made of subnets of the supernet, which the strategy {search.strategy} does without; set it to 0, "
        f"or search.strategy: supernet; got {search.budget_ladder}"
    )
    return [Problem("search.budget_ladder", sentence)]


def _bits_without_quantizer(name: str, choices: Sequence[int], model: ModelSpace) -> list[Problem]:
    problems = []
    for bits in choices:
        quantizer = model.quantizer.get(bits, "statistics")
        known = QUANTIZER_BITS[quantizer]
        if bits != FLOAT_BITS and bits not in known:
            fit = [other for other, its_bits in QUANTIZER_BITS.items() if bits in its_bits]
            sentence = (
                f"the quantizer {quantizer} has {', '.join(map(str, known))} bits; got {bits}; take it out, or give "
                f"it a quantizer of its own in model.quantizer, as {{{bits}: {fit[0]}}}; it has {', '.join(fit)}"
            )
            problems.append(Problem(f"layers.{name}.weight_bits", sentence))
    return problems


def _cuts_off_the_grid(cuts: Sequence[float], levels: int, file: SpaceFile) -> list[str]:
    if levels == FLOAT_MEMBRANE:
        return []
    grid = file.neuron.grid(levels)
    return [
        f"skip_below {cut:g} is no level of the {levels}-level membrane, which has {grid.lowest:g} to {grid.highest:g} "
        f"in steps of {grid.step:g}"
        for cut in cuts
        if cut not in grid
    ]
