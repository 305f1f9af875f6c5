"""The command without a name: search a space, and write what came out of it."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from spquant_search import __version__
from spquant_search.cli.completion import complete_run, complete_space
from spquant_search.cli.exit_codes import EXIT_USER
from spquant_search.cli.expected import find_space_file
from spquant_search.cli.options import DeviceOption, SetOption, StorageOption, WorkersOption, as_overrides
from spquant_search.cli.reports import show_reports
from spquant_search.cli.secrets import command_line
from spquant_search.cli.target import Target, prepare_within, read_target, require_deployable, write_target
from spquant_search.cli.terminal import show_table
from spquant_search.cli.usage import misplaced_options, missing_space
from spquant_search.commands.searching import SearchOrder, begin_command, run_order
from spquant_search.errors import UserError
from spquant_search.space.presets import Preset, preset_values


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"spquant-search {__version__}")
        raise typer.Exit


_SpaceOption = Annotated[
    Path | None,
    typer.Option(
        "--space",
        metavar="FILE",
        help="The space file: what to search; or a name that the command spaces lists.",
        autocompletion=complete_space,
    ),
]
_RunOption = Annotated[
    str | None,
    typer.Option(
        help="The run's name or path (default: the space file's name, and the preset's).", autocompletion=complete_run
    ),
]
_PresetOption = Annotated[
    Preset | None, typer.Option(help="Search nothing: train the float baseline and this configuration alone.")
]
_TargetOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="The most memory that the network may take, such as 64KiB: search, pick and verify in one.",
    ),
]
_OutOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The new folder that --target writes (default: picked).")
]
_VersionOption = Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Search:
    """A search as the command line asks for it."""

    space: Path
    overrides: list[str]
    run: str
    device: str
    workers: int | None  # AUTO: by cores and memory; any other number stands in the overrides too
    minutes: float | None
    storage: str | None
    profile: bool
    baseline_only: bool
    target: Target | None


def search(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    space: _SpaceOption = None,
    run: _RunOption = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials besides the baseline.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Begin no trial after so many minutes.")] = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the whole search.")] = None,
    preset: _PresetOption = None,
    target: _TargetOption = None,
    out: _OutOption = None,
    storage: StorageOption = None,
    profile: Annotated[bool, typer.Option("--profile", help="Show where every second went.")] = False,
    overrides: SetOption = None,
    version: _VersionOption = False,
) -> None:
    """Search how few bits and how few operations a spiking network needs.

    It tries per-layer weight bits, membrane levels and sparsity thresholds, and numbers of time steps, and leaves the
    Pareto front of accuracy, memory and operations in runs/NAME. The same command again resumes an interrupted search.
    With --target the most accurate network within so much memory is also written as integers in C, and verified.
    """
    del version
    if context.invoked_subcommand is not None:
        if sys.argv[1:] and sys.argv[1].startswith("-"):
            raise misplaced_options(sys.argv[1:], context.command)
        return
    space = _required_space(space, context)
    _check_minutes(minutes)
    if preset is not None and trials is not None:
        raise UserError(f"--trials {trials}: --preset {preset} trains one configuration; give one of the two")
    given = overrides or []
    wanted = read_target(target, out, space=space, overrides=given, is_preset=preset is not None)
    alone = [] if preset is None else _preset_alone(preset, space, given)
    bounds = [] if wanted is None else [wanted.override]
    _run(
        _Search(
            space=space,
            overrides=[*given, *alone, *as_overrides(trials=trials, workers=workers or None, seed=seed), *bounds],
            run=run or (space.stem if preset is None else f"{space.stem}-{preset}"),
            device=device,
            workers=workers,
            minutes=minutes,
            storage=storage,
            profile=profile,
            baseline_only=preset is Preset.SNN_BL,
            target=wanted,
        )
    )


def _required_space(space: Path | None, context: typer.Context) -> Path:
    """Return the space file; without any word there is help, and with some UserError."""
    if space is not None:
        return find_space_file(space)
    if len(sys.argv) > 1:
        raise missing_space(sys.argv[1:])
    typer.echo(context.get_help())
    raise typer.Exit(EXIT_USER)


def _check_minutes(minutes: float | None) -> None:
    if minutes is not None and not math.isfinite(minutes):
        raise UserError(
            f"--minutes {minutes}: must be a finite number, such as --minutes 30; without it there is no limit"
        )


def _preset_alone(preset: Preset, space: Path, overrides: list[str]) -> list[str]:
    """Write overrides that leave one configuration to search, the preset's, whatever the file's choices are."""
    from spquant_search.space.reading import read_space

    file = read_space(space, overrides)
    layers = preset_values(preset, file.model.network)
    references = [] if preset is Preset.SNN_BL else [{"preset": preset}]  # the float baseline is trained in any case
    values = {
        "layers": {"all": layers},
        "time_steps": file.most_time_steps,
        "search.references": references,
        "search.trials": 1,
        "search.workers": 1,
        "search.strategy": "warm-start",  # nothing to share with
        "search.budget_ladder": 0,
    }
    return [f"{path}={json.dumps(value)}" for path, value in values.items()]


def _run(asked: _Search) -> None:
    from rich.console import Console

    from spquant_search.report.profile_table import profile_table
    from spquant_search.runs.folder import find_run
    from spquant_search.runs.records import read_profile

    started = begin_command()  # before torch is imported

    from spquant_search.training.prepare import prepare

    wanted = asked.target
    file, changes = asked.space, asked.overrides
    folder, console = find_run(asked.run), Console()
    run = {"run": folder}
    prepared = prepare(file, changes, **run) if wanted is None else prepare_within(wanted, file, changes, **run)
    if wanted is not None:
        require_deployable(wanted, prepared, folder)
    order = SearchOrder(
        prepared=prepared,
        folder=folder,
        command=command_line(),
        device=asked.device,
        workers=asked.workers,
        minutes=asked.minutes,
        storage=asked.storage,
        baseline_only=asked.baseline_only,
        remarks=() if wanted is None else wanted.remarks,
    )
    run_order(order, console=console, started=started)
    show_reports(folder, console, advises=wanted is None)
    if asked.profile:
        show_table(profile_table(read_profile(folder)), console)
    if wanted is not None:
        write_target(wanted, folder)
