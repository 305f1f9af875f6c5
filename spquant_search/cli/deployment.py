"""Commands on the way to a device: pick a member of a front, verify what was picked."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spquant_search.cli.exit_codes import EXIT_MISMATCH
from spquant_search.cli.expected import require_picked
from spquant_search.cli.options import BUDGET_OPTIONS, JsonOption, RunArgument, parse_bound
from spquant_search.cli.terminal import load_shown
from spquant_search.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spquant_search.data.loading import DataSet
    from spquant_search.deploy.artifact import Artifact
    from spquant_search.report.stages import Stage
    from spquant_search.runs.folder import RunFolder
    from spquant_search.runs.results import TrialResult
    from spquant_search.runs.selection import Budget
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
    min_accuracy: Annotated[float | None, typer.Option(min=0, max=1, help="Validation accuracy, a fraction.")] = None,
    max_flops: Annotated[
        str | None, typer.Option(help="Effective FLOPs (2 per MAC) a sample, for example 60M.")
    ] = None,
    knee: Annotated[bool, typer.Option("--knee", help="The balanced member instead of the most accurate one.")] = False,
) -> None:
    """Write a member of the front as an integer network in C.

    The folder also holds what numpy and PyTorch need to check it.
    """
    from spquant_search.runs.folder import find_run
    from spquant_search.runs.selection import Budget

    folder = find_run(run)
    budget = Budget(
        max_memory_bytes=parse_bound(max_memory, "--max-memory"),
        max_flash_bytes=parse_bound(max_flash, "--max-flash"),
        max_ram_bytes=parse_bound(max_ram, "--max-ram"),
        min_accuracy=min_accuracy,
        max_effective_flops=parse_bound(max_flops, "--max-flops"),
    )
    if trial is not None and (budget or knee):
        raise UserError("--trial names the member to take; omit the budgets and --knee")
    _pick(folder, out, budget, trial=trial, knee=knee)


def _pick(folder: RunFolder, out: Path, budget: Budget, *, trial: int | None, knee: bool) -> None:
    from spquant_search.deploy.artifact import write_artifact
    from spquant_search.deploy.deployable import float_parts
    from spquant_search.runs.finals import read_latest_test_accuracies
    from spquant_search.runs.records import read_frozen_space
    from spquant_search.runs.selection import pick as choose
    from spquant_search.training.prepare import bind_network

    file = read_frozen_space(folder)
    members = _front_of(folder, file)
    prepared = bind_network(file, source=str(folder.space_file))
    if trial is None:
        fitting, deployable = members, tuple(member for member in members if not float_parts(prepared, member))
    else:
        fitting = deployable = _named_member(trial, members, folder)
    wanted, member = choose(fitting, budget, at_knee=knee), choose(deployable, budget, at_knee=knee)
    if member is None:
        raise UserError(_nothing_to_write(prepared, deployable, budget, wanted))
    frames = _vector_frames(prepared)
    tested = read_latest_test_accuracies(folder).get(member.number)
    write_artifact(folder, file, member, out, test_accuracy=tested, shape=prepared.input, frames=frames)
    _explain(member, members, out)
    if wanted is not None and wanted is not member:
        floats = _floats_words(float_parts(prepared, wanted))
        typer.echo(f"  not taken: trial {wanted.number} ({_figures(wanted)}), which keeps {floats}")


def _front_of(folder: RunFolder, file: SpaceFile) -> Members:
    from spquant_search.runs.finals import read_latest_results
    from spquant_search.runs.selection import Budget, front

    members = front(read_latest_results(folder), Budget.of(file.constraints))
    if not members:
        raise UserError(f"{folder.path}: no trial of this run is complete yet; start its search again")
    return members


def _named_member(number: int, members: Members, folder: RunFolder) -> Members:
    named = tuple(member for member in members if member.number == number)
    if not named:
        numbers = ", ".join(str(member.number) for member in members)
        raise UserError(f"--trial: {number} is not on the front of {folder.path}; its members are {numbers}")
    return named


def _nothing_to_write(prepared: Prepared, deployable: Members, budget: Budget, wanted: TrialResult | None) -> str:
    """Explain why no member is written; ``wanted`` fits the budget and keeps floats."""
    from spquant_search.deploy.deployable import float_parts

    if not deployable:
        return (
            "no member of the front has a form in integers: all keep float weights or membranes; "
            "search with fewer bits and levels"
        )
    words = _nothing_fits(deployable, budget)
    if wanted is None:
        return words
    return f"{words}. Trial {wanted.number} fits, but keeps {_floats_words(float_parts(prepared, wanted))}"


def _floats_words(floats: dict[str, str]) -> str:
    first = next(iter(floats))
    others = f" and {len(floats) - 1} more" if len(floats) > 1 else ""
    return f"{floats[first]} in {first}{others}"


def _nothing_fits(members: Members, budget: Budget) -> str:
    from spquant_search.runs.selection import nearest

    near = nearest(members, budget)
    missed = ", ".join(f"{BUDGET_OPTIONS[name]} {_miss_words(share)}" for name, share in budget.excess(near).items())
    return (
        f"no member of the front fits. Nearest is trial {near.number} ({_figures(near)}), which misses {missed}; "
        "relax that, or search longer"
    )


def _miss_words(share: float) -> str:
    """Say how far a budget is missed; without a number where the run does not say what a device takes."""
    return "(its run does not say)" if math.isinf(share) else f"by {math.ceil(100 * share)} %"


def _figures(member: TrialResult) -> str:
    flops = member.effective_flops / 1e6
    return f"{100 * member.accuracy:.1f} %, {member.memory_bytes / 1024:.1f} KiB, {flops:.1f} MFLOPs"


def _explain(member: TrialResult, members: Members, out: Path) -> None:
    """Print the member that was taken and its neighbours on the front, which is sorted by memory."""
    typer.echo(f"trial {member.number} of {len(members)} members of the front: {_figures(member)} -> {out}")
    place = members.index(member)
    smaller, larger = members[max(0, place - 1) : place], members[place + 1 : place + 2]
    for word, neighbours in (("smaller", smaller), ("larger", larger)):
        for neighbour in neighbours:
            points = 100 * (neighbour.accuracy - member.accuracy)
            typer.echo(f"  next {word}: trial {neighbour.number} ({_figures(neighbour)}), {points:+.1f} points")


def _vector_frames(prepared: Prepared) -> NDArray[np.uint8]:
    """Return the frames of the test vectors, made up where the data's files are absent."""
    from spquant_search.deploy.vectors import first_test_frames, made_up_frames

    file = prepared.space.file
    try:
        return first_test_frames(_recordings(file))
    except UserError as error:
        typer.echo(f"note: the test vectors are made-up frames, as the data is not there: {error}", err=True)
        return made_up_frames(prepared.input, time_steps=file.time_steps)


def _recordings(file: SpaceFile) -> DataSet:
    with _bars_on_terminal() as stage:
        return load_shown(file, stage)


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

    Every spike and every logit on the test split must be equal.
    """
    from rich.console import Console

    from spquant_search.deploy.artifact import read_artifact
    from spquant_search.deploy.reference import DamagedArtifact, read_manifest
    from spquant_search.deploy.verification_report import verification_dict, verification_lines
    from spquant_search.deploy.verify import verify as compare
    from spquant_search.space.shapes import InputShape

    require_picked(folder)
    try:
        manifest = read_manifest(folder)
    except DamagedArtifact as error:
        raise UserError(f"{error}; write the folder again with spquant-search pick") from None
    artifact = read_artifact(folder)
    shape = InputShape(**manifest["input"])
    frames, labels, note = _samples_of(artifact, folder, samples)
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
    if as_json:
        typer.echo(json.dumps(verification_dict(found, artifact), indent=2))
    else:
        console = Console(soft_wrap=True)
        for line in verification_lines(found, artifact):
            console.print(line)
    if not found.holds:
        sys.exit(EXIT_MISMATCH)


def _samples_of(
    artifact: Artifact, folder: Path, samples: int | None
) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None, str]:
    """Return the frames to compare on, labels where they are of the test split, and a note where they are not."""
    import numpy as np

    from spquant_search.deploy.reference import VECTORS_FILE

    try:
        loaded = _recordings(artifact.space())
    except UserError as error:
        with np.load(folder / VECTORS_FILE) as vectors:
            return vectors["frames"], None, f"compared on the stored test vectors alone: {error}"
    limit = slice(samples)
    return loaded.test.frames[limit], loaded.test.labels[limit], ""
