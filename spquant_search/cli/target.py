"""One number in, a network out: a search within so much memory, and the pick and check of its best network."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from spquant_search.cli.deployment import pick_member, show_verification
from spquant_search.cli.exit_codes import EXIT_INTERRUPTED, EXIT_MISMATCH
from spquant_search.cli.faults import PROGRAM
from spquant_search.commands.budgets import read_quantity
from spquant_search.commands.verifying import compare_all
from spquant_search.errors import Problem, SpaceError, UserError

if TYPE_CHECKING:
    from spquant_search.deploy.artifact import Artifact
    from spquant_search.deploy.verify import Verification
    from spquant_search.report.pick_reasons import Wish
    from spquant_search.runs.folder import RunFolder
    from spquant_search.runs.selection import Budget
    from spquant_search.training.prepared import Prepared

OPTION, OUT = "--target", Path("picked")
_KEY = "constraints.memory_bytes"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The most memory that the network may take, and the new folder that it is written to."""

    text: str  # as it was given
    memory_bytes: int
    out: Path
    replaces: float | None = None  # the bytes that the space file allows itself, where it says another number

    @property
    def words(self) -> str:
        return f"{OPTION} {self.text}"

    @property
    def override(self) -> str:
        """Return the override of a space file that makes it the search's constraint."""
        return f"{_KEY}={self.memory_bytes}"

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what is to be told when the search begins."""
        if self.replaces is None:
            return ()
        return (f"{self.words}: replaces the {self.replaces:,.0f} bytes of {_KEY} in the space file",)


def read_target(
    text: str | None, out: Path | None, *, space: Path, overrides: Sequence[str], is_preset: bool
) -> Target | None:
    """Read --target and --out; None without them.

    Raises:
        UserError: one of them is missing or wrong, or contradicts another option.
    """
    from spquant_search.runs.drafts import require_new_folder

    if text is None:
        if out is not None:
            example = f"give {OPTION} too, or pick after the search: {PROGRAM} pick RUN --out {shlex.quote(str(out))}"
            raise UserError(f"--out {out}: is where {OPTION} writes its network; {example}")
        return None
    size = int(read_quantity(text, "bytes", OPTION))
    target = Target(text=text, memory_bytes=size, out=out or OUT, replaces=_other_bound(size, space, overrides))
    if is_preset:
        raise UserError(f"{target.words}: --preset trains one configuration, whatever it takes; give one of the two")
    given = [words for words in overrides if words.partition("=")[0].strip() in (_KEY, _KEY.partition(".")[0])]
    if target.replaces is not None and given:
        raise UserError(
            f"{target.words}: is {size:,} bytes, and --set {given[-1]} says {target.replaces:,.0f} for the same "
            "constraint; give one of the two"
        )
    require_new_folder(target.out)
    return target


def _other_bound(size: int, space: Path, overrides: Sequence[str]) -> float | None:
    from spquant_search.space.reading import read_space

    found = read_space(space, overrides).constraints.memory_bytes
    return None if found == size else found


def prepare_within(target: Target, space: Path, overrides: Sequence[str], *, run: RunFolder) -> Prepared:
    """Prepare a search of a run within a target, the last of the overrides.

    Raises:
        UserError: a problem of the space, or no configuration keeps the target, which is said of what was written, not
            of the constraint that it became.
    """
    from spquant_search.space.reading import read_space
    from spquant_search.training.importing import with_imported_network
    from spquant_search.training.prepare import bind_network

    file = with_imported_network(read_space(space, overrides), source=str(space), run=run)
    try:
        return bind_network(file, source=str(space))
    except SpaceError as error:
        if all(problem.key != _KEY for problem in error.problems):
            raise
        meant = ""
        if re.fullmatch(r"[\d.]+", target.text):
            with suppress(SpaceError):
                meant_file = read_space(space, [*overrides, f"{_KEY}={target.text}KiB"])
                bind_network(replace(meant_file, model=file.model), source=str(space))
                meant = f". Did you mean {target.text}KiB?"
        problems = [
            Problem(target.words, f"{problem.sentence}{meant}") if problem.key == _KEY else problem
            for problem in error.problems
        ]
        if len(problems) == 1:
            raise UserError(str(problems[0])) from None
        raise SpaceError(error.source, problems) from None


def require_deployable(target: Target, prepared: Prepared, folder: RunFolder) -> None:
    """Refuse, before a search, a network that could not be written at its end, or a place that the run takes.

    Raises:
        UserError: says why.
    """
    if prepared.no_integer_form:
        raise UserError(
            f"{target.words}: no configuration of this space could be written for a device, as "
            f"{prepared.no_integer_form}; search it without {OPTION}"
        )
    out, run = target.out.resolve(), folder.path.resolve()
    if out in (run, *run.parents) or run in out.parents:
        raise UserError(
            f"--out {target.out}: belongs to the run, which takes the folder {folder.path}; give --out another folder"
        )


def write_target(target: Target, folder: RunFolder) -> None:
    """Pick the most accurate network within the target from a searched run, verify it, and say what it is.

    Raises:
        UserError: no member of the front fits.
        typer.Exit: the network was not verified, or Ctrl-C interrupted it.
    """
    from spquant_search.runs.records import read_frozen_space
    from spquant_search.runs.selection import Budget

    out, run = shlex.quote(str(target.out)), shlex.quote(str(folder.path))
    todo = f"pick {run} --max-memory {shlex.quote(target.text)} --out {out}"
    try:
        pick_member(folder, target.out, _wish(target, Budget.of(read_frozen_space(folder).constraints)))
        todo = f"verify {out}"
        artifact, found = compare_all(target.out)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted. The search is done; go on with: {PROGRAM} {todo}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    show_verification(artifact, found)
    for line in _last_lines(target, artifact, found):
        typer.echo(line)
    if not found.holds:
        sys.exit(EXIT_MISMATCH)


def _wish(target: Target, budget: Budget) -> Wish:
    """Return what `pick` is asked for: the target, and whatever else the run's constraints say."""
    from spquant_search.report.budget_words import figure_text
    from spquant_search.report.pick_reasons import Wish

    options = {name: f"constraints.{name} {figure_text(name, bound)}" for name, bound in budget.as_dict().items()}
    return Wish(budget=budget, options=options | {"memory_bytes": target.words})


def _last_lines(target: Target, artifact: Artifact, found: Verification) -> Iterator[str]:
    """Say what was chosen, how good and how large it is, who agrees on it, and what comes next."""
    from spquant_search.report.numbers import percent

    tested = "" if artifact.test_accuracy is None else f", {percent(artifact.test_accuracy)} % on test"
    yield (
        f"chosen: trial {artifact.trial} of {artifact.run}: {percent(artifact.accuracy)} % on validation{tested}; "
        f"{artifact.memory_bytes:,} of {target.memory_bytes:,} bytes; with the engine, flash {artifact.flash_bytes:,} "
        f"and RAM {artifact.ram_bytes:,} bytes"
    )
    first, *others = ("numpy", *found.mismatches)
    who = f"{', '.join([*others[:-1], first])} and {others[-1]}" if len(others) > 1 else f"{others[0]} and {first}"
    on = "samples of the test split" if found.of_test_split else "stored test vectors"
    if not found.holds:
        yield f"NOT VERIFIED: {who} differ, or the C does not compile, as said above; do not deploy {target.out}"
        return
    without = "" if "C" in found.mismatches else "; C was not run, as said above"
    yield f"verified: {who} agree on every spike and logit of {found.samples:,} {on}{without}"
    out = shlex.quote(str(target.out))
    yield f"next: {out}/README.md says how a device makes frames and runs it; cc -std=c99 -Os -c {out}/model.c"
