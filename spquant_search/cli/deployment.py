"""Commands on the way to a device: pick a member of a front, verify what was picked."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spquant_search.cli.exit_codes import EXIT_MISMATCH
from spquant_search.cli.expected import require_picked
from spquant_search.cli.options import BUDGET_OPTIONS, JsonOption, RunArgument, parse_bound, parse_share
from spquant_search.cli.terminal import load_shown
from spquant_search.errors import UserError
from spquant_search.space.objectives import ACCURACY

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spquant_search.data.loading import DataSet
    from spquant_search.deploy.artifact import Artifact
    from spquant_search.deploy.device_facts import DeviceFacts
    from spquant_search.deploy.vectors import Vectors
    from spquant_search.deploy.verify import Verification
    from spquant_search.report.pick_reasons import Wish
    from spquant_search.report.run_summary import RunSummary
    from spquant_search.report.stages import Stage
    from spquant_search.runs.folder import RunFolder
    from spquant_search.runs.results import TrialResult
    from spquant_search.space.schema import SpaceFile
    from spquant_search.training.prepared import Prepared

Members = tuple["TrialResult", ...]


def pick(  # noqa: PLR0913 - one parameter an option
    run: RunArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new folder to write.")],
    trial: Annotated[int | None, typer.Option(min=0, help="This member of the front, whatever its figures.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="For example 64KiB.")] = None,
    max_flash: Annotated[str | None, typer.Option(help="Weights, overhead and the engine's code.")] = None,
    max_ram: Annotated[str | None, typer.Option(help="Membranes, spikes between layers and sums.")] = None,
    max_flops: Annotated[
        str | None, typer.Option(help="Effective FLOPs (2 per MAC) a sample, for example 60M.")
    ] = None,
    max_synaptic_ops: Annotated[
        str | None, typer.Option(help="Operations of non-zero inputs a sample, for example 20M.")
    ] = None,
    max_energy: Annotated[str | None, typer.Option(help="Microjoules a sample, estimated, for example 1.5.")] = None,
    min_accuracy: Annotated[str | None, typer.Option(help="Validation accuracy, such as 0.95 or 95%.")] = None,
    knee: Annotated[bool, typer.Option("--knee", help="The balanced member instead of the most accurate one.")] = False,
) -> None:
    """Write a member of the front as an integer network in C.

    The folder also holds what numpy and PyTorch need to check it. Before it is written, all three must agree on the
    test vectors.
    """
    from spquant_search.runs.folder import find_run

    folder = find_run(run)
    given = {
        "memory_bytes": max_memory,
        "flash_bytes": max_flash,
        "ram_bytes": max_ram,
        "effective_flops": max_flops,
        "synaptic_ops": max_synaptic_ops,
        "energy_uj": max_energy,
        "accuracy": min_accuracy,
    }
    wish = _wish(given)
    if trial is not None and (wish.budget or knee):
        raise UserError("--trial names the member to take; omit the budgets and --knee")
    pick_member(folder, out, wish, trial=trial, knee=knee)


def _wish(given: Mapping[str, str | None]) -> Wish:
    """Return what is wished from the words behind the options, by what they bound; raise UserError on other words."""
    from spquant_search.report.pick_reasons import Wish
    from spquant_search.runs.selection import Budget, bound_field

    options = {name: BUDGET_OPTIONS[name] for name in given}
    bounds = {
        bound_field(name): (parse_share if name == ACCURACY else parse_bound)(text, options[name])
        for name, text in given.items()
    }
    return Wish(budget=Budget(**bounds), options={name: f"{options[name]} {text}" for name, text in given.items()})


def pick_member(folder: RunFolder, out: Path, wish: Wish, *, trial: int | None = None, knee: bool = False) -> None:
    """Write a member of a run's front to the new folder ``out``, and print what was chosen.

    Raises:
        UserError: no member fits the wish, or the one that does cannot be written.
    """
    from spquant_search.deploy.artifact import MissingWeights
    from spquant_search.report.pick_reasons import member_figures
    from spquant_search.report.picked import picked_lines
    from spquant_search.report.run_summary import summarize_run
    from spquant_search.runs.records import read_frozen_space
    from spquant_search.runs.selection import pick as choose
    from spquant_search.training.prepare import bind_network

    file, summary = read_frozen_space(folder), summarize_run(folder)
    if not summary.front:
        raise UserError(f"{folder.path}: no trial of this run is complete yet; start its search again")
    members = summary.front if trial is None else _named_member(trial, summary, folder)
    prepared = bind_network(file, source=str(folder.space_file))
    prepared.require_network_of(folder)
    can_be_picked = summary.pickable
    fitting = tuple(member for member in members if member in can_be_picked)
    wanted, member = (choose(some, summary.costs, wish.budget, at_knee=knee) for some in (members, fitting))
    if member is None:
        raise UserError(_nothing_to_write(prepared, summary, members, fitting, wish))
    try:
        steps = _write_member(folder, out, member, file=file, prepared=prepared, summary=summary)
    except MissingWeights:
        if summarize_run(folder).front == summary.front:
            raise
        pick_member(folder, out, wish, trial=trial, knee=knee)  # a command that works on the run has better ones by now
        return
    for line in picked_lines(summary, member, str(out), time_steps=steps):
        typer.echo(line)
    if wanted is not None and not wanted.has_integer_form:
        floats = _floats_words(prepared, wanted)
        figures = member_figures(summary, wanted)
        typer.echo(f"  not taken: trial {wanted.number} ({figures}), which keeps {floats}")


def _write_member(
    folder: RunFolder, out: Path, member: TrialResult, *, file: SpaceFile, prepared: Prepared, summary: RunSummary
) -> str:
    """Write a member with its test vectors, and return its time steps in words where they are fewer than the most."""
    from spquant_search.deploy.artifact import write_artifact
    from spquant_search.deploy.device_facts import device_facts
    from spquant_search.runs.records import read_facts

    time_steps = member.config.time_steps
    facts = device_facts(prepared.space.file, read_facts(folder).classes, time_steps=time_steps)
    write_artifact(
        folder,
        file,
        member,
        out,
        samples=summary.samples_of(member),
        test_accuracy=summary.test_accuracy.get(member.number),
        test_samples=summary.test_samples,
        shape=prepared.input,
        vectors=_vectors(prepared, facts, time_steps=time_steps),
        facts=facts,
        note=_note,
    )
    return facts.steps_words(time_steps) if facts.fewer_steps else ""


def _named_member(number: int, summary: RunSummary, folder: RunFolder) -> Members:
    from spquant_search.report.pick_reasons import why_not_on_the_front

    named = tuple(member for member in summary.front if member.number == number)
    if not named:
        numbers = ", ".join(str(member.number) for member in summary.front)
        raise UserError(
            f"--trial {number}: is not on the front of {folder.path}: {why_not_on_the_front(summary, number)}; "
            f"the members of the front are {numbers}"
        )
    return named


def _nothing_to_write(
    prepared: Prepared, summary: RunSummary, members: Members, deployable: Members, wish: Wish
) -> str:
    """Explain why none of these members is written, of which some can be deployed, perhaps."""
    from spquant_search.costs.extremes import smallest_figures
    from spquant_search.report.pick_advice import why_nothing_is_pickable
    from spquant_search.report.pick_reasons import member_figures, why_nothing_fits
    from spquant_search.runs.selection import within

    if not deployable and len(members) < len(summary.front) and not summary.no_integer_form:
        return (
            f"trial {members[0].number} cannot be written in integers: it keeps {_floats_words(prepared, members[0])}"
        )
    if not deployable:
        return f"nothing on the front can be picked: {why_nothing_is_pickable(summary)}"
    smallest = smallest_figures(prepared.space, prepared.shapes, prepared.architecture)
    words = why_nothing_fits(summary, deployable, wish, smallest=smallest)
    for kept in within(members, wish.budget):
        figures = member_figures(summary, kept)
        words += f"\nTrial {kept.number} ({figures}) fits, but keeps {_floats_words(prepared, kept)}"
    return words


def _floats_words(prepared: Prepared, member: TrialResult) -> str:
    """Say what a member keeps in floating point, and where first."""
    from spquant_search.deploy.deployable import float_parts

    floats = float_parts(prepared, member)
    if not floats:
        return "floats"
    first, *others = floats
    return f"{floats[first]} in {first}" + (f" and {len(others)} more" if others else "")


def _note(words: str) -> None:
    typer.echo(f"note: {words}", err=True)


def _vectors(prepared: Prepared, facts: DeviceFacts, *, time_steps: int) -> Vectors:
    """Return the test vectors at a network's time steps, made up where the data is absent or its classes are others."""
    from spquant_search.deploy.vectors import first_test_samples, made_up_vectors

    file = prepared.space.file
    try:
        return first_test_samples(_recordings(file, facts.classes), time_steps=time_steps)
    except UserError as error:
        _note(f"the test vectors are made-up frames, not those of the data: {error}")
        made = 1 if facts.same_frame else file.most_time_steps
        return made_up_vectors(prepared.input, frames=made, time_steps=time_steps)


def _recordings(file: SpaceFile, classes: Sequence[str]) -> DataSet:
    """Load the data; raise UserError where it is not there, or no longer has these classes."""
    from spquant_search.runs.opening import changed_classes

    with _bars_on_terminal() as stage:
        loaded = load_shown(file, stage)
    if change := changed_classes(classes, loaded.classes):
        raise UserError(f"the classes of {file.data.name} are not those that the network was trained for: {change}")
    return loaded


@contextmanager
def _bars_on_terminal() -> Iterator[Stage]:
    """Show stages on a terminal's standard error, and nowhere else."""
    from rich.console import Console

    from spquant_search.report.stages import stages

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _text, _done, _total: None
        return
    with stages(console) as stage:
        yield stage


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What pick wrote.")],
    samples: Annotated[int | None, typer.Option(min=1, help="Of the test split, the first so many.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a picked network in PyTorch, numpy and C.

    Every spike and every logit on the test split must be equal. The C that lies in DIR is compiled and run.
    """
    from spquant_search.deploy.verification_report import verification_dict

    require_picked(folder)
    artifact, found = compare_all(folder, samples=samples)
    if as_json:
        typer.echo(json.dumps(verification_dict(found, artifact), indent=2))
    else:
        show_verification(artifact, found)
    if not found.holds:
        sys.exit(EXIT_MISMATCH)


def compare_all(folder: Path, *, samples: int | None = None) -> tuple[Artifact, Verification]:
    """Compare a picked network's implementations on the test split, or on the first ``samples`` of it.

    Raises:
        UserError: the folder's files are not those that were written.
    """
    from spquant_search.deploy.artifact import read_artifact
    from spquant_search.deploy.verify import verify as compare
    from spquant_search.deploy.weights_file import DamagedArtifact, read_manifest
    from spquant_search.space.shapes import InputShape

    try:
        manifest = read_manifest(folder)
    except DamagedArtifact as error:
        raise UserError(f"{error}; write the folder again with spquant-search pick") from None
    artifact = read_artifact(folder)
    shape = InputShape(**manifest["input"])
    frames, labels, note = _samples_of(artifact, folder, samples, classes=manifest["classes"])
    with _bars_on_terminal() as stage:
        found = compare(
            folder,
            artifact,
            frames,
            labels,
            shape=shape,
            progress=lambda done, total: stage("comparing spikes", done, total),
        )
    if note:
        found.notes.insert(0, note)
    return artifact, found


def show_verification(artifact: Artifact, found: Verification) -> None:
    """Print what a comparison found."""
    from rich.console import Console

    from spquant_search.deploy.verification_report import verification_lines

    console = Console(soft_wrap=True, markup=False, emoji=False)  # names hold what they like
    for line in verification_lines(found, artifact):
        console.print(line)


def _samples_of(
    artifact: Artifact, folder: Path, samples: int | None, *, classes: Sequence[str]
) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None, str]:
    """Return the frames to compare on, labels where they are of the test split, and a note where they are not."""
    import numpy as np

    from spquant_search.deploy.weights_file import VECTORS_FILE

    try:
        loaded = _recordings(artifact.space(), classes)
    except UserError as error:
        with np.load(folder / VECTORS_FILE) as vectors:
            return vectors["frames"], None, f"compared on the stored test vectors alone: {error}"
    limit = slice(samples)
    return loaded.test.frames[limit], loaded.test.labels[limit], ""
