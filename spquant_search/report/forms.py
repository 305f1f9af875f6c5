"""Configurations of a network in one line, one character a layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from spquant_search.costs.memory import membrane_bits
from spquant_search.report.numbers import MISSING
from spquant_search.space.configuration import FLOAT_BITS, FLOAT_MEMBRANE, NetworkConfig

GROUP = 4
# Levels above 9 in one letter: that of the bits they are stored in.
NO_MEMBRANE = "no membrane: one time step"
LEVEL_LETTERS = {"A": "10..16 levels", "B": "17..32", "C": "33..64", "D": "65..128", "E": "129..256"}


def bits_form(config: NetworkConfig) -> str:
    """Write the weight bits of every layer: ``8444 2222 4``. A layer stands in the same place in every row."""
    return _grouped("F" if layer.weight_bits == FLOAT_BITS else str(layer.weight_bits) for _, layer in config.layers)


def levels_form(config: NetworkConfig, *, none: str = "") -> str:
    """Write the membrane levels of every layer up to the last membrane: ``3333 3A33``. See :func:`legend`.

    ``none`` stands where no layer has any, as with one time step, beside networks that have some.
    """
    letters = (_levels_letter(layer.membrane_levels) for _, layer in config.layers)
    return _grouped(letters).rstrip(f"{MISSING} ") or none


def has_membranes(config: NetworkConfig) -> bool:
    """Return whether any layer stores potentials between time steps: none does where there is a single one."""
    return any(layer.membrane_levels is not None for _, layer in config.layers)


def sparsity_form(config: NetworkConfig) -> str:
    """Count the layers with a channel gate and those that skip neurons: ``g5s3``; empty where none does."""
    gates = sum(layer.channel_mass < 1 for _, layer in config.layers)
    skips = sum(layer.skip_below is not None for _, layer in config.layers)
    return "".join(f"{letter}{count}" for letter, count in (("g", gates), ("s", skips)) if count)


def short_form(config: NetworkConfig, *, with_steps: bool = False) -> str:
    """Write a whole configuration in one line: ``8444 2222 4 / 3333 3A33 g5s3``.

    ``with_steps``: and its time steps, ``... in 2 steps``, for a space in which networks differ in them.
    """
    levels = levels_form(config)
    steps = f"in {config.time_steps} step{'s' if config.time_steps > 1 else ''}" if with_steps else ""
    parts = (bits_form(config), levels and f"/ {levels}", sparsity_form(config), steps)
    return " ".join(part for part in parts if part)


def legend(configs: Iterable[NetworkConfig]) -> str:
    """Explain the letters that these configurations use."""
    configs = tuple(configs)
    if not any(map(has_membranes, configs)):
        used = "; F float" if any("F" in bits_form(config) for config in configs) else ""
        return f"bits: one character a layer{used}; {NO_MEMBRANE}"
    letters = {letter for config in configs for letter in bits_form(config) + levels_form(config)}
    words = {"F": "F float", MISSING: f"{MISSING} no membrane"}
    words |= {letter: f"{letter} {levels}" for letter, levels in LEVEL_LETTERS.items()}
    used = ", ".join(text for letter, text in words.items() if letter in letters)
    return "bits, levels: one character a layer" + (f"; {used}" if used else "")


def uniform_label(config: NetworkConfig) -> str:
    """Name a configuration of uniform precision: ``4 bit / 3 levels, sparse``.

    "mostly" stands before the name where a layer, such as a fixed first one, differs. Sparse: some layer has a gate or
    skips neurons.
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
