"""Write the tables and the description of a layer for the fast path of the C engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spquant_search.costs.device import largest_code
from spquant_search.costs.fast_path import FastLayer, FastNeeds
from spquant_search.deploy.fast_layers import Paths, fraction_of
from spquant_search.deploy.fast_tables import gate_words, weight_words
from spquant_search.deploy.weights_file import Integers, code_offset

_WORDS_A_LINE = 10
_NUMBERS_A_LINE = 24
_C_KINDS = {
    "counts-4": "SPQ_COUNTS_4",
    "counts-8": "SPQ_COUNTS_8",
    "slices": "SPQ_SLICES",
    "lanes": "SPQ_LANES",
    "pairs": "SPQ_PAIRS",
}
_C_NEURONS = {"once": "SPQ_ONCE", "two-bits": "SPQ_TWO_BITS", "words": "SPQ_WORDS_OF_CODES", "any": "SPQ_ANY"}
_NONE_BELOW = -32768
_MASKS = {"lanes": "0x0f0f0f0fu", "counts-4": "0x000f000fu", "counts-8": "0x00ff00ffu"}


class FastWriter:
    """The declarations of a network's fast layers."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self.copies = sorted({layer.fires for layer in paths.fast.values()})
        self.declarations: list[str] = []
        self.weight_bytes = self.overhead_bytes = 0

    def write(
        self, step: dict[str, Any], arrays: dict[str, Integers], *, number: int, read: int, written: int
    ) -> list[str]:
        """Return the declarations of one layer; ``read`` and ``written`` are the places of its maps."""
        layer = self._paths.fast[step["name"]]
        name, neuron = step["identifier"], step["neuron"]
        words = weight_words(arrays["weights"].astype(np.int64), layer)
        lines = _table("uint32_t", f"{name}_weights", [f"0x{int(word):x}u" for word in words], _WORDS_A_LINE)
        lines += _numbers("int16_t", f"{name}_slope", arrays["slope"])
        lines += _numbers("int32_t", f"{name}_offset", arrays["offset"])
        self.weight_bytes += 4 * layer.weight_words
        self.overhead_bytes += layer.table_bytes - 4 * layer.weight_words
        gate = at_rest = membrane = rule = "0"
        if layer.gated:
            gate, at_rest = f"{name}_gate", f"{name}_at_rest"
            gates = gate_words(arrays["gate"].astype(np.int64))
            lines += _table("uint32_t", gate, [f"0x{int(word):x}u" for word in gates], _WORDS_A_LINE)
            lines += _numbers("uint8_t", at_rest, arrays["gate_at_rest"])
        if layer.membrane_words:
            membrane = f"{name}_membrane"
            lines.append(f"static uint32_t {membrane}[{layer.membrane_words}];")
        if layer.neurons == "any":
            rule = f"&{name}_rule"
            lines.append(f"static const spq_rule {name}_rule = {_rule(step)};")
        reads = "0" if layer.form.reads == "counts" else f"maps + {read}"
        channels, height, width = layer.form.in_shape
        fields: list[Any] = [f"{name}_weights", f"{name}_slope", f"{name}_offset", gate, at_rest, reads]
        fields += [f"maps + {written}", membrane, rule, channels, height, width, step["out_channels"]]
        fields += [*step["positions"], layer.rows, layer.form.group, number, _counted_from(layer, neuron)]
        fields += [f"{self._times(step, layer)}u", f"{self._less(step, layer)}u", _MASKS.get(layer.kind, 0)]
        fields += [
            "0x55555555u" if neuron["levels"] == 3 else 0,
            f"0x{_reaches(layer, neuron):x}u",
            _C_KINDS[layer.kind],
            _C_NEURONS[layer.neurons],
        ]
        limit = 255 // max(largest_code(layer.weight_bits), 2)
        fields += [self.copies.index(layer.fires), layer.weight_bits, code_offset(layer.weight_bits), limit]
        fields += [int(layer.form.pools), int(layer.wide), layer.membrane_bits]
        lines.append(f"static const spq_fast {name} = {{{', '.join(map(str, fields))}}};")
        return lines

    def _up(self, step: dict[str, Any], layer: FastLayer) -> int:
        """Return the shift from the layer's fixed point to that of its neurons."""
        special = layer.neurons in ("two-bits", "words")
        return int(step["fraction"] - step["shift"] + (self._paths.fraction - fraction_of(step) if special else 0))

    def _times(self, step: dict[str, Any], layer: FastLayer) -> int:
        gain = step["neuron"]["gain"]
        return int((1 if gain is None else gain) << self._up(step, layer))

    def _less(self, step: dict[str, Any], layer: FastLayer) -> int:
        """Return what is subtracted from a current: what its sign is compared with, or what is added to its code."""
        if layer.neurons == "once":
            return int((1 << fraction_of(step)) + 1 - step["neuron"]["spikes_at_threshold"])
        if layer.neurons == "any":
            return 0
        half = 1 << (layer.membrane_bits - 1)
        step_bits = step["neuron"]["step_bits"]
        return int((half << (self._paths.fraction - step_bits - 1)) + 1)

    def cases(self) -> str:
        """Return the cases of ``fire_group``, one for each copy of the neurons' code."""
        lines = []
        for number, (neurons, bits, wide) in enumerate(self.copies):
            call = {
                "once": f"fire_once(count, {int(wide)})",
                "two-bits": f"fire_two_bits(l, first, count, {int(wide)})",
                "words": f"fire_words(l, first, count, {bits}, {int(wide)})",
                "any": "fire_any(l, first, count)",
            }[neurons]
            lines += [f"    case {number}:", f"        {call};", "        break;"]
        return "\n".join(lines).lstrip()


def fast_sizes(needs: FastNeeds, fraction: int) -> list[str]:
    """Return the sizes of the fast path's arrays, and its fixed point, as macros."""
    names = ("group", "sums", "open_words", "seen", "listed", "pooled", "blocks", "compact", "gated")
    sizes = {f"MOST_{name.upper()}": getattr(needs, name) for name in names} | {"FRACTION": fraction}
    return [f"#define SPQ_{name} {size}u" for name, size in sizes.items() if size]


def membranes_at_rest(step: dict[str, Any], layer: FastLayer) -> list[str]:
    """Return the statement that brings a fast layer's membranes to rest."""
    if not layer.membrane_words:
        return []
    name, bits = step["identifier"], layer.membrane_bits
    return [f"    rest_words({name}_membrane, {layer.membrane_words}, {bits}, {_at_rest(layer, step['neuron'])});"]


def _at_rest(layer: FastLayer, neuron: dict[str, Any]) -> int:
    """Return the stored code of a potential of 0."""
    return int(-neuron["lowest"]) if layer.neurons == "any" else 1 << (layer.membrane_bits - 1)


def _counted_from(layer: FastLayer, neuron: dict[str, Any]) -> int:
    cut = neuron["skip_below"]
    return 0 if cut is None else int(_at_rest(layer, neuron) + cut)


def _reaches(layer: FastLayer, neuron: dict[str, Any]) -> int:
    """Return what is added to the lower bits of codes: a carry into the highest one tells what is not below the cut."""
    if layer.neurons not in ("two-bits", "words"):
        return 0
    bits = layer.membrane_bits
    short = (1 << (bits - 1)) - max(0, _counted_from(layer, neuron))
    return sum(short << place for place in range(0, 32, bits))


def _rule(step: dict[str, Any]) -> str:
    neuron, up = step["neuron"], fraction_of(step)
    cut = _NONE_BELOW if neuron["skip_below"] is None else neuron["skip_below"]
    down = up - neuron["step_bits"]
    fields = [neuron["lowest"], neuron["lowest"] + neuron["levels"] - 1, cut, neuron["leak"]]
    fields += [neuron["subtracts"] or 0, down - neuron["leak_bits"], down, up - neuron["subtracts_bits"], up]
    return f"{{{', '.join(map(str, [*fields, int(neuron['spikes_at_threshold'])]))}}}"


def _numbers(kind: str, name: str, values: Integers) -> list[str]:
    return _table(kind, name, [str(int(value)) for value in values.ravel()], _NUMBERS_A_LINE)


def _table(kind: str, name: str, numbers: Sequence[str], a_line: int) -> list[str]:
    lines = [", ".join(numbers[begin : begin + a_line]) for begin in range(0, len(numbers), a_line)]
    return [
        f"static const {kind} {name}[{len(numbers)}] = {{",
        *(f"    {line}," for line in lines[:-1]),
        f"    {lines[-1]}",
        "};",
    ]
