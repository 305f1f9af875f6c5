"""Commands on the way to a device: pick a member of a front, verify what was picked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spquant_search.cli.completion import complete_target
from spquant_search.cli.exit_codes import EXIT_MISMATCH
from spquant_search.cli.expected import require_picked
from spquant_search.cli.options import JsonOption, RunArgument
from spquant_search.commands.budgets import PICK_OPTIONS, wish_of
from spquant_search.commands.picking import choose_member, has_better, write_choice
from spquant_search.commands.verifying import compare_all, emulate_on
from spquant_search.errors import UserError

if TYPE_CHECKING:
    from spquant_search.deploy.artifact import Artifact
    from spquant_search.deploy.c_names import CNames
    from spquant_search.deploy.verify import Verification
    from spquant_search.report.pick_reasons import Wish
    from spquant_search.runs.folder import RunFolder


def pick(  # noqa: PLR0913 - one parameter an option
    run: RunArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new folder to write.")],
    trial: Annotated[int | None, typer.Option(min=0, help="This member of the front, whatever its figures.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="For example 64KiB.")] = None,
    max_flash: Annotated[str | None, typer.Option(help="Weights, overhead and the engine's code.")] = None,
    max_ram: Annotated[str | None, typer.Option(help="Input frame, membranes, spikes between layers, sums.")] = None,
    max_flops: Annotated[
        str | None, typer.Option(help="Effective FLOPs (2 per MAC) a sample, for example 60M.")
    ] = None,
    max_synaptic_ops: Annotated[
        str | None, typer.Option(help="Operations of non-zero inputs a sample, for example 20M.")
    ] = None,
    max_energy: Annotated[str | None, typer.Option(help="Microjoules a sample, estimated, for example 1.5.")] = None,
    min_accuracy: Annotated[str | None, typer.Option(help="Validation accuracy, such as 0.95 or 95%.")] = None,
    knee: Annotated[bool, typer.Option("--knee", help="The balanced member instead of the most accurate one.")] = False,
    prefix: Annotated[str, typer.Option(help="Its names in C begin so: one each for several networks.")] = "spq",
) -> None:
    """Write a member of the front as an integer network in C.

    The folder also holds what numpy and PyTorch need to check it. Before it is written, all three must agree on the
    test vectors.
    """
    from spquant_search.deploy.c_names import names_with
    from spquant_search.runs.folder import find_run

    folder, names = find_run(run), names_with(prefix)
    given = {
        "memory_bytes": max_memory,
        "flash_bytes": max_flash,
        "ram_bytes": max_ram,
        "effective_flops": max_flops,
        "synaptic_ops": max_synaptic_ops,
        "energy_uj": max_energy,
        "accuracy": min_accuracy,
    }
    wish = wish_of(given, PICK_OPTIONS)
    if trial is not None and (wish.budget or knee):
        raise UserError("--trial names the member to take; omit the budgets and --knee")
    pick_member(folder, out, wish, trial=trial, knee=knee, names=names)


def pick_member(
    folder: RunFolder,
    out: Path,
    wish: Wish,
    *,
    trial: int | None = None,
    knee: bool = False,
    names: CNames | None = None,
) -> None:
    """Write a member of a run's front to the new folder ``out``, and print what was chosen.

    Raises:
        UserError: no member fits the wish, or the one that does cannot be written.
    """
    from spquant_search.deploy.artifact import MissingWeights
    from spquant_search.report.pick_reasons import member_figures
    from spquant_search.report.picked import picked_lines

    choice = choose_member(folder, wish, trial=trial, knee=knee)
    try:
        artifact, steps = write_choice(choice, out, note=_note, names=names)
    except MissingWeights:
        if not has_better(choice):
            raise
        # A command that works on the run has better ones by now.
        pick_member(folder, out, wish, trial=trial, knee=knee, names=names)
        return
    for line in picked_lines(
        choice.summary,
        choice.member,
        str(out),
        time_steps=steps,
        origin=choice.origin_words,
        frame_bytes=artifact.frame_bytes,
        wish=wish,
    ):
        typer.echo(line)
    if floats := choice.floats_words:
        assert choice.wanted is not None
        figures = member_figures(choice.summary, choice.wanted)
        typer.echo(f"  not taken: trial {choice.wanted.number} ({figures}), which keeps {floats}")


def _note(words: str) -> None:
    typer.echo(f"note: {words}", err=True)


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What pick wrote.")],
    samples: Annotated[int | None, typer.Option(min=1, help="Of the test split, the first so many.")] = None,
    emulate: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET",
            help="Run the C in an emulator: cortex-m0+, cortex-m4, cortex-m7, cortex-m33, cortex-m55 or stm32f405.",
            autocompletion=complete_target,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a picked network in PyTorch, numpy and C.

    Every spike and every logit on the test split must be equal. The C that lies in DIR is compiled and run.

    With --emulate the C is compiled for a Cortex-M and run in QEMU instead, on the test vectors or on as many samples
    as are given, and compared with numpy: instructions, flash, RAM and stack are shown, too.
    """
    require_picked(folder)
    if emulate is not None:
        _verify_emulated(folder, emulate, samples=samples, as_json=as_json)
        return
    from spquant_search.deploy.verification_report import verification_dict

    artifact, found = compare_all(folder, samples=samples)
    if as_json:
        typer.echo(json.dumps(verification_dict(found, artifact), indent=2))
    else:
        show_verification(artifact, found)
    if not found.holds:
        sys.exit(EXIT_MISMATCH)


def _verify_emulated(folder: Path, name: str, *, samples: int | None, as_json: bool) -> None:
    """Compare a picked network with its C on an emulated processor, and print what was found."""
    from rich.console import Console

    from spquant_search.deploy.emulator.emulation_report import emulation_dict, emulation_lines
    from spquant_search.deploy.emulator.targets import target_of

    artifact, found = emulate_on(target_of(name), folder, samples=samples)
    if as_json:
        typer.echo(json.dumps(emulation_dict(found, artifact), indent=2))
    else:
        console = Console(markup=False, emoji=False, highlight=False)
        for line in emulation_lines(found, artifact):
            console.print(line, soft_wrap=not console.is_terminal)
    if not found.holds:
        sys.exit(EXIT_MISMATCH)


def show_verification(artifact: Artifact, found: Verification) -> None:
    """Print what a comparison found."""
    from rich.console import Console

    from spquant_search.deploy.verification_report import verification_lines

    console = Console(soft_wrap=True, markup=False, emoji=False)  # names hold what they like
    for line in verification_lines(found, artifact):
        console.print(line)
