"""Rules of a space file that concern several fields at once."""

from __future__ import annotations

from collections.abc import Sequence

from spquant_search.space.configuration import FLOAT_BITS, FLOAT_MEMBRANE
from spquant_search.space.fields import QUANTIZER_BITS
from spquant_search.space.schema import DEFAULT_MOMENTUM, LayerChoices, ModelSpace, Search, SpaceFile, Training


def rules_between_fields(file: SpaceFile) -> list[tuple[str, str]]:
    problems = []
    for levels, lowest in file.neuron.lowest_level.items():
        try:
            file.neuron.grid(levels)
        except ValueError as error:
            problems.append((f"neuron.lowest_level.{levels}", f"{error}; got {lowest:g}"))
    if problems:
        return problems
    every = file.layers.get("all", LayerChoices())
    for name, layer in file.layers.items():
        problems += _bits_without_quantizer(name, layer.weight_bits or (), file.model)
        if layer.skip_below is None and layer.membrane_levels is None:
            continue
        parameter = "membrane_levels" if layer.skip_below is None else "skip_below"
        cuts = [cut for cut in layer.skip_below or every.skip_below or () if cut is not None]
        for levels in layer.membrane_levels or every.membrane_levels or ():
            problems += [(f"layers.{name}.{parameter}", words) for words in _cuts_off_the_grid(cuts, levels, file)]
    return problems


def rules_of_the_optimizer(recipe: Training) -> list[tuple[str, str]]:
    remedy = f"of the optimizers only sgd has it, not {recipe.optimizer}; remove the key or set train.optimizer: sgd"
    own = {"momentum": recipe.momentum != DEFAULT_MOMENTUM, "nesterov": recipe.nesterov}
    if recipe.optimizer != "sgd":
        return [(f"train.{key}", f"{remedy}; got {getattr(recipe, key)}") for key, is_set in own.items() if is_set]
    if recipe.nesterov and recipe.momentum == 0:
        return [("train.nesterov", "needs a momentum above 0; set train.momentum or remove the key; got True")]
    return []


def rules_of_the_ladder(search: Search) -> list[tuple[str, str]]:
    if not search.budget_ladder or search.strategy == "supernet":
        return []
    sentence = (
        f"is made of subnets of the supernet, which the strategy {search.strategy} does without; set it to 0, "
        f"or search.strategy: supernet; got {search.budget_ladder}"
    )
    return [("search.budget_ladder", sentence)]


def _bits_without_quantizer(name: str, choices: Sequence[int], model: ModelSpace) -> list[tuple[str, str]]:
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
            problems.append((f"layers.{name}.weight_bits", sentence))
    return problems


def _cuts_off_the_grid(cuts: Sequence[float], levels: int, file: SpaceFile) -> list[str]:
    if levels == FLOAT_MEMBRANE:
        return []
    grid = file.neuron.grid(levels)
    return [
        f"skip_below {cut:g} is no level of the {levels}-level membrane, which has {grid.lowest:g} to {grid.highest:g} "
        f"in steps of {grid.step:g}"
        for cut in cuts
        if cut not in grid.values
    ]
