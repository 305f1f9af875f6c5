"""Write a network in integers as a C99 library: ``model.h`` and ``model.c``.

``engine.c`` beside this file holds the arithmetic and has marked gaps. Here they are filled with the tables of one
network (:mod:`spquant_search.deploy.c_tables`), the types that its sums and potentials need, and the two functions that
run it. Parts of the engine that a network does not need are cut out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from spquant_search.costs.device import channel_bytes, largest_code, scratch_bytes, sum_bits
from spquant_search.costs.engine_limits import (
    code_sum_excess,
    map_excess,
    side_excess,
    signal_excess,
    sum_excess,
    window_excess,
)
from spquant_search.costs.memory import membrane_bits
from spquant_search.deploy.c_header import header
from spquant_search.deploy.c_tables import (
    TableWriter,
    TooLarge,
    at_threshold,
    membrane_bytes,
    pools_of_currents,
    subtracts,
    terms_of,
)
from spquant_search.deploy.device_facts import DeviceFacts
from spquant_search.deploy.reference import Model

_NOTICE = "/* Written by spquant-search pick; manifest.json says from which run. MIT licence. */"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of the network's own numbers in C; code and stack come on top."""

    weights: int  # packed, read only
    overhead: int  # slopes, offsets, gates, read only
    membrane: int
    maps: int  # spikes between layers
    scratch: int  # working memory of the layers, which run one at a time
    potential_bits: int  # of the integer type that potentials take
    sum_bits: int


@dataclass(frozen=True, slots=True)
class CSource:
    """The text of ``model.h`` and ``model.c``, and the sizes that the library will have."""

    header: str
    source: str
    sizes: Sizes


@dataclass(frozen=True, kw_only=True, slots=True)
class _Limits:
    """The widest types and largest arrays that any layer of a network needs."""

    inputs: int  # channels that a step reads
    channels: int  # channels that a step gives
    heads: int
    classes: int
    potential_bits: int
    sum_bits: int


def c_source(model: Model, weights: bytes, facts: DeviceFacts | None = None) -> CSource:
    """Write the library of a network; the same network always gives the same text.

    ``facts``: what ``model.h`` says of frames and classes, and the names of files, functions and macros.

    Raises:
        TooLarge: a layer has more than 65,535 channels, rows or columns, or sums leave 32 bits; and other sizes that
            do not fit the engine's types.
    """
    steps, facts = model.steps, facts or DeviceFacts()
    for step in steps:
        _check_fits(step)
    writer = TableWriter(model, weights)
    limits = _limits(steps, writer)
    channels, height, width = steps[0]["shape"]
    text = header(
        time_steps=model.manifest["network"]["time_steps"],
        shape=(channels, height, width),
        largest=steps[0]["largest"],
        classes=limits.classes,
        facts=facts,
    )
    arrays = [*_shared_arrays(steps, writer, limits), *_accumulators(steps[-1])]
    declarations = "\n".join([*_types(limits), *arrays, "", *writer.declarations])
    source = (
        _engine(steps)
        .replace("/*@NOTICE@*/", _NOTICE)
        .replace("/*@TABLES@*/", declarations)
        .replace("/*@STEPS@*/", _network_functions(steps, writer.calls))
    )
    return CSource(text, facts.names.renamed(source), _sizes(steps, writer, limits))


def _check_fits(step: dict[str, Any]) -> None:
    """Raise TooLarge where a number of a step does not fit its type in the engine."""
    name = step["name"]
    read, written = step.get("in_shape", ()), (*step.get("positions", ()), step.get("out_channels", 0))
    excess = (
        signal_excess(name, step["kind"], step.get("largest", 0))
        or sum_excess(name, step.get("accumulator_bits", 0))
        or side_excess(name, (*read, *written, step.get("classes", 0)))
        or map_excess(name, max(math.prod(read), math.prod(written)))
    )
    if excess is None and step["kind"] in ("convolution", "shortcut"):
        excess = _window_excess(name, step) or code_sum_excess(name, _largest_sum(step), step["weight_bits"])
    if excess is not None:
        raise TooLarge(excess)


def _window_excess(name: str, step: dict[str, Any]) -> str | None:
    (rows, columns), (down, right), (before, after, above, below) = step["kernel"], step["stride"], step["padding"]
    return window_excess(name, ((rows, down, above, below), (columns, right, before, after)))


def _limits(steps: Sequence[dict[str, Any]], writer: TableWriter) -> _Limits:
    potential_bits = max(step["potential_bits"] for step in _firing(steps))
    return _Limits(
        inputs=max(writer.output_shape(name)[0] for step in steps for name in step["inputs"]),
        channels=max(step["out_channels"] for step in steps if "out_channels" in step),
        heads=max([step["heads"] for step in steps if "heads" in step], default=0),
        classes=steps[-1]["classes"],
        potential_bits=32 if potential_bits <= 32 else 64,
        sum_bits=sum_bits(max(_largest_sum(step) for step in steps if step["kind"] in ("convolution", "shortcut"))),
    )


def _largest_sum(step: dict[str, Any]) -> int:
    """Return the largest sum of codes at one position of a convolution; codes are not negative."""
    inputs = step["in_shape"][0] // step["groups"]
    products = inputs * math.prod(step["kernel"]) * terms_of(step)
    return int(products * largest_code(step["weight_bits"]) * step["largest"])


def _firing(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [step for step in steps if "neuron" in step]


def _stores(step: dict[str, Any]) -> bool:
    """Tell whether a step has neurons that store their potentials between time steps."""
    return "neuron" in step and step["neuron"]["levels"] is not None


def _averages(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [step for step in steps if step["kind"] == "average"]


def _sizes(steps: Sequence[dict[str, Any]], writer: TableWriter, limits: _Limits) -> Sizes:
    scratch = scratch_bytes(
        inputs=limits.inputs,
        channels=limits.channels,
        by_channel=channel_bytes(
            sum_bits=limits.sum_bits,
            potential_bits=limits.potential_bits,
            stores=any(_stores(step) for step in steps),
        ),
        classes=limits.classes,
        heads=limits.heads,
        gated=_is_gated(steps),
        potential_bytes=limits.potential_bits // 8 if "max-before" in pools_of_currents(steps) else 0,
    )
    scratch += 4 * limits.classes * _has_membrane(steps[-1])
    return Sizes(
        weights=writer.weight_bytes,
        overhead=writer.overhead_bytes,
        membrane=sum(membrane_bytes(step) for step in _firing(steps)),
        maps=writer.map_bytes + sum(4 * step["shape"][0] for step in _averages(steps)),
        scratch=scratch,
        potential_bits=limits.potential_bits,
        sum_bits=limits.sum_bits,
    )


def _is_gated(steps: Sequence[dict[str, Any]]) -> bool:
    return any(step.get("gated") for step in steps)


def _types(limits: _Limits) -> list[str]:
    return [
        f"typedef int{limits.potential_bits}_t spq_potential;",
        f"typedef uint{limits.sum_bits}_t spq_sum;",
        f"#define SPQ_MOST_INPUTS {limits.inputs}",
        f"#define SPQ_MOST_CHANNELS {limits.channels}",
        f"#define SPQ_MOST_HEADS {limits.heads}",
        "",
    ]


def _shared_arrays(steps: Sequence[dict[str, Any]], writer: TableWriter, limits: _Limits) -> list[str]:
    return [
        "static const uint8_t *input;",
        f"static int32_t logits[{limits.classes}];",
        f"static uint8_t maps[{max(writer.map_bytes, 1)}];",
        *(f"static uint32_t {step['identifier']}_words[{step['shape'][0]}];" for step in _averages(steps)),
    ]


def _accumulators(last: dict[str, Any]) -> list[str]:
    """Return what a readout adds its sums to: the logits, or the membranes of the classes."""
    if not _has_membrane(last):
        return ["#define accumulators logits"] if last["kind"] == "readout" else []
    return [
        f"static int32_t membranes[{last['classes']}];",
        "#define accumulators membranes",
        f"#define SPQ_CLASS_LEAK {last['leak']}",
        f"#define SPQ_CLASS_LEAK_BITS {last['leak_bits']}",
        f"#define SPQ_SUMS_MEMBRANES {int(last['membrane'] == 'sum')}",
    ]


def _has_membrane(last: dict[str, Any]) -> bool:
    return last["kind"] == "readout" and last["membrane"] is not None


def _engine(steps: Sequence[dict[str, Any]]) -> str:
    """Return the engine's text without the parts that these steps do not need."""
    text = resources.files("spquant_search.deploy").joinpath("engine.c").read_text(encoding="utf-8")
    kinds, pools, firing = {step["kind"] for step in steps}, pools_of_currents(steps), _firing(steps)
    of_kinds = ("attention", "sum", "average", "pool", "readout", "count")
    parts = {kind.upper(): kind in kinds for kind in of_kinds} | {
        "REST": any(_codes_straddle_bytes(step) for step in filter(_stores, steps)),
        "GATES": _is_gated(steps),
        "POOLS_CURRENTS": bool(pools),
        "SUMS_UP": "before" in pools,
        "TAKES_LARGEST": "max-before" in pools,
        "SUBTRACTS": any(map(subtracts, firing)),
        "AT_THRESHOLD": any(map(at_threshold, firing)),
        "MEMBRANE": _has_membrane(steps[-1]),
    }
    for part, keep in parts.items():
        text = _without(text, part, keep=keep)
    return text


def _without(template: str, part: str, *, keep: bool) -> str:
    """Remove the marks of one optional part, and the part itself unless it is kept; what follows ELSE is the other."""
    done, begin, rest = template.partition(f"/*@{part}@*/\n")
    if not begin:
        raise AssertionError(f"engine.c has no part {part}")
    while begin:
        inner, end, after = rest.partition("/*@END@*/\n")
        if not end:
            raise AssertionError(f"engine.c has no end of its part {part}")
        with_it, _, without_it = inner.partition("/*@ELSE@*/\n")
        before, begin, rest = after.partition(f"/*@{part}@*/\n")
        done = done.rstrip(" ") + (with_it if keep else without_it).rstrip(" ") + before
    return done


def _network_functions(steps: Sequence[dict[str, Any]], calls: Sequence[str]) -> str:
    """Write ``spq_reset`` and ``spq_step``."""
    lines = ["void spq_reset(void)", "{"]
    for step in filter(_stores, steps):
        lines += _membranes_at_rest(step)
    lines += _logits_at_rest(steps[-1])
    lines += ["}", ""]
    lines += ["void spq_step(const uint8_t *frame)", "{", "    input = frame;"]
    lines += [f"    {call}" for call in calls]
    return "\n".join([*lines, "}"])


def _logits_at_rest(last: dict[str, Any]) -> list[str]:
    """Write the statements that set the logits to what they start from."""
    if last["kind"] == "readout" and last["membrane"] is None:
        return [f"    memcpy(logits, {last['identifier']}_offset, sizeof logits);"]
    membranes = ["    memset(membranes, 0, sizeof membranes);"] if _has_membrane(last) else []
    return ["    memset(logits, 0, sizeof logits);", *membranes]


def _membranes_at_rest(step: dict[str, Any]) -> list[str]:
    """Write the statements that bring a layer's membranes to rest."""
    name, bits = step["identifier"], membrane_bits(step["neuron"]["levels"])
    code = -step["neuron"]["lowest"]
    fill = f"    memset({name}_membrane, {{}}, {membrane_bytes(step)});"
    if _codes_straddle_bytes(step):
        count = step["out_channels"] * step["positions"][0] * step["positions"][1]
        return [fill.format(0), f"    rest({name}_membrane, {count}, {bits}, {code});"]
    return [fill.format(sum(code << (slot * bits) for slot in range(8 // bits)))]


def _codes_straddle_bytes(step: dict[str, Any]) -> bool:
    """Tell whether the bits of a code do not divide a byte, so that bytes at rest are not all equal."""
    return bool(8 % membrane_bits(step["neuron"]["levels"]))
