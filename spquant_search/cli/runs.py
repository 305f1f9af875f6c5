"""Commands on a run: its front, its report, its finalists, its sensitivity analysis, its dashboard."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spquant_search.cli.exit_codes import EXIT_INTERRUPTED
from spquant_search.cli.expected import find_space_file
from spquant_search.cli.options import (
    DeviceOption,
    JsonOption,
    RunArgument,
    RunOption,
    RunsArgument,
    SeedOption,
    SetOption,
    SpaceOption,
    StorageOption,
    WorkersOption,
    as_overrides,
)
from spquant_search.cli.reports import show_reports, show_who_left, shown_front
from spquant_search.cli.secrets import command_line
from spquant_search.cli.terminal import show_table
from spquant_search.commands.loading import load_shown
from spquant_search.commands.reports import report_interrupted
from spquant_search.commands.searching import baseline_words
from spquant_search.commands.session import count_seconds, find_database, open_session, search_plan, shared_study
from spquant_search.commands.trainers import hire
from spquant_search.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from spquant_search.runs.folder import RunFolder
    from spquant_search.space.schema import SpaceFile
    from spquant_search.space.search_space import SearchSpace
    from spquant_search.training.prepared import Prepared


def front(
    runs: RunsArgument,
    trained: Annotated[
        bool, typer.Option("--trained", help="Only members that were trained at their own configuration.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the Pareto front of a run, finished or not; of several runs on the same data their joint front."""
    from rich.console import Console

    from spquant_search.report.data_files import front_document
    from spquant_search.report.run_summary import summarize_run
    from spquant_search.runs.folder import find_run

    if len(runs) > 1:
        _show_joint_front(runs, trained=trained, as_json=as_json)
        return
    folder = find_run(runs[0])
    summary = summarize_run(folder)
    if as_json:
        typer.echo(json.dumps(front_document(summary, trained_only=trained), indent=1))
    else:
        console = Console()
        show_table(shown_front(summary, folder, console, trained_only=trained), console)


def _show_joint_front(runs: list[str], *, trained: bool, as_json: bool) -> None:
    from rich.console import Console

    from spquant_search.report.joint_front import joint_document, joint_table
    from spquant_search.report.run_summary import summarize_run
    from spquant_search.runs.folder import find_run

    if trained:
        raise UserError("--trained is for the front of one run; give one RUN, or omit it")
    folders = [find_run(run) for run in runs]
    if len({folder.path.absolute() for folder in folders}) < len(folders):
        raise UserError(f"{' '.join(runs)}: names a run twice; give each once")
    summaries = [summarize_run(folder) for folder in folders]
    if as_json:
        typer.echo(json.dumps(joint_document(summaries), indent=1))
    else:
        show_table(joint_table(summaries), Console())


def report(
    run: RunArgument,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the page's figures there, too, as PNG and SVG.")
    ] = None,
) -> None:
    """Write a run's page, tables, figure and report again."""
    from rich.console import Console

    from spquant_search.commands.reports import write_run_figures
    from spquant_search.runs.folder import find_run

    folder, console = find_run(run), Console()
    summary = show_reports(folder, console)
    if figures is not None:
        names = write_run_figures(folder, summary, figures)
        console.print(f"Written to {figures}: {', '.join(names)}", markup=False, soft_wrap=True)


def finalize(
    run: RunArgument,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of every seed (default: three times final.epochs); at fewer time steps more, of as much work.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Each member is trained so often.")] = 3,
    members: Annotated[
        int | None, typer.Option(min=1, help="At most so many, those that add most to the front (default: all).")
    ] = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Train the front's members on with several seeds.

    The best weights of each member are kept. The same command again resumes.
    """
    from rich.console import Console

    from spquant_search.report.run_summary import summarize_run
    from spquant_search.runs.folder import find_run
    from spquant_search.runs.opening import exclusive
    from spquant_search.runs.records import read_frozen_space

    folder, started, console = find_run(run), time.monotonic(), Console()
    file = read_frozen_space(folder)
    if workers:  # AUTO is chosen later
        file = replace(file, search=replace(file.search, workers=workers))
    try:
        with exclusive(folder, note=_note), count_seconds(folder, started):
            before = summarize_run(folder).front
            failed = _fine_tune(
                folder, file, epochs=epochs, seeds=seeds, members=members, device=device, workers=workers
            )
    except KeyboardInterrupt:
        console.print("Interrupted. Nothing finished is lost: the same command goes on where it stopped.")
        report_interrupted(folder, console)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    show_reports(folder, console)
    show_who_left(before, folder, console)
    if failed:
        numbers = ", ".join(map(str, failed))
        raise UserError(f"{folder.path}: could not be fine-tuned: trial {numbers}; the same command tries again")


def _fine_tune(
    folder: RunFolder,
    file: SpaceFile,
    *,
    epochs: int | None,
    seeds: int,
    members: int | None,
    device: str,
    workers: int | None,
) -> tuple[int, ...]:
    """Fine-tune the finalists; return the numbers of those that failed."""
    from rich.console import Console

    from spquant_search.processes import keep_compiled_code
    from spquant_search.report.stages import stages
    from spquant_search.runs.files import cache_folder
    from spquant_search.runs.opening import require_same_classes
    from spquant_search.runs.records import add_trainers, read_facts

    keep_compiled_code(cache_folder())  # before torch is imported

    from spquant_search.driver.finalists import FineTuner, finalize_recipe, front_finalists
    from spquant_search.training.prepare import bind_network
    from spquant_search.workers.pool import TrainerPool

    finalists = front_finalists(folder, file, members=members, classes=len(read_facts(folder).classes))
    prepared = bind_network(file, source=str(folder.space_file))
    prepared.require_network_of(folder)
    hired = hire(prepared, device=device, workers=workers)
    for line in hired.lines:
        typer.echo(line, err=True)
    add_trainers(folder, hired.used)

    with stages(Console()) as stage:
        require_same_classes(folder, load_shown(file, stage).classes)
        pool = TrainerPool(hired.config, hired.used.count, warn=_note)
        try:
            return FineTuner(
                finalists,
                finalize_recipe(file, epochs=epochs, seeds=seeds),
                prepared=hired.prepared,
                folder=folder,
                pool=pool,
                stage=stage,
                warn=_note,
            ).run()
        finally:
            pool.close()


def _note(text: str) -> None:
    typer.echo(f"note: {text}", err=True)


def sensitivity(
    space: SpaceOption,
    run: RunOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what lower precision costs, layer by layer.

    One layer at a time is lowered, weights and membranes apart, in a supernet, and the time steps of the whole network
    where the space has several numbers of them. The supernet and the float baseline are those of the run, or trained
    first. The same command again resumes an interrupted analysis.
    """
    from rich.console import Console

    from spquant_search.processes import keep_compiled_code
    from spquant_search.runs.files import cache_folder
    from spquant_search.runs.folder import find_run
    from spquant_search.runs.opening import check_run, require_same_space
    from spquant_search.runs.records import read_sensitivity

    started = time.monotonic()
    space = find_space_file(space)
    keep_compiled_code(cache_folder())  # before torch is imported
    folder, console = find_run(run or space.stem), Console(stderr=as_json)
    changes = [*(overrides or []), *as_overrides(workers=workers or None, seed=seed)]
    prepared = _prepare_analysis(space, changes, folder)
    if folder.exists() and read_sensitivity(folder) is not None:
        require_same_space(folder, prepared.space.file)
    else:
        _refuse_shared_study(folder)
        check_run(folder, prepared.space.file)
        from spquant_search.driver.coordinator import run_sensitivity

        hired = hire(prepared, device=device, workers=workers)
        prepared = hired.prepared
        opened = open_session(hired, folder, command=command_line(), console=console, started=started)
        with opened as session:
            work = _analysis_work(prepared.space)
            session.watcher.plan(search_plan(prepared.space, folder, session, trials=0, work=work))
            for remark in prepared.remarks:
                session.watcher.warning(remark)
            run_sensitivity(prepared, folder, trainer_config=session.trainer_config, watcher=session.watcher)
    _show_sensitivity(folder, console, as_json=as_json)


def _prepare_analysis(space: Path, overrides: list[str], folder: RunFolder) -> Prepared:
    """Prepare the space of a run; raise UserError where no layer has a choice of precision."""
    from spquant_search.runs.sensitivity import lowered_configurations
    from spquant_search.training.prepare import prepare

    prepared = prepare(space, overrides, run=folder)
    if len(lowered_configurations(prepared.space)) == 1:
        raise UserError(
            f"{space}: layers: there is nothing to compare, as every layer has one choice of weight_bits and one of "
            "membrane_levels; give some layer several, such as weight_bits: [2, 4, 8]"
        )
    return prepared


def _refuse_shared_study(folder: RunFolder) -> None:
    """Raise UserError where the study lies in a database, whose locks this command knows nothing of."""
    from spquant_search.runs.records import read_shared_study

    if folder.exists() and read_shared_study(folder) is not None:
        raise UserError(
            f"{folder.path}: this run has no analysis, and as its study lies in a database only its search can make it "
            "(with search.budget_ladder above 0); go on with that search, or start a run of its own with --run NAME"
        )


def _analysis_work(space: SearchSpace) -> str:
    """Say in words all that an analysis will do."""
    from spquant_search.runs.sensitivity import lowered_configurations

    file, count = space.file, len(lowered_configurations(space))
    after = baseline_words(file)
    return f"{count} configurations, as subnets of a supernet of {file.supernet_epochs} epochs after {after}"


def _show_sensitivity(folder: RunFolder, console: Console, *, as_json: bool) -> None:
    from spquant_search.report.sensitivity_report import ladder_table, sensitivity_tables
    from spquant_search.report.writing import write_sensitivity_picture
    from spquant_search.runs.budget_ladder import plan_budget_ladder
    from spquant_search.runs.files import as_user_error
    from spquant_search.runs.records import read_frozen_space
    from spquant_search.space.schema import LADDER_POINTS

    with as_user_error(folder.path):
        found = write_sensitivity_picture(folder)
    assert found is not None  # it was found or made just now
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1))
        return
    for table in sensitivity_tables(found, run=folder.name):
        show_table(table, console)
    points = read_frozen_space(folder).search.ladder_points or LADDER_POINTS
    show_table(ladder_table(plan_budget_ladder(found, points)), console)
    console.print(f"Written to {folder.path}: sensitivity.json, sensitivity.png")


def dashboard(
    run: RunArgument,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 8080,
    storage: StorageOption = None,
) -> None:
    """Serve Optuna Dashboard for a run on 127.0.0.1."""
    from spquant_search.driver.dashboard_server import serve
    from spquant_search.driver.storage.journal import Journal
    from spquant_search.report.run_summary import summarize_run
    from spquant_search.runs.folder import find_run
    from spquant_search.runs.records import read_shared_study

    folder = find_run(run)
    summary = summarize_run(folder)
    if read_shared_study(folder) is None:
        serve(folder, summary, storage=Journal(folder.study_file), port=port)
        return
    if storage is None:
        raise UserError(f"{folder.path}: the study of this run lies in a database; give its --storage")
    serve(folder, summary, storage=shared_study(find_database(storage), folder, typer.echo), port=port)
