"""Read a network of SpikingJelly or snnTorch: what it computes, and the proof that it is that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spquant_search.importer.description import Description
from spquant_search.importer.folding import folded
from spquant_search.importer.proof import Proof, check, prove
from spquant_search.importer.recording import Recording, Run, record
from spquant_search.importer.refusals import NotImportable, Reason
from spquant_search.importer.wrappers import unwrapped
from spquant_search.runs.random_streams import Purpose, random_generator

_AXES = {2: "BC", 3: "TBC", 4: "BCHW", 5: "TBCHW"}
FIRST, SECOND = "the example", "a second example"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadNetwork:
    """A network that was read."""

    description: Description
    recordings: Mapping[str, Recording]  # of each example
    proofs: Mapping[str, Proof]
    notes: tuple[str, ...]  # what a person must know of it


def read_network(
    network: nn.Module,
    example: Tensor,
    *,
    axes: str | None = None,
    run: Run | None = None,
    output: int = 0,
    second: Tensor | None = None,
) -> ReadNetwork:
    """Read what ``network`` computes, by running it on an example of what it is called with.

    ``axes`` names the example's axes, T time, B samples, C channels and others pixels, as in "TBCHW"; where it is not
    given, five are TBCHW, four BCHW (a still image), three TBC, two BC. ``run(network, example)`` calls a network that
    takes one time step a call, or several arguments, and returns its output; of several outputs the one numbered
    ``output`` is read. The network is read on a ``second`` example, too, made from the first where none is given: an
    input must not decide what is computed. The network itself is not changed, and its states are reset.

    Raises:
        NotImportable: a part of it has no form, or what was read does something else than it.
    """
    axes = _checked_axes(example, axes)
    network = unwrapped(network)
    _check_numbers(network, example)
    example = _two_samples(example, axes)
    if second is None:
        second = shuffled(example)
    else:
        _checked_axes(second, axes)
    first = record(network, example, axes, run, output)
    again = record(network, second, axes, run, output)
    _check_equal(first, again)
    description = folded(first)
    recordings = {FIRST: first, SECOND: again}
    proofs = {name: prove(recording, description) for name, recording in recordings.items()}
    check(proofs)
    notes = tuple(notes_of(first, description, proofs))
    return ReadNetwork(description=description, recordings=recordings, proofs=proofs, notes=notes)


def _checked_axes(example: Tensor, axes: str | None) -> str:
    if not isinstance(example, Tensor) or not example.is_floating_point():
        kind = str(example.dtype) if isinstance(example, Tensor) else type(example).__name__
        raise _not_an_example(
            f"it must be a tensor of floating-point numbers; it is {kind}", "give what it is called with"
        )
    if odd := _oddity(example):
        raise _not_an_example(odd, "give a dense tensor of finite numbers, as the data is")
    given = _AXES.get(example.dim(), "") if axes is None else axes
    known = "a string with B, and T where it has time, such as axes='TBCHW'"
    if len(given) != example.dim() or given.count("B") != 1 or given.count("T") > 1 or len(set(given)) != len(given):
        raise _not_an_example(f"axes {axes!r} do not name the axes of {list(example.shape)}", f"give {known}")
    if "T" in given and example.shape[given.index("T")] < 2:
        raise _not_an_example(f"{list(example.shape)} ({given}) has one time step", "give one of two or more")
    return given


def _oddity(example: Tensor) -> str:
    if not example.numel():
        return f"{list(example.shape)} is empty"
    if example.is_meta:
        return "it is on the meta device and has no values"
    if example.is_nested or example.layout != torch.strided:
        return "it is nested" if example.is_nested else f"it is {example.layout}"
    return "" if bool(example.isfinite().all()) else "it has values that are not finite"


def _check_numbers(network: nn.Module, example: Tensor) -> None:
    """Raise where numbers are coarser than a proof can be, or are none; a threshold may be infinite."""
    given = {**dict(network.named_parameters()), **dict(network.named_buffers()), "the example": example}
    coarse = [name for name, values in given.items() if values.dtype in (torch.float16, torch.bfloat16)]
    if coarse:
        why = f"{_and_more(coarse)} in {given[coarse[0]].dtype}: membranes are too coarse for a proof"
        raise NotImportable(
            [Reason(module="", what="precision", why=why, remedy="give network.float(), example.float()")]
        )
    broken = [
        name for name, values in given.items() if not name.endswith("threshold") and not bool(values.isfinite().all())
    ]
    if broken:
        why = f"{_and_more(broken)} with infinite numbers, or such that are none (NaN)"
        raise NotImportable([Reason(module="", what="weights", why=why)])


def _and_more(names: list[str]) -> str:
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]


def _not_an_example(why: str, remedy: str) -> NotImportable:
    return NotImportable([Reason(module="", what="example", why=why, remedy=remedy)])


def _two_samples(example: Tensor, axes: str) -> Tensor:
    """Return an example of at least two samples: an axis of one cannot be told from one that is none."""
    at = axes.index("B")
    return torch.cat([example, shuffled(example)], dim=at) if example.shape[at] == 1 else example


def shuffled(example: Tensor) -> Tensor:
    """Return an example of the same values in other places, half of them the smallest."""
    generator = random_generator(0, Purpose.SECOND_EXAMPLE)
    order = torch.from_numpy(generator.permutation(example.numel())).to(example.device)
    kept = torch.from_numpy(generator.random(example.numel()) < 0.5).to(example.device)
    values = torch.where(kept, example.flatten()[order], example.min())
    return values.view(example.shape)


def _check_equal(first: Recording, again: Recording) -> None:
    same = (first.steps, first.reads) == (again.steps, again.reads)
    if same and first.graph.signature(first.output) == again.graph.signature(again.output):
        return
    why = "it computes something else on a second example: its code decides by its input, or draws random numbers"
    remedy = "what depends on the input must be computed by layers"
    raise NotImportable([Reason(module="", what="forward", why=why, remedy=remedy), *first.read_out])


def notes_of(recording: Recording, description: Description, proofs: Mapping[str, Proof]) -> list[str]:
    notes = []
    if recording.read_out:
        places = sorted({f"{reason.module or 'forward'} ({reason.what})" for reason in recording.read_out})
        notes.append(
            f"its code reads numbers out of tensors: {', '.join(places)}. Both examples took the same way through it; "
            "what it does where it decides otherwise is not read"
        )
    silent = [
        layers[0].layer
        for layers in zip(*(proof.layers for proof in proofs.values()), strict=True)
        if not any(layer.spikes for layer in layers)
    ]
    if silent:
        notes.append(f"no neuron of {', '.join(silent)} spiked on the examples: give one that is like the data")
    differ = sum(proof.differ for proof in proofs.values())
    if differ:
        steps = sum(proof.neuron_steps for proof in proofs.values())
        notes.append(
            f"{differ} of {steps:,} spikes differ, where a potential is at its threshold: rounding breaks ties"
        )
    return [*notes, *map(str, description.joined)]
