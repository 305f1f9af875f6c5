"""Write the tables of one network for the engine in C, and the calls that run its steps.

Every step of the network becomes static tables (weights, slopes, offsets, gates), a structure of the engine that
points to them, and one call. A map of spikes has its place in one array that all maps share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from spquant_search.costs.device import KeptMap, place_maps, spike_map_bytes
from spquant_search.costs.memory import membrane_bits
from spquant_search.deploy.fast_layers import Paths
from spquant_search.deploy.fast_writer import FastWriter
from spquant_search.deploy.names import in_comment
from spquant_search.deploy.reference import GAIN_BITS, Model, output_size

NONE_BELOW = -32768  # a cut below all codes
_NUMBERS_A_LINE = 24


class TooLarge(Exception):
    """A size of the network does not fit the C engine's types; the message names it."""


class TableWriter:
    """The tables and calls of a network; they are written when the writer is made.

    ``declarations`` are lines of C in their order, ``calls`` the statements of one time step.

    Raises:
        TooLarge: the sums of a gate leave 32 bits.
    """

    def __init__(self, model: Model, weights: bytes, paths: Paths) -> None:
        self._steps = model.steps
        self._paths, self.fast = paths, FastWriter(paths)
        self._by_name = {step["name"]: step for step in self._steps}
        self._arrays = model.arrays
        self._packed = {
            (segment["layer"], segment["role"]): weights[segment["offset"] : segment["offset"] + segment["bytes"]]
            for segment in model.manifest["segments"]
        }
        plain = [step for step in self._steps if step["name"] not in paths.fast]
        self._pools = pools_of_currents(plain)
        firing = [step for step in self._steps if "neuron" in step]
        self._numbers = {step["name"]: number for number, step in enumerate(firing)}
        # The engine has fields for them where a layer needs them.
        plainly = [step for step in firing if step in plain]
        self._subtracts, self._at_threshold = any(map(subtracts, plainly)), any(map(at_threshold, plainly))
        self._places, self.map_bytes = place_maps([_kept_map(step) for step in self._steps])
        self._tables: set[str] = set()
        self.declarations: list[str] = []
        self.calls: list[str] = []
        self.weight_bytes = self.overhead_bytes = 0
        for step in self._steps:
            self._write_step(step)
        self.weight_bytes += self.fast.weight_bytes
        self.overhead_bytes += self.fast.overhead_bytes

    def _write_step(self, step: dict[str, Any]) -> None:
        kind, name = step["kind"], step["identifier"]
        is_read = any(step["name"] in reader["inputs"] for reader in self._steps)
        if kind in ("input", "identity") or (kind == "shortcut" and not is_read):
            return
        self.declarations.append(_heading(step, self._number(step)))
        if kind == "convolution":
            write = self._write_fast if step["name"] in self._paths.fast else self._write_convolution
            write(step)
        elif kind == "attention":
            self._write_attention(step)
        elif kind == "shortcut":
            self._sums(step, up=0)  # the tables alone: each of its readers has its own shift
        elif kind == "sum":
            for index, source in enumerate(step["inputs"]):
                self._declare("spq_map", f"{name}_{index}", self._map(source))
            self.calls.append(f"sum_maps(&{name}_0, &{name}_1, maps + {self._places[step['name']]});")
        elif kind == "pool":
            window = window_of(step["window"], step["stride"], step["padding"])
            fields = [self._map(step["inputs"][0]), window, f"maps + {self._places[step['name']]}", *step["shape"][1:]]
            fields += [int(step["largest"] == 1), int(step["pool"] == "max")]
            self._declare("spq_pool", name, _initializer(fields))
            self.calls.append(f"pool(&{name});")
        elif kind == "average":
            self._declare("spq_map", f"{name}_in", self._map(step["inputs"][0]))
            self.calls.append(f"average(&{name}_in, {name}_words);")
        elif kind in ("readout", "count"):
            self._write_readout(step)

    def _write_readout(self, step: dict[str, Any]) -> None:
        name, source = step["identifier"], self._map(step["inputs"][0])
        if step["kind"] == "count":
            self._declare("spq_count", name, _initializer([source, step["votes"]]))
            self.calls.append(f"count_spikes(&{name});")
            return
        weights = self._table(step["name"], "weights", "uint8_t")
        offset = self._table(step["name"], "offset", "int32_t")
        self._declare(
            "spq_readout", name, _initializer([source, weights, offset, step["classes"], step["weight_bits"]])
        )
        has_membrane = step["membrane"] is not None
        self.calls += [f"leak_classes({offset});"] * has_membrane
        self.calls.append(f"readout(&{name});")
        self.calls += ["show_classes();"] * has_membrane

    def _number(self, step: dict[str, Any]) -> int | None:
        """Return the number of a layer with neurons among all such layers; None for other steps."""
        return self._numbers.get(step["name"])

    def _declare(self, kind: str, name: str, value: str) -> None:
        self.declarations.append(f"static const {kind} {name} = {value};")

    def _write_convolution(self, step: dict[str, Any]) -> None:
        name = step["identifier"]
        sums = self._sums(step, step["fraction"] - step["shift"])
        gate, gate_at_rest = self._gate(step)
        shortcut, identity, up = self._residual(step)
        height, width = step["positions"]
        neurons = self._neurons(step)
        fields = [sums, neurons, height, width, gate, gate_at_rest, shortcut, identity, up, self._number(step)]
        if "max-before" in self._pools:
            fields.append(self._outputs(step, "max-before"))
        self._declare("spq_layer", name, _initializer(fields))
        self.calls.append(f"convolution(&{name});")

    def _write_fast(self, step: dict[str, Any]) -> None:
        is_first = self._paths.fast[step["name"]].form.reads == "counts"
        read = 0 if is_first else self._places[step["inputs"][0]]
        name, number = step["name"], self._number(step)
        assert number is not None
        self._check_gate(step)
        arrays = self._arrays[name]
        self.declarations += self.fast.write(step, arrays, number=number, read=read, written=self._places[name])
        self.calls.append(f"{'first_layer' if is_first else 'fast_convolution'}(&{step['identifier']});")

    def _write_attention(self, step: dict[str, Any]) -> None:
        name = step["identifier"]
        maps = [self._map(source) for source in step["inputs"]]
        neurons = self._neurons(step)
        fields = [*maps, neurons, step["heads"], self._number(step), step["fraction"] - step["shift"]]
        self._declare("spq_attention", name, _initializer(fields))
        self.calls.append(f"attention(&{name});")

    def _gate(self, step: dict[str, Any]) -> tuple[str, str]:
        """Write the tables of a layer's gate; return their names, or two null pointers where there is no gate."""
        if not step["gated"]:
            return "0", "0"
        name = step["name"]
        self._check_gate(step)
        return self._table(name, "gate", "int8_t"), self._table(name, "gate_at_rest", "uint8_t")

    def _check_gate(self, step: dict[str, Any]) -> None:
        channels, height, width = step["in_shape"]
        if step["gated"] and channels * height * width * step["largest"] * 127 >= 2**31:
            raise TooLarge(f"{step['name']}: the sums of its gate leave 32 bits")

    def _residual(self, step: dict[str, Any]) -> tuple[str, str, int]:
        """Write where a layer's residual current comes from.

        Return pointers to a shortcut and to a map, of which at least one is null, and the shift of the map's values.
        """
        if len(step["inputs"]) < 2:
            return "0", "0", 0
        name = f"{step['identifier']}_residual"
        source = self._by_name[step["inputs"][1]]
        up = step["fraction"] - step["residual_shift"]
        if source["kind"] == "shortcut":
            self._declare("spq_sums", name, self._sums(source, up))
            return f"&{name}", "0", up
        signal = source["inputs"][0] if source["kind"] == "identity" else source["name"]
        self._declare("spq_map", name, self._map(signal))
        return "0", f"&{name}", up

    def _table(self, layer: str, role: str, kind: str) -> str:
        """Write a table of the numbers that a layer keeps in one role; return its name in C."""
        name = f"{self._by_name[layer]['identifier']}_{role}"
        if name in self._tables:
            return name
        self._tables.add(name)
        packed = self._packed[layer, role]
        numbers = list(packed) if kind == "uint8_t" else [int(value) for value in self._arrays[layer][role].ravel()]
        lines = [numbers[begin : begin + _NUMBERS_A_LINE] for begin in range(0, len(numbers), _NUMBERS_A_LINE)]
        rows = ",\n".join("    " + ", ".join(map(str, line)) for line in lines)
        self.declarations += [f"static const {kind} {name}[{len(numbers)}] = {{", rows, "};"]
        if role == "weights":
            self.weight_bytes += len(packed)
        else:
            self.overhead_bytes += len(packed)
        return name

    def _sums(self, step: dict[str, Any], up: int) -> str:
        """Write the tables of a convolution; return the initializer of its ``spq_sums``."""
        name = step["name"]
        weights = self._table(name, "weights", "uint8_t")
        slope = self._table(name, "slope", "int16_t")
        offset = self._table(name, "offset", "int32_t")
        kernel = window_of(step["kernel"], step["stride"], step["padding"])
        fields = [self._map(step["inputs"][0]), weights, slope, offset, step["out_channels"], step["groups"], kernel]
        fields += [step["weight_bits"], up]
        if "before" in self._pools:
            fields.append(self._outputs(step, "before"))
        return _initializer(fields)

    def _outputs(self, step: dict[str, Any], kind: str) -> str:
        """Declare the outputs that a step pools in this way; return a pointer to them, a null one if it does not."""
        pool, name = step["pool"], f"{step['identifier']}_outputs"
        if pool is None or pool["pool"] != kind:
            return "0"
        window = window_of(pool["window"], pool["stride"], pool["padding"])
        self._declare("spq_outputs", name, _initializer([window, *output_size(step, *step["in_shape"][1:])]))
        return f"&{name}"

    def _neurons(self, step: dict[str, Any]) -> str:
        """Declare the membranes of a layer; return the initializer of its ``spq_neurons``."""
        gain = step["neuron"]["gain"]
        threshold_up = step["fraction"] + (GAIN_BITS if gain is not None else 0)
        spikes = f"maps + {self._places[step['name']]}"
        compared = [int(at_threshold(step))] if self._at_threshold else []
        scaled = [1 if gain is None else gain, threshold_up]
        return _initializer([spikes, *self._membrane(step, threshold_up), *compared, *scaled])

    def _membrane(self, step: dict[str, Any], threshold_up: int) -> list[Any]:
        """Declare the membranes of a layer, if it stores any; return their fields of its ``spq_neurons``."""
        name, neuron = step["identifier"], step["neuron"]
        if neuron["levels"] is None:
            return []
        self.declarations.append(f"static uint8_t {name}_membrane[{membrane_bytes(step)}];")
        round_down = threshold_up - neuron["step_bits"]
        taken = [neuron["subtracts"] or 0, threshold_up - neuron["subtracts_bits"]] if self._subtracts else []
        return [
            f"{name}_membrane",
            neuron["lowest"],
            neuron["lowest"] + neuron["levels"] - 1,
            NONE_BELOW if neuron["skip_below"] is None else neuron["skip_below"],
            neuron["leak"],
            membrane_bits(neuron["levels"]),
            round_down - neuron["leak_bits"],
            round_down,
            *taken,
        ]

    def _map(self, source: str) -> str:
        """Return the initializer of the ``spq_map`` through which the output of a step is read."""
        step = self._by_name[source]
        channels, height, width = self.output_shape(source)
        stored_width, largest = width, 255
        data, words = "maps", "0"
        if step["kind"] == "input":
            data, kind, largest = "0", "SPQ_INPUT", step["largest"]
        elif step["kind"] == "average":
            data, words, kind = "0", f"{step['identifier']}_words", "SPQ_WORDS"
        elif step["kind"] in ("sum", "pool"):
            is_bits = step["kind"] == "pool" and step["largest"] == 1
            data, kind = f"maps + {self._places[source]}", "SPQ_BITS" if is_bits else "SPQ_BYTES"
        else:
            stored_width = step["positions"][1]
            kind = {"after": "SPQ_BITS_SUM", "max": "SPQ_BITS_MAX"}.get(_pool_kind(step), "SPQ_BITS")
            data = f"maps + {self._places[source]}"
        return _initializer([data, words, height, width, channels, stored_width, kind, largest])

    def output_shape(self, name: str) -> tuple[int, int, int]:
        """Return the [channels, height, width] of a step's output, as other steps read it."""
        step = self._by_name[name]
        if step["kind"] == "identity":
            return self.output_shape(step["inputs"][0])
        if "neuron" not in step:
            channels, height, width = step["shape"] if "shape" in step else (step["out_channels"], *step["positions"])
            return channels, height, width
        height, width = step["positions"]
        halves = _pool_kind(step) in ("after", "max")
        return (step["out_channels"], height // 2, width // 2) if halves else (step["out_channels"], height, width)


def _initializer(fields: list[Any]) -> str:
    return f"{{{', '.join(map(str, fields))}}}"


def _heading(step: dict[str, Any], number: int | None) -> str:
    """Return the comment above a step's tables; ``number`` counts the layers with neurons."""
    traced = "" if number is None else f", layer {number} of spq_trace"
    return f"\n/* {in_comment(step['name'])}: {step['kind']}{traced} */"


def subtracts(step: dict[str, Any]) -> bool:
    """Tell whether the spikes of a layer subtract from potentials that are stored."""
    return step["neuron"]["subtracts"] is not None


def at_threshold(step: dict[str, Any]) -> bool:
    """Tell whether the neurons of a layer spike at their threshold too."""
    return bool(step["neuron"]["spikes_at_threshold"])


def membrane_bytes(step: dict[str, Any]) -> int:
    """Return the bytes of a layer's membranes, packed; 0 where nothing is stored."""
    height, width = step["positions"]
    return int(-(-step["out_channels"] * height * width * membrane_bits(step["neuron"]["levels"]) // 8))


def _kept_map(step: dict[str, Any]) -> KeptMap:
    is_current = step["kind"] in ("identity", "shortcut")
    return KeptMap(step["name"], tuple(step["inputs"]), _map_bytes(step), is_current=is_current)


def _map_bytes(step: dict[str, Any]) -> int:
    """Return how many bytes of a step's output are kept until other steps have read it."""
    if "neuron" in step:
        height, width = step["positions"]
        return spike_map_bytes(step["out_channels"] * height * width, step["out_channels"])
    if step["kind"] in ("sum", "pool"):
        channels, height, width = step["shape"]
        is_bits = step["kind"] == "pool" and step["largest"] == 1
        return spike_map_bytes(channels * height * width, channels) if is_bits else int(channels * height * width)
    return 0


def _pool_kind(step: dict[str, Any]) -> str:
    """Return how a layer pools where that is no step of its own; nothing where it does not."""
    pool = step.get("pool")
    return "" if pool is None else str(pool["pool"])


def pools_of_currents(steps: Sequence[dict[str, Any]]) -> frozenset[str]:
    """Return the ways in which layers pool their currents."""
    return frozenset(map(_pool_kind, filter(_has_kernel, steps))) & {"before", "max-before"}


def _has_kernel(step: dict[str, Any]) -> bool:
    return "kernel" in step


def terms_of(step: dict[str, Any]) -> int:
    """Return how many outputs of a convolution one sum takes in."""
    return math.prod(step["pool"]["window"]) if _pool_kind(step) == "before" else 1


def window_of(sizes: Sequence[int], strides: Sequence[int], padding: Sequence[int]) -> str:
    """Return the initializer of an ``spq_window``; the engine finds what lies below and behind a map by its size."""
    return _initializer([*sizes, *strides, padding[2], padding[0]])
