"""Write a network in integers as a C99 library: ``model.h`` and ``model.c``.

The files in ``engine/`` beside this one hold the arithmetic and have marked gaps. Here they are put together and filled
with the tables of one network (:mod:`spquant_search.deploy.c_tables`), the types that its sums and potentials need, and
the two functions that run it. Parts of the engine that a network does not need are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
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
from spquant_search.costs.fast_path import FastNeeds, needs_of_fast, together
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
from spquant_search.deploy.fast_layers import Paths, paths_of
from spquant_search.deploy.fast_writer import fast_sizes, membranes_at_rest
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

    inputs: int  # channels of the maps that are read value by value
    channels: int  # channels of a layer on the plain path
    opened: int  # channels of any layer
    heads: int
    classes: int
    potential_bits: int
    sum_bits: int


def c_source(
    model: Model,
    weights: bytes,
    facts: DeviceFacts | None = None,
    *,
    paths: Paths | None = None,
    engine: str | None = None,
) -> CSource:
    """Write the library of a network; the same network always gives the same text.

    ``facts``: what ``model.h`` says of frames and classes, and the names of files, functions and macros. ``paths``: of
    the layers, if not those that are found; ``engine``: its text, if not this package's, to compare one with another.

    Raises:
        TooLarge: a layer has more than 65,535 channels, rows or columns, or sums leave 32 bits; and other sizes that
            do not fit the engine's types.
    """
    steps, facts = model.steps, facts or DeviceFacts()
    for step in steps:
        _check_fits(step)
    paths = paths_of(model) if paths is None else paths
    writer = TableWriter(model, weights, paths)
    limits = _limits(steps, writer, paths)
    fast = together(map(needs_of_fast, paths.fast.values()))
    channels, height, width = steps[0]["shape"]
    text = header(
        time_steps=model.manifest["network"]["time_steps"],
        shape=(channels, height, width),
        largest=steps[0]["largest"],
        classes=limits.classes,
        facts=facts,
    )
    arrays = [*_shared_arrays(steps, writer, limits), *_accumulators(steps[-1])]
    sizes = fast_sizes(fast, paths.fraction)
    declarations = "\n".join([*_types(limits), *sizes, "", *arrays, "", *writer.declarations])
    source = (
        _engine(steps, paths, fast, engine)
        .replace("/*@NOTICE@*/", _NOTICE)
        .replace("/*@TABLES@*/", declarations)
        .replace("/*@FIRES@*/", writer.fast.cases())
        .replace("/*@STEPS@*/", _network_functions(steps, writer.calls, paths))
    )
    return CSource(text, facts.names.renamed(source), _sizes(steps, writer, limits, paths))


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


def _limits(steps: Sequence[dict[str, Any]], writer: TableWriter, paths: Paths) -> _Limits:
    plain = [step for step in steps if step["name"] not in paths.fast]
    potential_bits = max((step["potential_bits"] for step in _firing(plain)), default=0)
    sums = [_largest_sum(step) for step in plain if step["kind"] in ("convolution", "shortcut")]
    return _Limits(
        inputs=max(writer.output_shape(name)[0] for step in plain for name in step["inputs"]),
        channels=max((step["out_channels"] for step in plain if "out_channels" in step), default=0),
        opened=max(step["out_channels"] for step in steps if "out_channels" in step),
        heads=max([step["heads"] for step in steps if "heads" in step], default=0),
        classes=steps[-1]["classes"],
        potential_bits=32 if potential_bits <= 32 else 64,
        sum_bits=sum_bits(max(sums, default=0)),
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


def _sizes(steps: Sequence[dict[str, Any]], writer: TableWriter, limits: _Limits, paths: Paths) -> Sizes:
    plain = [step for step in steps if step["name"] not in paths.fast]
    layers = list(paths.fast.values())
    fast = together(map(needs_of_fast, layers))
    scratch = scratch_bytes(
        inputs=limits.inputs,
        channels=limits.channels,
        by_channel=channel_bytes(
            sum_bits=limits.sum_bits if any(step["kind"] == "convolution" for step in plain) else None,
            potential_bits=limits.potential_bits,
            stores=any(_stores(step) for step in plain),
        ),
        classes=limits.classes,
        heads=limits.heads,
        gated=_is_gated(plain),
        potential_bytes=limits.potential_bits // 8 if "max-before" in pools_of_currents(plain) else 0,
    )
    scratch += 4 * limits.classes * _has_membrane(steps[-1]) + limits.opened + fast.ram_bytes(limits.opened)
    return Sizes(
        weights=writer.weight_bytes,
        overhead=writer.overhead_bytes,
        membrane=sum(map(membrane_bytes, _firing(plain))) + 4 * sum(layer.membrane_words for layer in layers),
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
        f"#define SPQ_MOST_OPENED {limits.opened}",
        f"#define SPQ_MOST_HEADS {limits.heads}",
        "",
    ]


def _shared_arrays(steps: Sequence[dict[str, Any]], writer: TableWriter, limits: _Limits) -> list[str]:
    return [
        "static const uint8_t *input;",
        f"static int32_t logits[{limits.classes}];",
        f"static uint8_t maps[{writer.map_bytes + 3}]; /* strings of bits are read by fours of bytes */",
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


def _engine(steps: Sequence[dict[str, Any]], paths: Paths, fast: FastNeeds, engine: str | None) -> str:
    """Return the engine's text without the files and parts that these steps do not need."""
    plain = [step for step in steps if step["name"] not in paths.fast]
    kinds, pools, firing = {step["kind"] for step in plain}, pools_of_currents(plain), _firing(plain)
    parts: dict[str, int] = {
        kind.upper(): kind in kinds for kind in ("attention", "sum", "average", "pool", "readout", "count")
    }
    parts |= {
        "PLAIN": "convolution" in kinds,
        "NEURONS": bool(firing),
        "REST": any(_codes_straddle_bytes(step) for step in filter(_stores, plain)),
        "GATES": _is_gated(plain),
        "POOLS_CURRENTS": bool(pools),
        "SUMS_UP": "before" in pools,
        "TAKES_LARGEST": "max-before" in pools,
        "SUBTRACTS": any(map(subtracts, firing)),
        "AT_THRESHOLD": any(map(at_threshold, firing)),
        "MEMBRANE": _has_membrane(steps[-1]),
        "FAST": fast.fast,
        "FIRST": fast.counts_4 | fast.counts_8,
        "COUNTS_4": fast.counts_4,
        "COUNTS_8": fast.counts_8,
        "LISTS": fast.listing,
        "CONVOLUTIONS": fast.listing,
        "SUMS_2X2": fast.sums_2x2,
        "SLICES": fast.slices,
        "LANES": fast.lanes,
        "PAIRS": fast.pairs,
        "BLOCKS": fast.lanes | fast.pairs,
        "COMPACT": fast.puts_together,
        "FAST_GATES": fast.gates,
        "ONCE": fast.once | fast.once_wide,
        "TWO_BITS": fast.two_bits | fast.two_bits_wide,
        "WORDS": fast.words_4 | fast.words_4_wide | fast.words_8 | fast.words_8_wide,
        "ANY": fast.any_neurons,
        "STORES": fast.stores,
    }
    files = (_text(name) for name, part in _FILES.items() if part is None or parts[part])
    return _kept("".join(files) if engine is None else engine, parts)


_FILES = {  # in their order, each with the part that it belongs to
    "head": None,
    "memory": None,
    "maps": None,
    "weights": None,
    "plain_sums": "PLAIN",
    "plain_neurons": "NEURONS",
    "plain_convolution": "PLAIN",
    "fast_events": "FAST",
    "fast_slices": "SLICES",
    "fast_lanes": "LANES",
    "fast_pairs": "PAIRS",
    "fast_neurons": "FAST",
    "fast_gates": "FAST_GATES",
    "fast_layers": "FAST",
    "other_steps": None,
    "network": None,
}


def _text(name: str) -> str:
    return resources.files("spquant_search.deploy").joinpath("engine", f"{name}.c").read_text(encoding="utf-8")


def _kept(text: str, parts: Mapping[str, int]) -> str:
    """Remove the marks of optional parts, and the parts that are not kept; they may lie in each other.

    What stands between ELSE and END is there where the part is not.
    """
    lines: list[str] = []
    kept = [True]
    for line in text.splitlines():
        mark = re.fullmatch(r"/\*@(\w+)@\*/", line.strip())
        name = mark[1] if mark else ""
        if name == "END":
            kept.pop()
        elif name == "ELSE":
            kept[-1] = not kept[-1]
        elif name in parts:
            kept.append(bool(parts[name]))
        elif all(kept):
            lines.append(line)
    assert kept == [True], "every part of the engine has an end"
    return "\n".join(lines) + "\n"


def _network_functions(steps: Sequence[dict[str, Any]], calls: Sequence[str], paths: Paths) -> str:
    """Write ``spq_reset`` and ``spq_step``."""
    lines = ["void spq_reset(void)", "{"]
    for step in filter(_stores, steps):
        fast = paths.fast.get(step["name"])
        lines += _membranes_at_rest(step) if fast is None else membranes_at_rest(step, fast)
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
