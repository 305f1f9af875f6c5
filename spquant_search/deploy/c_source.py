"""Writes a network in integers as a C99 library: `model.h` and `model.c`.

The arithmetic is in ``engine.c`` beside this file; here come the tables of one network, how large its sums and
potentials are, and which memory its maps of spikes take. Maps that are not needed at the same time share memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from spquant_search.costs.device import (
    KeptMap,
    largest_code,
    place_maps,
    scratch_bytes,
    spike_map_bytes,
    sum_bits,
)
from spquant_search.deploy.reference import GAIN_BITS, Model

NONE_BELOW = -32768  # a cut below all codes
_LINE = 24  # numbers a line


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of the network's own numbers in C; code and stack come on top."""

    weights: int  # packed, read only
    overhead: int  # slopes, offsets, gates, read only
    membrane: int
    maps: int  # spikes between layers
    scratch: int  # what layers work in, one at a time
    potential_bits: int  # of the integer type that potentials take
    sum_bits: int


@dataclass(frozen=True, slots=True)
class CSource:
    header: str
    source: str
    sizes: Sizes


class TooLarge(Exception):
    """A size of the network does not fit the C engine's types; the message names it."""


def c_source(model: Model, weights: bytes) -> CSource:
    """The library of a network; the same network always gives the same text.

    Raises:
        TooLarge: a layer has more than 65,535 channels, rows or columns, or sums leave 32 bits.
    """
    return _Writer(model, weights).written()


class _Writer:
    def __init__(self, model: Model, weights: bytes) -> None:
        self.network = model.manifest["network"]
        self.steps: list[dict[str, Any]] = self.network["steps"]
        self.by_name = {step["name"]: step for step in self.steps}
        self.arrays = model.arrays
        self.raw = {
            (segment["layer"], segment["role"]): weights[segment["offset"] : segment["offset"] + segment["bytes"]]
            for segment in model.manifest["segments"]
        }
        self.firing = [step for step in self.steps if "neuron" in step]
        self.tables: list[str] = []
        self.calls: list[str] = []
        self.read_only = {"weights": 0, "overhead": 0}
        self.places, self.arena = place_maps([_kept(step) for step in self.steps])

    def written(self) -> CSource:
        input_step = self.steps[0]
        channels, height, width = input_step["shape"]
        readout = self.steps[-1]
        potential_bits = 32 if max(step["potential_bits"] for step in self.firing) <= 32 else 64
        bits_of_sums = sum_bits(max(map(self._largest_sum, self._with_rows())))
        most_inputs = max(self._shape(name)[0] for step in self.steps for name in step["inputs"])
        most_channels = max(step["out_channels"] for step in self.steps if "out_channels" in step)
        most_heads = max([step["heads"] for step in self.steps if "heads" in step], default=0)
        for step in self.steps:
            if step["kind"] == "sum" and step["largest"] > 255:
                raise TooLarge(f"{step['name']}: sums of up to {step['largest']} are more than the C engine's 255")
            if step["kind"] == "average" and step["largest"] > 65535:
                raise TooLarge(f"{step['name']}: sums of up to {step['largest']} are more than the C engine's 65,535")
            if step.get("accumulator_bits", 0) > 32:
                raise TooLarge(f"{step['name']}: sums of {step['accumulator_bits']} bits leave the C engine's 32")
            for size in (*step.get("in_shape", ()), *step.get("positions", ()), step.get("out_channels", 0)):
                if size > 65535:
                    raise TooLarge(f"{step['name']}: a side of {size} is more than the C engine's 65,535")
        for step in self.steps:
            self._step(step)
        membrane = sum(_membrane_bytes(step) for step in self.firing)
        arena = [f"static uint8_t maps[{max(self.arena, 1)}];"]
        words = [
            f"static uint32_t {_c(step['name'])}_words[{step['shape'][0]}];"
            for step in self.steps
            if step["kind"] == "average"
        ]
        types = [
            f"typedef int{potential_bits}_t spq_potential;",
            f"typedef uint{bits_of_sums}_t spq_sum;",
            "enum {",
            f"    SPQ_MOST_INPUTS = {most_inputs},",
            f"    SPQ_MOST_CHANNELS = {most_channels},",
            f"    SPQ_MOST_HEADS = {most_heads}",
            "};",
            "",
            "static const uint8_t *input;",
            f"static int32_t logits[{readout['classes']}];",
            *arena,
            *words,
        ]
        template = resources.files("spquant_search.deploy").joinpath("engine.c").read_text(encoding="utf-8")
        present = {step["kind"] for step in self.steps}
        for kind in ("attention", "sum", "average"):
            template = _without(template, kind.upper(), keep=kind in present)
        uneven = any(8 % _bits(step["neuron"]["levels"]) for step in self.firing)
        template = _without(template, "REST", keep=uneven)
        gated = any(step.get("gated") for step in self.steps)
        template = _without(_without(template, "GATES", keep=gated), "GATES", keep=gated)  # their code, and its call
        notice = "/* Written by spquant-search pick; manifest.json says from which run. MIT licence. */"
        source = (
            template.replace("/*@NOTICE@*/", notice)
            .replace("/*@TABLES@*/", "\n".join([*types, "", *self.tables]))
            .replace("/*@STEPS@*/", self._network())
        )
        header = _header(
            time_steps=self.network["time_steps"], shape=(channels, height, width), classes=readout["classes"]
        )
        maps = self.arena + sum(4 * step["shape"][0] for step in self.steps if step["kind"] == "average")
        scratch = scratch_bytes(
            inputs=most_inputs,
            channels=most_channels,
            classes=readout["classes"],
            heads=most_heads,
            sum_bits=bits_of_sums,
            potential_bits=potential_bits,
            gated=gated,
        )
        sizes = Sizes(
            weights=self.read_only["weights"],
            overhead=self.read_only["overhead"],
            membrane=membrane,
            maps=maps,
            scratch=scratch,
            potential_bits=potential_bits,
            sum_bits=bits_of_sums,
        )
        return CSource(header, source, sizes)

    def _with_rows(self) -> Iterable[dict[str, Any]]:
        return (step for step in self.steps if step["kind"] in ("convolution", "shortcut"))

    @staticmethod
    def _largest_sum(step: dict[str, Any]) -> int:
        """Of codes, which are not negative."""
        inputs = step["in_shape"][0] // step["groups"]
        products = inputs * step["kernel"] ** 2 * (4 if step["pool"] == "before" else 1)
        return int(products * largest_code(step["weight_bits"]) * step["largest"])

    def _shape(self, name: str) -> tuple[int, int, int]:
        """Of what a step passes on, as it is read."""
        step = self.by_name[name]
        if step["kind"] == "identity":
            return self._shape(step["inputs"][0])
        if "neuron" not in step:
            shape = step["shape"] if "shape" in step else (step["out_channels"], *step["positions"])
            return tuple(shape)
        height, width = step["positions"]
        halves = step.get("pool") in ("after", "max")
        return (step["out_channels"], height // 2, width // 2) if halves else (step["out_channels"], height, width)

    # ------------------------------------------------------------ tables

    def _constant(self, name: str, role: str, kind: str) -> str:
        """A table of the numbers that a layer keeps in one role; its name in C."""
        identifier = f"{_c(name)}_{role}"
        if kind == "uint8_t":
            numbers = list(self.raw[name, role])
        else:
            numbers = [int(value) for value in self.arrays[name][role].ravel()]
        rows = ["    " + ", ".join(map(str, numbers[begin : begin + _LINE])) for begin in range(0, len(numbers), _LINE)]
        self.tables += [f"static const {kind} {identifier}[{len(numbers)}] = {{", ",\n".join(rows), "};"]
        size = len(self.raw[name, role])
        self.read_only["weights" if role == "weights" else "overhead"] += size
        return identifier

    def _map(self, source: str) -> str:
        """The initializer of how a step's output is read."""
        step = self.by_name[source]
        channels, height, width = self._shape(source)
        stored_width, largest = width, 255
        data, words = "maps", "0"
        if step["kind"] == "input":
            data, kind, largest = "0", "SPQ_INPUT", step["largest"]
        elif step["kind"] == "average":
            data, words, kind = "0", f"{_c(source)}_words", "SPQ_WORDS"
        elif step["kind"] == "sum":
            data, kind = f"maps + {self.places[source]}", "SPQ_BYTES"
        else:
            stored_width = step["positions"][1]
            kind = {"after": "SPQ_BITS_SUM", "max": "SPQ_BITS_MAX"}.get(step.get("pool"), "SPQ_BITS")
            data = f"maps + {self.places[source]}"
        return f"{{{data}, {words}, {height}, {width}, {channels}, {stored_width}, {kind}, {largest}}}"

    def _sums(self, step: dict[str, Any], up: int) -> str:
        name = step["name"]
        weights = self._constant(name, "weights", "uint8_t")
        slope = self._constant(name, "slope", "int16_t")
        offset = self._constant(name, "offset", "int32_t")
        sizes = (step["out_channels"], step["groups"], step["kernel"], step["stride"])
        rest = (*sizes, int(step["pool"] == "before"), step["weight_bits"], up)
        return f"{{{self._map(step['inputs'][0])}, {weights}, {slope}, {offset}, {', '.join(map(str, rest))}}}"

    def _neurons(self, step: dict[str, Any]) -> str:
        name, neuron = step["name"], step["neuron"]
        self.tables.append(f"static uint8_t {_c(name)}_membrane[{_membrane_bytes(step)}];")
        gain = neuron["gain"]
        whole = step["fraction"] + (GAIN_BITS if gain is not None else 0)
        round_down = whole - neuron["step_bits"]
        cut = NONE_BELOW if neuron["skip_below"] is None else neuron["skip_below"]
        values = (
            neuron["lowest"],
            neuron["lowest"] + neuron["levels"] - 1,
            cut,
            _bits(neuron["levels"]),
            1 if gain is None else gain,
            whole,
            round_down - neuron["leak_bits"],
            round_down,
        )
        return f"{{{_c(name)}_membrane, maps + {self.places[name]}, {', '.join(map(str, values))}}}"

    def _number(self, step: dict[str, Any]) -> int:
        return [one["name"] for one in self.firing].index(step["name"])

    def _step(self, step: dict[str, Any]) -> None:
        kind, name = step["kind"], step["name"]
        if kind == "convolution":
            self._convolution(step)
        elif kind == "attention":
            q, k, v = (self._map(source) for source in step["inputs"])
            neurons = self._neurons(step)
            up = step["fraction"] - step["shift"]
            self.tables.append(
                f"static const spq_attention {_c(name)} = {{{q}, {k}, {v}, {neurons}, {step['heads']}, {up}, "
                f"{self._number(step)}}};"
            )
            self.calls.append(f"attention(&{_c(name)});")
        elif kind == "sum":
            for index, source in enumerate(step["inputs"]):
                self.tables.append(f"static const spq_map {_c(name)}_{index} = {self._map(source)};")
            self.calls.append(f"sum_maps(&{_c(name)}_0, &{_c(name)}_1, maps + {self.places[name]});")
        elif kind == "average":
            self.tables.append(f"static const spq_map {_c(name)}_in = {self._map(step['inputs'][0])};")
            self.calls.append(f"average(&{_c(name)}_in, {_c(name)}_words);")
        elif kind == "readout":
            weights = self._constant(name, "weights", "uint8_t")
            offset = self._constant(name, "offset", "int32_t")
            self.tables.append(
                f"static const spq_readout {_c(name)} = {{{self._map(step['inputs'][0])}, {weights}, {offset}, "
                f"{step['classes']}, {step['weight_bits']}}};"
            )
            self.calls.append(f"readout(&{_c(name)});")

    def _convolution(self, step: dict[str, Any]) -> None:
        name = step["name"]
        sums = self._sums(step, step["fraction"] - step["shift"])
        gate, at_rest, shortcut, identity, up = "0", "0", "0", "0", 0
        if step["gated"]:
            gate, at_rest = self._constant(name, "gate", "int8_t"), self._constant(name, "gate_at_rest", "uint8_t")
            channels, height, width = step["in_shape"]
            if channels * height * width * step["largest"] * 127 >= 2**31:
                raise TooLarge(f"{name}: the sums of its gate leave 32 bits")
        if len(step["inputs"]) > 1:
            source = self.by_name[step["inputs"][1]]
            up = step["fraction"] - step["residual_shift"]
            if source["kind"] == "shortcut":
                shortcut = f"&{_c(name)}_residual"
                self.tables.append(f"static const spq_sums {_c(name)}_residual = {self._sums(source, up)};")
            else:
                signal = source["inputs"][0] if source["kind"] == "identity" else source["name"]
                identity = f"&{_c(name)}_residual"
                self.tables.append(f"static const spq_map {_c(name)}_residual = {self._map(signal)};")
        height, width = step["positions"]
        neurons = self._neurons(step)
        self.tables.append(
            f"static const spq_layer {_c(name)} = {{{sums}, {neurons}, {height}, {width}, {gate}, "
            f"{at_rest}, {shortcut}, {identity}, {up}, {self._number(step)}}};"
        )
        self.calls.append(f"convolution(&{_c(name)});")

    # ------------------------------------------------------------ functions

    def _network(self) -> str:
        lines = ["void spq_reset(void)", "{"]
        for step in self.firing:
            lines.append(f"    memset({_c(step['name'])}_membrane, {_rest_byte(step)}, {_membrane_bytes(step)});")
            lines += self._rest(step)
        readout = _c(self.steps[-1]["name"])
        lines += [f"    memcpy(logits, {readout}_offset, sizeof logits);", "}", ""]
        lines += ["void spq_step(const uint8_t *counts)", "{", "    input = counts;"]
        lines += [f"    {call}" for call in self.calls]
        return "\n".join([*lines, "}"])

    def _rest(self, step: dict[str, Any]) -> list[str]:
        """Codes whose bits do not repeat every byte are written one by one."""
        if 8 % _bits(step["neuron"]["levels"]) == 0:
            return []
        count = step["out_channels"] * step["positions"][0] * step["positions"][1]
        bits, code = _bits(step["neuron"]["levels"]), -step["neuron"]["lowest"]
        return [f"    rest({_c(step['name'])}_membrane, {count}, {bits}, {code});"]


def _c(name: str) -> str:
    """A step's name as an identifier; names of a user's own network may have dots."""
    return name.replace(".", "_")


def _bits(levels: int) -> int:
    return (levels - 1).bit_length()


def _membrane_bytes(step: dict[str, Any]) -> int:
    height, width = step["positions"]
    return int(-(-step["out_channels"] * height * width * _bits(step["neuron"]["levels"]) // 8))


def _rest_byte(step: dict[str, Any]) -> int:
    """A byte of codes of resting neurons, where codes fill bytes."""
    bits = _bits(step["neuron"]["levels"])
    if 8 % bits:
        return 0
    return int(sum(-step["neuron"]["lowest"] << (slot * bits) for slot in range(8 // bits)))


def _map_bytes(step: dict[str, Any]) -> int:
    """Of what is kept of a step's output until others have read it."""
    if "neuron" in step:
        height, width = step["positions"]
        return spike_map_bytes(step["out_channels"] * height * width, step["out_channels"])
    if step["kind"] == "sum":
        channels, height, width = step["shape"]
        return int(channels * height * width)
    return 0


def _kept(step: dict[str, Any]) -> KeptMap:
    is_current = step["kind"] in ("identity", "shortcut")
    return KeptMap(step["name"], tuple(step["inputs"]), _map_bytes(step), is_current=is_current)


def _without(template: str, part: str, *, keep: bool) -> str:
    """The template with one optional part's marks removed, or the part itself."""
    before, begin, rest = template.partition(f"/*@{part}@*/\n")
    inner, end, after = rest.partition("/*@END@*/\n")
    if not begin or not end:
        raise AssertionError(f"engine.c has no part {part}")
    return before.rstrip(" ") + (inner.removesuffix("    ") if keep else "") + after


def _header(*, time_steps: int, shape: tuple[int, int, int], classes: int) -> str:
    channels, height, width = shape
    return f"""/* Written by spquant-search pick. For each sample: spq_reset, spq_step with every frame, spq_class. */
#ifndef SPQ_MODEL_H
#define SPQ_MODEL_H

#include <stdint.h>

#define SPQ_TIME_STEPS {time_steps}
#define SPQ_HEIGHT {height}
#define SPQ_WIDTH {width}
#define SPQ_CHANNELS {channels}
#define SPQ_CLASSES {classes}

/* Empties all membranes and the logits. */
void spq_reset(void);

/* One time step: the counts of a frame, [row][column][channel], SPQ_HEIGHT * SPQ_WIDTH * SPQ_CHANNELS of them. */
void spq_step(const uint8_t *counts);

/* After the last time step: a number for each class, and the class with the largest (the first of several). */
const int32_t *spq_logits(void);
int spq_class(void);

/* With SPQ_COUNT defined: the synaptic operations of computed neurons since the program's start. */
extern uint64_t spq_synaptic_ops;

/* With SPQ_TRACE defined: called with the spikes of each layer, [row][column], channels in whole bytes. */
extern void (*spq_trace)(int layer, const uint8_t *spikes, int bytes);

#endif
"""
