"""Show the result of ``verify --emulate`` as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table

from spquant_search.deploy.names import readable
from spquant_search.report.numbers import percent
from spquant_search.report.step_words import steps_words

if TYPE_CHECKING:
    from spquant_search.deploy.artifact import Artifact
    from spquant_search.deploy.emulator.emulate import Emulation

NO_TIME = (
    "instructions are no cycles: waiting for flash, loads and branches is not in them, and no time follows from them; "
    "no board was measured"
)
OF_LAYERS = (
    "a layer's instructions run from the end of the layer before to its own end, in a second build, which traces; "
    "spq_reset and spq_class are in none"
)
_WORDS = {"checksums": "checksums of spikes", "logits": "logits, of two builds", "classes": "classes, of two builds"}


def emulation_lines(found: Emulation, artifact: Artifact) -> Iterator[RenderableType]:
    """Give the tables and sentences in the order in which they are read."""
    target, tools = found.target, found.tools
    yield f"trial {artifact.trial} of {artifact.run}: its C on {target.words}"
    yield f"QEMU {tools.qemu_version}, machine {target.machine}; gcc {tools.gcc_version}, {' '.join(found.flags)}"
    yield ""
    if found.failure is None:
        yield _on_what(found)
        yield _comparison(found)
    else:
        yield f"not verified: {found.failure}"
    if found.first is not None:
        yield f"first difference between {found.first}"
    if found.holds:
        yield from _measured(found)
    for note in (*found.notes, *([target.remark] if target.remark else [])):
        yield f"note: {note}"


def _on_what(found: Emulation) -> str:
    on = "samples of the test split" if found.of_test_split else "stored test vectors"
    accuracy = "" if found.accuracy is None else f": {percent(found.accuracy)} % correct"
    return f"on {found.samples:,} {on} in {steps_words(found.time_steps)}{accuracy}"


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    return table


def _comparison(found: Emulation) -> Table:
    table = _table("", "differ from numpy's")
    for what, words in _WORDS.items():
        table.add_row(words, f"{found.mismatches[what]:,} of {found.compared[what]:,}")
    return table


def _measured(found: Emulation) -> Iterator[RenderableType]:
    least, most = min(found.instructions), max(found.instructions)
    yield ""
    yield f"instructions a sample: {found.mean_instructions:,.0f} on average, from {least:,.0f} to {most:,.0f}"
    yield _layers(found)
    yield ""
    yield _bytes(found)
    yield ""
    yield f"note: {NO_TIME}"
    yield f"note: {OF_LAYERS}"


def _layers(found: Emulation) -> Table:
    table = _table("layer", "instructions a sample", "share")
    total = sum(found.layers.values()) + found.rest
    for name, count in [*found.layers.items(), ("(after them: the readout)", found.rest)]:
        table.add_row(readable(name), f"{count:,.0f}", f"{100 * count / max(total, 1):.1f} %")
    return table


def _bytes(found: Emulation) -> Table:
    table = _table("bytes", "flash", "RAM")
    table.add_row("library (model.o)", f"{found.flash:,}", f"{found.ram:,}")
    table.add_row("stack, at its deepest below the caller", "", f"{found.stack:,}")
    table.add_row("of the machine", f"{found.target.flash.bytes:,}", f"{found.target.ram.bytes:,}")
    return table


def emulation_dict(found: Emulation, artifact: Artifact) -> dict[str, Any]:
    """Return the result as the document that ``verify --emulate TARGET --json`` prints."""
    target, tools = found.target, found.tools
    return {
        "trial": artifact.trial,
        "run": artifact.run,
        "time_steps": found.time_steps,
        "target": target.name,
        "machine": target.machine,
        "versions": {"qemu": tools.qemu_version, "gcc": tools.gcc_version},
        "flags": list(found.flags),
        "holds": found.holds,
        "failure": found.failure,
        "samples": found.samples,
        "of_test_split": found.of_test_split,
        "compared": found.compared,
        "mismatches": found.mismatches,
        "first_mismatch": None if found.first is None else str(found.first),
        "accuracy": found.accuracy,
        "measured": _measured_dict(found) if found.holds else None,
        "notes": found.notes,
    }


def _measured_dict(found: Emulation) -> dict[str, Any]:
    return {
        "instructions": {
            "mean": found.mean_instructions,
            "least": min(found.instructions),
            "most": max(found.instructions),
            "per_tick": found.target.timer.instructions_per_tick,
        },
        "layers": found.layers,
        "after_layers": found.rest,
        "flash_bytes": found.flash,
        "ram_bytes": found.ram,
        "stack_bytes": found.stack,
        "machine_flash_bytes": found.target.flash.bytes,
        "machine_ram_bytes": found.target.ram.bytes,
    }
