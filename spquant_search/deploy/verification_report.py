"""Show the result of ``verify`` as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table

from spquant_search.costs.memory import FLOPS_PER_MAC
from spquant_search.deploy.names import readable
from spquant_search.report.numbers import percent
from spquant_search.report.step_words import steps_words

if TYPE_CHECKING:
    from spquant_search.deploy.artifact import Artifact
    from spquant_search.deploy.verify import Verification


def verification_lines(found: Verification, artifact: Artifact) -> Iterator[RenderableType]:
    """Give the tables and sentences in the order in which they are read."""
    on = "samples of the test split" if found.of_test_split else "stored test vectors"
    yield f"trial {artifact.trial} of {artifact.run}, on {found.samples:,} {on}{_steps_words(artifact)}"
    table = Table(box=None, pad_edge=False)
    for heading in ("", "accuracy", "numbers that differ from numpy's"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name in ("PyTorch", "numpy", "C"):
        if name != "numpy" and name not in found.mismatches:
            continue
        differing = "" if name == "numpy" else f"{found.mismatches[name]:,} of {found.spikes:,} spikes and all logits"
        table.add_row(name, percent(found.accuracy(name)), differing)
    yield table
    if found.first is not None:
        yield f"first difference between {found.first}"
    if found.sizes:
        yield _sizes(found, artifact)
    ops = f"synaptic operations a sample: {found.synaptic_ops:,.0f}"
    if found.executed_ops is not None:
        ops += f"; executed in C: {found.executed_ops:,.0f}"
    yield f"{ops}; the front's effective MACs: {artifact.effective_macs:,.0f} ({FLOPS_PER_MAC} FLOPs each)"
    yield from _paths(found)
    for note in found.notes:
        yield f"note: {note}"


def _steps_words(artifact: Artifact) -> str:
    steps, most = artifact.time_steps, artifact.most_time_steps
    return "" if steps == most else f", in {steps_words(steps)} of the search's {most}"


def _paths(found: Verification) -> Iterator[str]:
    """Say how many convolutions take the engine's fast path, and why the others do not."""
    if not found.paths:
        return
    plain: dict[str, list[str]] = {}
    for name, path in found.paths.items():
        if path["path"] == "plain":
            plain.setdefault(path["because"], []).append(readable(name))
    fast = len(found.paths) - sum(map(len, plain.values()))
    yield f"{fast} of {len(found.paths)} convolutions take the C engine's fast path"
    for reason, names in plain.items():
        yield f"  the plain path: {', '.join(names)}: {reason}"


def _sizes(found: Verification, artifact: Artifact) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("bytes", "flash", "RAM"):
        table.add_column(heading, justify="left" if heading == "bytes" else "right")
    flash = artifact.flash_bytes
    ram = None if artifact.ram_bytes is None else artifact.ram_bytes - artifact.frame_bytes  # which is the caller's
    label = "front, for a Cortex-M4" + (", without the input frame" if artifact.frame_bytes else "")
    table.add_row(label, *("" if size is None else f"{size:,}" for size in (flash, ram)))
    for size in found.sizes:
        cells = (_beside(size.flash, flash), _beside(size.ram, ram))
        table.add_row(f"size of model.o by {size.compiler}", *cells)
    return table


def _beside(found: int, expected: int | None) -> str:
    return f"{found:,}" if not expected else f"{found:,} ({100 * (found / expected - 1):+.1f} %)"


def verification_dict(found: Verification, artifact: Artifact) -> dict[str, Any]:
    """Return the result as the document that ``verify --json`` prints."""
    return {
        "trial": artifact.trial,
        "run": artifact.run,
        "time_steps": artifact.time_steps,
        "samples": found.samples,
        "of_test_split": found.of_test_split,
        "spikes_compared": found.spikes,
        "mismatches": found.mismatches,
        "first_mismatch": None if found.first is None else str(found.first),
        "accuracy": None if found.correct is None else {name: found.accuracy(name) for name in found.correct},
        "synaptic_ops": found.synaptic_ops,
        "executed_ops": found.executed_ops,
        "front": {
            "flash_bytes": artifact.flash_bytes,
            "ram_bytes": artifact.ram_bytes,
            "frame_bytes": artifact.frame_bytes,
        },
        "sizes": [
            {"compiler": size.compiler, "text": size.text, "data": size.data, "bss": size.bss} for size in found.sizes
        ],
        "paths": found.paths,
        "notes": found.notes,
    }
