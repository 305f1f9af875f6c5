"""The command line: options in, exit codes out. Nothing heavy is imported before a command needs it.

Exit codes: 0 done, 1 a bug, 2 something the user must change, 3 `verify` found a difference, 130 interrupted.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spquant_search import __version__
from spquant_search.errors import UserError
from spquant_search.space.presets import Preset, preset_values
from spquant_search.space.units import quantity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from spquant_search.data.loading import DataSet
    from spquant_search.deploy.artifact import Artifact
    from spquant_search.driver.storage.postgres import Database
    from spquant_search.driver.storage.protocol import Storage
    from spquant_search.report.run_summary import RunSummary
    from spquant_search.report.text_table import TextTable
    from spquant_search.runs.events import SearchPlan, Watcher
    from spquant_search.runs.folder import RunFacts, RunFolder
    from spquant_search.runs.results import TrialResult
    from spquant_search.runs.selection import Budget
    from spquant_search.runs.sensitivity import Sensitivity
    from spquant_search.space.schema import SpaceFile
    from spquant_search.space.search_space import SearchSpace
    from spquant_search.training.prepared import Prepared
    from spquant_search.workers.messages import TrainerConfig

EXIT_BUG, EXIT_USER, EXIT_MISMATCH, EXIT_INTERRUPTED = 1, 2, 3, 130
OPTIONS = {
    "memory_bytes": "--max-memory",
    "flash_bytes": "--max-flash",
    "ram_bytes": "--max-ram",
    "effective_flops": "--max-flops",
    "accuracy": "--min-accuracy",
}
WIDE = 100  # columns of a terminal

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SpaceOption = Annotated[Path, typer.Option("--space", metavar="FILE", help="The space file: what to search, on what.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a value of the space file; repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
StorageOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL", envvar="SPQUANT_STORAGE", help="postgresql://...: where the study of many machines lies."
    ),
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's name below runs/, or its path.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"spquant-search {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def search(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    space: Annotated[
        Path | None, typer.Option("--space", metavar="FILE", help="The space file: what to search.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="The run's name or path (default: the space file's name, and the preset's).")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials besides the baseline.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Begin no trial after so many minutes.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Trainer processes of one thread each.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:K.")] = "auto",
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the whole search.")] = None,
    preset: Annotated[
        Preset | None, typer.Option(help="Search nothing: train the float baseline and this configuration alone.")
    ] = None,
    storage: StorageOption = None,
    profile: Annotated[bool, typer.Option("--profile", help="Show where every second went.")] = False,
    overrides: SetOption = None,
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """How few bits and how few operations does this spiking network need?

    Searches per-layer weight bits, membrane levels and sparsity thresholds; leaves the Pareto front of accuracy,
    memory and operations in runs/NAME. The same command again resumes an interrupted search.
    """
    del version
    if context.invoked_subcommand is not None:
        if space is not None:
            raise UserError(
                f"--space belongs behind the command: spquant-search {context.invoked_subcommand} --space FILE"
            )
        if preset is not None:
            raise UserError(f"--preset belongs behind the command, and only `cost` takes it: got {preset}")
        return
    if space is None:
        typer.echo(context.get_help())
        raise typer.Exit(EXIT_USER)
    if preset is not None and trials is not None:
        raise UserError(f"--trials {trials}: --preset {preset} trains one configuration; give one of the two")
    named = {"search.trials": trials, "search.workers": workers, "search.seed": seed}
    options = [f"{path}={value}" for path, value in named.items() if value is not None]
    only = [] if preset is None else _only(preset, space, overrides or [])
    _search(
        space,
        run=run or (space.stem if preset is None else f"{space.stem}-{preset}"),
        device=device,
        minutes=minutes,
        overrides=[*(overrides or []), *only, *options],
        candidates=preset is not Preset.SNN_BL,
        storage=storage,
        profile=profile,
    )


def _only(preset: Preset, space: Path, overrides: list[str]) -> list[str]:
    """Overrides that leave one configuration to search, the preset's, whatever the file's choices are."""
    from spquant_search.space.reading import read_space

    every = preset_values(preset, read_space(space, overrides).model.network)
    references = [] if preset is Preset.SNN_BL else [{"preset": preset}]  # the float baseline is trained in any case
    one = {
        "layers": {"all": every},
        "search.references": references,
        "search.trials": 1,
        "search.workers": 1,
        "search.strategy": "warm-start",  # nothing to share with
        "search.budget_ladder": 0,
    }
    return [f"{path}={json.dumps(value)}" for path, value in one.items()]


def _search(  # noqa: PLR0913 - one parameter an option
    space: Path,
    *,
    run: str,
    device: str,
    minutes: float | None,
    overrides: list[str],
    candidates: bool,
    storage: str | None,
    profile: bool,
) -> None:
    from rich.console import Console

    from spquant_search.processes import keep_compiled_code
    from spquant_search.runs.files import cache_folder
    from spquant_search.runs.folder import find_run

    started = time.monotonic()
    keep_compiled_code(cache_folder())  # before torch is imported

    from spquant_search.driver.coordinator import Limits, run_search
    from spquant_search.report.profile_table import profile_table
    from spquant_search.training.prepare import prepare

    prepared = prepare(space, overrides)
    trials = prepared.space.file.search.trials if candidates else 0
    limits = Limits(trials=trials, deadline=None if minutes is None else started + 60 * minutes)
    folder, console = find_run(run), Console()
    database = None if storage is None else _database(storage)
    shared = database is not None
    opened = _opened(space, prepared, folder, device=device, console=console, started=started, shared=shared)
    with opened as (setup, watcher, facts):
        watcher.plan(_plan(prepared.space, folder, facts, trials=trials))
        study = None if database is None else _shared_study(database, folder, watcher.warning)
        run_search(prepared, folder, setup=setup, limits=limits, watcher=watcher, storage=study)
    _report(folder, console)
    if profile:
        _show(profile_table(folder.profile()), console)


def _database(url: str) -> Database:
    """What --storage names, once it answers."""
    from spquant_search.driver.storage.postgres import Database

    database = Database.of(url)
    database.require_connection()
    return database


def _shared_study(database: Database, folder: RunFolder, note: Callable[[str], None]) -> Storage:
    from spquant_search.driver.storage.postgres import Postgres

    study = folder.shared_study()
    assert study is not None  # the run was opened as a shared one
    return Postgres(database, study, note=note)


@contextmanager
def _opened(
    space: Path,
    prepared: Prepared,
    folder: RunFolder,
    *,
    device: str,
    console: Console,
    started: float,
    shared: bool = False,
) -> Iterator[tuple[TrainerConfig, Watcher, RunFacts]]:
    """A run's folder with its data at hand, for work by trainers that Ctrl-C may interrupt; its time is counted."""
    import torch

    from spquant_search.processes import available_cores
    from spquant_search.profile import PROCESS
    from spquant_search.report.live import watcher as watcher_for
    from spquant_search.runs.files import cache_folder
    from spquant_search.runs.folder import check_run, exclusive, open_run
    from spquant_search.training.data_set import load_data
    from spquant_search.training.precision import training_dtype
    from spquant_search.workers.devices import choose_device
    from spquant_search.workers.messages import TrainerConfig

    file = prepared.space.file
    setup = TrainerConfig(space=prepared.space, device=choose_device(device), cache=cache_folder())
    training_dtype(file.train, torch.device(setup.device))  # a precision that the device lacks is refused here
    check_run(folder, file, shared=shared)
    watcher = watcher_for(console)
    try:
        with PROCESS.on("data"):
            recordings = load_data(
                file,
                cache=setup.cache,
                progress=lambda done, total: watcher.stage(_preparing(file), done, total),
                processes=available_cores(),
            )
        facts = _facts(space, recordings)
        open_run(folder, file, facts, shared=shared)
        with exclusive(folder, shared=shared), _counted(folder, started):
            yield setup, watcher, facts
    except KeyboardInterrupt:
        watcher.close()
        console.print(f"Interrupted. Nothing finished is lost: the same command goes on with run {folder.name}.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    finally:
        watcher.close()


def _preparing(file: SpaceFile) -> str:
    """What is counted before the first frame can be shown, be it made now or found in the cache."""
    return "recordings ready" if file.data.name == "fashion-events" or file.data.as_events else "frames ready"


def _facts(space: Path, recordings: DataSet) -> RunFacts:
    from spquant_search.runs.folder import RunFacts

    return RunFacts(
        source=str(space),
        command=" ".join(["spquant-search", *map(_without_password, sys.argv[1:])]),
        data=recordings.description,
        classes=len(recordings.classes),
        validation_samples=len(recordings.validation.labels),
        test_samples=len(recordings.test.labels),
    )


def _without_password(argument: str) -> str:
    """An argument of the command line as it may be kept."""
    argument = re.sub(r"(://[^:/@\s]*):[^/\s]*@", r"\1:***@", argument)
    return re.sub(r"(password=)[^&\s]*", r"\1***", argument)


def _plan(space: SearchSpace, folder: RunFolder, facts: RunFacts, *, trials: int) -> SearchPlan:
    from spquant_search.runs.events import SearchPlan
    from spquant_search.runs.selection import Budget

    file = space.file
    return SearchPlan(
        run=folder.name,
        source=space.source,
        data=facts.data,
        network=file.model.network,
        trials=trials,
        epochs=0 if file.search.strategy == "supernet" else file.train.epochs,
        work=_work(file, trials),
        workers=file.search.workers,
        chance=1.0 / facts.classes,
        finished=folder.results(),
        budget=Budget.of(file.constraints),
    )


def _work(file: SpaceFile, trials: int) -> str:
    """All that a search will do, in words."""
    baseline, train, final = f"a float baseline of {file.train.baseline_epochs} epochs", file.train, file.final
    if file.search.strategy != "supernet":
        return f"{trials} trials of {train.epochs} epochs after {baseline}"
    ladder = (
        f", up to {file.search.ladder_points} of them on the plan_budget_ladder" if file.search.ladder_points else ""
    )
    return (
        f"{trials} trials{ladder} of subnets of a supernet of {file.supernet.epochs} epochs after {baseline}; "
        f"then up to {final.members} of them fine-tuned for {final.epochs}"
    )


@contextmanager
def _counted(folder: RunFolder, started: float) -> Iterator[None]:
    """Add this start's wall-clock time to the run's, however it ends."""
    try:
        yield
    finally:
        facts = folder.facts()
        folder.write_facts(replace(facts, seconds=facts.seconds + time.monotonic() - started))


def _summary(folder: RunFolder) -> RunSummary:
    """Everything that tables, figures and files of a run are made from."""
    from spquant_search.report.run_summary import RunSummary
    from spquant_search.runs.selection import Budget

    results = folder.latest_results()
    if not results or not results[0].epochs:
        raise UserError(f"{folder.path}: the baseline of this run is not trained yet; start its search again")
    facts, space = folder.facts(), folder.space()
    return RunSummary(
        run=folder.name,
        source=facts.source,
        network=space.model.network,
        data=facts.data,
        classes=facts.classes,
        results=results,
        validation_samples=facts.validation_samples,
        test_samples=facts.test_samples,
        seconds=facts.seconds,
        command=facts.command,
        environment=folder.environment(),
        test_accuracy=folder.latest_test_accuracies(),
        budget=Budget.of(space.constraints),
    )


def _report(folder: RunFolder, console: Console) -> None:
    from spquant_search.report.run_report import pick_command
    from spquant_search.report.writing import write_reports

    summary = _summary(folder)
    write_reports(summary, folder.path)
    _drawn_sensitivity(folder)
    _show(_front_table(summary, folder, console), console)
    console.print(f"Written to {folder.path}: front.png, front.csv, front.json, results.csv, report.md")
    console.print(f"Pick from it: {pick_command(summary)}")


def _front_table(summary: RunSummary, folder: RunFolder, console: Console) -> TextTable:
    """The front, with the energy estimate where there is room for it."""
    from spquant_search.report.front_table import front_table

    return front_table(summary, time_steps=folder.space().time_steps if _is_wide(console) else None)


def _is_wide(console: Console) -> bool:
    """Whether two more columns still leave a network of nine layers uncut; a pipe has no width."""
    return not console.is_terminal or console.width >= WIDE


def _show(table: TextTable, console: Console) -> None:
    """For a pipe as plain text, which no width wraps."""
    if console.is_terminal:
        console.print(table.rich())
    else:
        typer.echo(table.plain())


def _budget(max_memory: str | None, min_accuracy: float | None, max_flops: str | None) -> Budget:
    from spquant_search.runs.selection import Budget

    return Budget(
        max_memory_bytes=None if max_memory is None else parse_quantity(max_memory, "--max-memory"),
        min_accuracy=min_accuracy,
        max_effective_flops=None if max_flops is None else parse_quantity(max_flops, "--max-flops"),
    )


def parse_quantity(text: str, option: str) -> float:
    """What :func:`spquant_search.space.units.quantity` reads, the value of an option."""
    try:
        return quantity(text)
    except ValueError as error:
        raise UserError(f"{option} {text}: {error}") from None


@app.command()
def cost(
    space: SpaceOption,
    preset: Annotated[
        Preset, typer.Option(help="Of which system of the SpQuant-SNN paper, whatever the file searches.")
    ] = Preset.SNN_BL,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bytes, dense operations and an energy estimate, before any training."""
    from spquant_search.costs.memory import cost_report
    from spquant_search.report.paper import paper_comparison
    from spquant_search.space.references import preset_config
    from spquant_search.training.prepare import prepare

    prepared = prepare(space, overrides or [])
    file = prepared.space.file
    config = preset_config(preset, network=file.model.network, shapes=prepared.shapes)
    report = cost_report(prepared.shapes, config, time_steps=file.time_steps)
    size = {"height": prepared.input.height, "width": prepared.input.width}
    paper = paper_comparison(report, preset, model=file.model, **size)
    if as_json:
        document = {"space": str(space), "preset": str(preset), **report.as_dict()}
        beside = {} if paper is None else {"paper": paper.as_dict()}
        typer.echo(json.dumps(document | beside, indent=1))
        return
    from rich.console import Console

    from spquant_search.report.cost_table import cost_table
    from spquant_search.report.paper import paper_table

    console = Console()
    title = f"Cost of {file.model.network} as {preset}"
    _show(cost_table(report, title=title, energy="columns" if _is_wide(console) else "note"), console)
    if paper is not None:
        _show(paper_table(paper), console)


@app.command()
def sensitivity(
    space: SpaceOption,
    run: Annotated[str | None, typer.Option(help="The run's name or path (default: the space file's name).")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Trainer processes of one thread each.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:K.")] = "auto",
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the whole run.")] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """How much accuracy a lower precision costs, one layer at a time, weights and membranes apart.

    Measured by a supernet; it and the float baseline are those of the run, or trained first.
    The same command again resumes an interrupted analysis.
    """
    from rich.console import Console

    from spquant_search.processes import keep_compiled_code
    from spquant_search.runs.files import cache_folder
    from spquant_search.runs.folder import check_run, find_run, require_same_space

    started = time.monotonic()
    keep_compiled_code(cache_folder())  # before torch is imported
    prepared = _prepared_for_sensitivity(space, overrides or [], workers=workers, seed=seed)
    folder, console = find_run(run or space.stem), Console(stderr=as_json)
    if folder.exists() and folder.sensitivity() is not None:
        require_same_space(folder, prepared.space.file)
    else:
        _require_own_study(folder)
        check_run(folder, prepared.space.file)
        from spquant_search.driver.coordinator import run_sensitivity

        opened = _opened(space, prepared, folder, device=device, console=console, started=started)
        with opened as (setup, watcher, facts):
            plan = _plan(prepared.space, folder, facts, trials=0)
            watcher.plan(replace(plan, work=_sensitivity_work(prepared.space)))
            run_sensitivity(prepared, folder, setup=setup, watcher=watcher)
    _show_sensitivity(folder, console, as_json=as_json)


def _prepared_for_sensitivity(space: Path, overrides: list[str], *, workers: int | None, seed: int | None) -> Prepared:
    from spquant_search.runs.sensitivity import lowered_configurations
    from spquant_search.training.prepare import prepare

    named = {"search.workers": workers, "search.seed": seed}
    options = [f"{path}={value}" for path, value in named.items() if value is not None]
    prepared = prepare(space, [*overrides, *options])
    if len(lowered_configurations(prepared.space)) == 1:
        raise UserError(
            f"{space}: layers: there is nothing to compare, as every layer has one choice of weight_bits and one of "
            "membrane_levels; give some layer several, such as weight_bits: [2, 4, 8]"
        )
    return prepared


def _require_own_study(folder: RunFolder) -> None:
    """Raises UserError where the study lies in a database, whose locks this command knows nothing of."""
    if folder.exists() and folder.shared_study() is not None:
        raise UserError(
            f"{folder.path}: this run has no analysis, and as its study lies in a database only its search can make it "
            "(with search.budget_ladder above 0); go on with that search, or start a run of its own with --run NAME"
        )


def _sensitivity_work(space: SearchSpace) -> str:
    """All that an analysis will do, in words."""
    from spquant_search.runs.sensitivity import lowered_configurations

    file, count = space.file, len(lowered_configurations(space))
    return (
        f"{count} configurations of subnets of a supernet of {file.supernet.epochs} epochs after a float "
        f"baseline of {file.train.baseline_epochs} epochs"
    )


def _show_sensitivity(folder: RunFolder, console: Console, *, as_json: bool) -> None:
    from spquant_search.report.sensitivity_report import ladder_table, sensitivity_tables
    from spquant_search.runs.budget_ladder import plan_budget_ladder
    from spquant_search.space.schema import LADDER_POINTS

    found = _drawn_sensitivity(folder)
    if found is None:
        raise AssertionError(folder)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1))
        return
    for table in sensitivity_tables(found, run=folder.name):
        _show(table, console)
    _show(ladder_table(plan_budget_ladder(found, folder.space().search.ladder_points or LADDER_POINTS)), console)
    console.print(f"Written to {folder.path}: sensitivity.json, sensitivity.png")


def _drawn_sensitivity(folder: RunFolder) -> Sensitivity | None:
    """A run's sensitivity analysis, with its picture in the folder; None where there is none."""
    from spquant_search.report.sensitivity_report import write_sensitivity_figure

    found = folder.sensitivity()
    if found is not None:
        title = f"{folder.space().model.network} on {folder.facts().data}"
        write_sensitivity_figure(found, folder.path / "sensitivity.png", title=title)
    return found


@app.command()
def data(
    space: SpaceOption,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw a few samples into this picture.")] = None,
    download: Annotated[bool, typer.Option("--download", help="First fetch a published set into data.root.")] = False,
) -> None:
    """Prepare a space's data set and describe it: classes, events, density, size."""
    from rich.console import Console

    from spquant_search.data.download import download as fetch
    from spquant_search.processes import available_cores
    from spquant_search.report.stages import stages
    from spquant_search.runs.files import cache_folder
    from spquant_search.space.reading import read_space
    from spquant_search.training.data_set import describe_data, load_data

    file = read_space(space, overrides or [])
    describe_data(file, source=str(space))
    with stages(Console(stderr=True)) as stage:
        if download:
            fetch(file.data, stage)
        loaded = load_data(
            file,
            cache=cache_folder(),
            progress=lambda done, total: stage(_preparing(file), done, total),
            processes=available_cores(),
        )
    _describe(loaded, space, as_json=as_json, out=out)


def _describe(loaded: DataSet, space: Path, *, as_json: bool, out: Path | None) -> None:
    from rich.console import Console

    from spquant_search.data.statistics import dataset_statistics, examples
    from spquant_search.report.data_report import class_table, split_table, write_sample_figure

    facts = dataset_statistics(loaded)
    if out is not None:
        write_sample_figure(facts, examples(loaded), out)
    if as_json:
        typer.echo(json.dumps({"space": str(space), **facts.as_dict()}, indent=1))
        return
    console = Console()
    _show(class_table(facts), console)
    _show(split_table(facts), console)
    if out is not None:
        console.print(f"Written to {out}")


@app.command()
def front(run: RunArgument, as_json: JsonOption = False) -> None:
    """The Pareto front of a run, finished or not."""
    from rich.console import Console

    from spquant_search.report.data_files import front_document
    from spquant_search.runs.folder import find_run

    folder = find_run(run)
    summary = _summary(folder)
    if as_json:
        typer.echo(json.dumps(front_document(summary), indent=1))
    else:
        console = Console()
        _show(_front_table(summary, folder, console), console)


@app.command()
def finalize(
    run: RunArgument,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Of every seed (default: three times final.epochs).")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Each member is trained so often.")] = 3,
    members: Annotated[
        int | None, typer.Option(min=1, help="At most so many, those that add most to the front (default: all).")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Trainer processes of one thread each.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:K.")] = "auto",
) -> None:
    """Train the front's members on, with several seeds, and keep the best; the same command again resumes."""
    from rich.console import Console

    from spquant_search.runs.folder import exclusive, find_run

    folder, started, console = find_run(run), time.monotonic(), Console()
    file = folder.space()
    if workers is not None:
        file = replace(file, search=replace(file.search, workers=workers))
    try:
        with exclusive(folder), _counted(folder, started):
            left = _finalize(folder, file, epochs=epochs, seeds=seeds, members=members, device=device)
    except KeyboardInterrupt:
        console.print("Interrupted. Nothing finished is lost: the same command goes on where it stopped.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _report(folder, console)
    if left:
        numbers = ", ".join(map(str, left))
        raise UserError(f"{folder.path}: could not be fine-tuned: trial {numbers}; the same command tries again")


def _finalize(
    folder: RunFolder, file: SpaceFile, *, epochs: int | None, seeds: int, members: int | None, device: str
) -> tuple[int, ...]:
    """Fine-tune, and the numbers of those members that failed."""
    from rich.console import Console

    from spquant_search.processes import available_cores, keep_compiled_code
    from spquant_search.report.stages import stages
    from spquant_search.runs.files import cache_folder
    from spquant_search.workers.devices import choose_device

    cache = cache_folder()
    keep_compiled_code(cache)  # before torch is imported

    from spquant_search.driver.finalists import FineTuner, finalists_of, recipe_of
    from spquant_search.training.data_set import load_data
    from spquant_search.training.prepare import bind_network
    from spquant_search.workers.messages import TrainerConfig
    from spquant_search.workers.pool import TrainerPool

    finalists = finalists_of(folder, file, members=members, classes=folder.facts().classes)
    prepared = bind_network(file, source=str(folder.space_file))
    setup = TrainerConfig(space=prepared.space, device=choose_device(device), cache=cache)

    def warn(text: str) -> None:
        typer.echo(f"note: {text}", err=True)

    with stages(Console()) as stage:
        load_data(
            file,
            cache=cache,
            progress=lambda done, total: stage(_preparing(file), done, total),
            processes=available_cores(),
        )
        crew = TrainerPool(setup, file.search.workers, warn=warn)
        try:
            return FineTuner(
                finalists,
                recipe_of(file, epochs=epochs, seeds=seeds),
                prepared=prepared,
                folder=folder,
                crew=crew,
                stage=stage,
                warn=warn,
            ).run()
        finally:
            crew.close()


@app.command()
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
    """Write a member of the front as a network of integers: for a device in C, for checking in numpy."""
    from spquant_search.deploy.artifact import write_artifact
    from spquant_search.deploy.deployable import float_parts
    from spquant_search.runs.folder import find_run
    from spquant_search.runs.selection import Budget
    from spquant_search.runs.selection import front as members_of
    from spquant_search.runs.selection import pick as choose
    from spquant_search.training.prepare import bind_network

    folder = find_run(run)
    file = folder.space()
    members = members_of(folder.latest_results(), Budget.of(file.constraints))
    if not members:
        raise UserError(f"{folder.path}: no trial of this run is complete yet; start its search again")
    whole_front = members
    prepared = bind_network(file, source=str(folder.space_file))
    deployable = tuple(member for member in members if not float_parts(prepared, member))
    budget = replace(
        _budget(max_memory, min_accuracy, max_flops),
        max_flash_bytes=None if max_flash is None else parse_quantity(max_flash, "--max-flash"),
        max_ram_bytes=None if max_ram is None else parse_quantity(max_ram, "--max-ram"),
    )
    if trial is not None:
        deployable = members = _named_member(trial, members, folder, budget, knee=knee)
    member = choose(deployable, budget, at_knee=knee)
    wanted = choose(members, budget, at_knee=knee)
    if member is None:
        raise UserError(_nothing_to_write(prepared, deployable, budget, wanted))
    frames = _vectors(prepared)
    tested = folder.latest_test_accuracies().get(member.number)
    write_artifact(folder, file, member, out, test_accuracy=tested, shape=prepared.input, frames=frames)
    _explain(member, whole_front, out)
    if wanted is not None and wanted is not member:
        floats = float_parts(prepared, wanted)
        typer.echo(f"  not taken: trial {wanted.number} ({_figures(wanted)}), which keeps {_named(floats)}")


def _named_member(
    number: int, members: tuple[TrialResult, ...], folder: RunFolder, budget: Budget, *, knee: bool
) -> tuple[TrialResult, ...]:
    """The member that was named."""
    if budget or knee:
        raise UserError("--trial names the member to take; leave the budgets and --knee away")
    named = tuple(member for member in members if member.number == number)
    if not named:
        numbers = ", ".join(str(member.number) for member in members)
        raise UserError(f"--trial: {number} is not on the front of {folder.path}; its members are {numbers}")
    return named


def _nothing_to_write(
    prepared: Prepared, deployable: tuple[TrialResult, ...], budget: Budget, wanted: TrialResult | None
) -> str:
    """Why no member is written; ``wanted`` fits the budget and keeps floats."""
    from spquant_search.deploy.deployable import float_parts

    if not deployable:
        return (
            "no member of the front has a form in integers: all keep float weights or membranes; "
            "search with fewer bits and levels"
        )
    words = _nothing_fits(deployable, budget)
    if wanted is None:
        return words
    return f"{words}. Trial {wanted.number} fits, but keeps {_named(float_parts(prepared, wanted))}"


def _named(floats: dict[str, str]) -> str:
    first = next(iter(floats))
    others = f" and {len(floats) - 1} more" if len(floats) > 1 else ""
    return f"{floats[first]} in {first}{others}"


def _vectors(prepared: Prepared) -> NDArray[np.uint8]:
    """The frames of the test vectors, made up where the data's files are absent."""
    from spquant_search.deploy.vectors import first_test_frames, made_up_frames

    file = prepared.space.file
    try:
        return first_test_frames(_recordings(file))
    except UserError as error:
        typer.echo(f"note: the test vectors are made-up frames, as the data is not there: {error}", err=True)
        return made_up_frames(prepared.input, time_steps=file.time_steps)


def _recordings(file: SpaceFile) -> DataSet:
    """A space's data, from the cache or made now, which a terminal shows."""
    from rich.console import Console

    from spquant_search.processes import available_cores
    from spquant_search.report.stages import stages
    from spquant_search.runs.files import cache_folder
    from spquant_search.training.data_set import load_data

    console = Console(stderr=True)
    with stages(console) as stage:

        def progress(done: int, total: int) -> None:
            if console.is_terminal:
                stage(_preparing(file), done, total)

        return load_data(file, cache=cache_folder(), progress=progress, processes=available_cores())


def _nothing_fits(members: tuple[TrialResult, ...], budget: Budget) -> str:
    from spquant_search.runs.selection import nearest

    near = nearest(members, budget)
    missed = ", ".join(f"{OPTIONS[name]} {_by(share)}" for name, share in budget.excess(near).items())
    return (
        f"no member of the front fits. Nearest is trial {near.number} ({_figures(near)}), which misses {missed}; "
        "relax that, or search longer"
    )


def _by(share: float) -> str:
    """How far a budget is missed; by no number where a run of an earlier version does not say what a device takes."""
    return "(its run does not say)" if math.isinf(share) else f"by {math.ceil(100 * share)} %"


def _figures(member: TrialResult) -> str:
    flops = member.effective_flops / 1e6
    return f"{100 * member.accuracy:.1f} %, {member.memory_bytes / 1024:.1f} KiB, {flops:.1f} MFLOPs"


def _explain(member: TrialResult, members: tuple[TrialResult, ...], out: Path) -> None:
    typer.echo(f"trial {member.number} of {len(members)} members of the front: {_figures(member)} -> {out}")
    place = members.index(member)
    for word, neighbour in (("smaller", members[place - 1] if place else None), ("larger", _at(members, place + 1))):
        if neighbour is not None:
            points = 100 * (neighbour.accuracy - member.accuracy)
            typer.echo(f"  next {word}: trial {neighbour.number} ({_figures(neighbour)}), {points:+.1f} points")


def _at(members: tuple[TrialResult, ...], index: int) -> TrialResult | None:
    return members[index] if index < len(members) else None


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What pick wrote.")],
    samples: Annotated[int | None, typer.Option(min=1, help="Of the test split, the first so many.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a picked network in PyTorch, numpy and C, spike for spike, on the test split."""
    from rich.console import Console

    from spquant_search.deploy.artifact import read_artifact
    from spquant_search.deploy.reference import DamagedArtifact, read_manifest
    from spquant_search.deploy.verification_report import verification_dict, verification_lines
    from spquant_search.deploy.verify import verify as compare
    from spquant_search.report.stages import stages
    from spquant_search.space.shapes import InputShape

    try:
        manifest = read_manifest(folder)
    except DamagedArtifact as error:
        raise UserError(f"{error}; write the folder again with spquant-search pick") from None
    artifact = read_artifact(folder)
    shape = InputShape(**manifest["input"])
    frames, labels, note = _samples_of(artifact, folder, samples)
    shown = Console(stderr=True)
    with stages(shown) as stage:

        def progress(done: int, total: int) -> None:
            if shown.is_terminal:
                stage("comparing spikes", done, total)

        found = compare(folder, artifact, frames, labels, shape=shape, progress=progress)
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
    """The frames to compare on, their labels where they are of the test split, and a word on what they are not."""
    import numpy as np

    from spquant_search.deploy.reference import VECTORS_FILE

    try:
        loaded = _recordings(artifact.space())
    except UserError as error:
        with np.load(folder / VECTORS_FILE) as vectors:
            return vectors["frames"], None, f"compared on the stored test vectors alone: {error}"
    limit = slice(samples)
    return loaded.test.frames[limit], loaded.test.labels[limit], ""


@app.command()
def report(run: RunArgument) -> None:
    """Write a run's tables, figure and report again."""
    from rich.console import Console

    from spquant_search.runs.folder import find_run

    _report(find_run(run), Console())


@app.command()
def dashboard(
    run: RunArgument,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 8080,
    storage: StorageOption = None,
) -> None:
    """Serve Optuna Dashboard for a run on 127.0.0.1."""
    from spquant_search.driver.dashboard_server import serve
    from spquant_search.driver.storage.journal import Journal
    from spquant_search.runs.folder import find_run

    folder = find_run(run)
    summary = _summary(folder)
    if folder.shared_study() is None:
        serve(folder, summary, storage=Journal(folder.study_file), port=port)
        return
    if storage is None:
        raise UserError(f"{folder.path}: the study of this run lies in a database; give its --storage")
    serve(folder, summary, storage=_shared_study(_database(storage), folder, typer.echo), port=port)


def main() -> None:
    """The program ``spquant-search``."""
    try:
        app(prog_name="spquant-search")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
