"""The session of a command that trains: an open run with its data, its lock, a view of it and its time."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spquant_search.commands.loading import load_shown
from spquant_search.commands.needs import known_needs, show_needs
from spquant_search.commands.reports import report_interrupted

if TYPE_CHECKING:
    from rich.console import Console

    from spquant_search.commands.trainers import Hired
    from spquant_search.data.loading import DataSet
    from spquant_search.driver.storage.database import Database
    from spquant_search.driver.storage.protocol import Storage
    from spquant_search.runs.events import SearchPlan, Watcher
    from spquant_search.runs.folder import RunFolder
    from spquant_search.runs.records import RunFacts
    from spquant_search.runs.results import TrialResult
    from spquant_search.runs.work import Part, SampleCounts
    from spquant_search.space.search_space import SearchSpace
    from spquant_search.training.prepared import Prepared
    from spquant_search.workers.messages import TrainerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """An open run: what its trainers need, who watches it, what is known of it."""

    trainer_config: TrainerConfig
    watcher: Watcher
    facts: RunFacts
    samples: SampleCounts


@contextmanager
def open_session(
    hired: Hired,
    folder: RunFolder,
    *,
    command: str,
    console: Console,
    started: float,
    shared: bool = False,
    trials: int = 0,
) -> Iterator[Session]:
    """Open a run with its data at hand, for work by trainers that Ctrl-C may interrupt; count its time.

    ``command``: what was asked for, in words that the run keeps; ``started``: when it began, by the monotonic clock.
    ``shared``: the study lies in a database. What so many ``trials`` take of disks and memory is printed first.
    """
    from spquant_search.profile import PROCESS
    from spquant_search.runs.opening import changed_constraints, check_run, exclusive
    from spquant_search.training.demand import require_memory

    prepared, file = hired.prepared, hired.prepared.space.file
    check_run(folder, file, shared=shared)
    network = network_of(prepared, folder)
    prepared.require_network_of(folder)
    weights = weights_of(prepared, folder)
    show_needs(known_needs(prepared, folder.path, trials=trials), console, device=hired.config.device)
    for line in hired.lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    watcher = _watcher(console, folder)
    try:
        with PROCESS.on("data"):
            recordings = load_shown(file, watcher.stage)
        for note in recordings.notes:
            if note not in prepared.remarks:  # which are told below
                watcher.warning(note)
        require_memory(prepared, samples=len(recordings.train.labels))
        constraints = changed_constraints(folder, file)
        facts = _run_facts(hired, recordings, command)
        _open_run(hired, folder, facts, shared=shared, weights=weights, network=network)
        if constraints:
            watcher.warning(f"the run goes on with other constraints, which choose its front anew: {constraints}")
        with exclusive(folder, shared=shared, note=watcher.warning), count_seconds(folder, started):
            yield Session(trainer_config=hired.config, watcher=watcher, facts=facts, samples=_sample_counts(recordings))
    except KeyboardInterrupt:
        watcher.close()
        console.print(f"Interrupted. Nothing finished is lost: the same command goes on with run {folder.name}.")
        report_interrupted(folder, console)
        raise
    finally:
        watcher.close()


def _watcher(console: Console, folder: RunFolder) -> Watcher:
    """Return the view of a search, which writes its page now and then."""
    from spquant_search.report.live import watcher
    from spquant_search.report.live_page import LivePage

    return LivePage(watcher(console), folder)


def _open_run(
    hired: Hired, folder: RunFolder, facts: RunFacts, *, shared: bool, weights: bytes | None, network: bytes | None
) -> None:
    """Open a run, which keeps the shapes of its network's layers for reports."""
    from spquant_search.runs.files import as_user_error
    from spquant_search.runs.opening import open_run
    from spquant_search.runs.records import write_layers

    open_run(folder, hired.prepared.space.file, facts, shared=shared, weights=weights, network=network)
    with as_user_error(folder.path):
        write_layers(folder, hired.prepared.shapes)


def network_of(prepared: Prepared, folder: RunFolder) -> bytes | None:
    """Return the file of a network that is data; None of any other.

    Raises:
        UserError: it is not the one that the run began with.
    """
    from spquant_search.runs.opening import require_same_network

    layers = prepared.space.file.model.layers
    network = None if layers is None else Path(layers).read_bytes()
    require_same_network(folder, network)
    return network


def weights_of(prepared: Prepared, folder: RunFolder) -> bytes | None:
    """Return the weights that a search begins from: of the file that its space names, or else of the run's copy.

    Raises:
        UserError: they cannot be read, do not fit the network, or are not those that the run began from.
    """
    from spquant_search.runs.folder import given_weights_file
    from spquant_search.runs.opening import require_same_weights
    from spquant_search.training.given_weights import given_weights

    named, kept = prepared.space.file.model.weights, given_weights_file(folder)
    if named is not None and not Path(named).expanduser().exists() and kept.is_file():
        return kept.read_bytes()
    weights = given_weights(prepared.space.file, prepared.input, source=prepared.space.source)
    require_same_weights(folder, weights)
    return weights


def _sample_counts(recordings: DataSet) -> SampleCounts:
    from spquant_search.runs.work import SampleCounts

    splits = {"train": recordings.train, "validation": recordings.validation, "test": recordings.test}
    return SampleCounts(**{name: len(split.labels) for name, split in splits.items()})


def _run_facts(hired: Hired, recordings: DataSet, command: str) -> RunFacts:
    from spquant_search.runs.records import RunFacts

    prepared = hired.prepared
    return RunFacts(
        source=prepared.space.source,
        command=command,
        data=recordings.description,
        classes=recordings.classes,
        validation_samples=len(recordings.validation.labels),
        test_samples=len(recordings.test.labels),
        no_integer_form=prepared.no_integer_form,
        dearest=prepared.dearest(),
        trainers=(hired.used,),
    )


def search_plan(
    space: SearchSpace,
    folder: RunFolder,
    session: Session,
    *,
    trials: int,
    work: str,
    minutes: float | None = None,
) -> SearchPlan:
    """Say what a search, or an analysis, which tries no trials, is about to do; ``work`` says it in words."""
    from spquant_search.processes import available_cores
    from spquant_search.runs.events import SearchPlan
    from spquant_search.runs.pareto import fixed_objectives
    from spquant_search.runs.records import read_results
    from spquant_search.runs.selection import Budget
    from spquant_search.runs.work import search_work, work_left

    file, facts, finished = space.file, session.facts, read_results(folder)
    parts = search_work(space, session.samples, trials=trials) if trials else ()
    return SearchPlan(
        run=folder.name,
        source=space.source,
        data=facts.data,
        network=file.model.network,
        time_steps=file.time_steps,
        trials=trials,
        work=work,
        workers=file.search.workers,
        chance=1.0 / len(facts.classes),
        finished=finished,
        costs=file.search.costs,
        dearest=facts.dearest,
        budget=Budget.of(file.constraints),
        fixed=fixed_objectives(file),
        parts=work_left(parts, _tasks_done(folder, finished)),
        cores=available_cores(),
        minutes=minutes,
    )


def _tasks_done(folder: RunFolder, finished: Sequence[TrialResult]) -> dict[Part, int]:
    """Count what an earlier start has done of each part."""
    from spquant_search.runs.work import Part, part_of

    done = Counter(part_of(result) for result in finished if result.outcome.is_tried)
    done[Part.SUPERNET] = int(folder.supernet_file.is_file())
    if folder.sensitivity_file.is_file():
        done[Part.LADDER] = sys.maxsize
    return done


@contextmanager
def count_seconds(folder: RunFolder, started: float) -> Iterator[None]:
    """Add this start's wall-clock time to the run's, however it ends."""
    from spquant_search.runs.locks import LockHeld
    from spquant_search.runs.records import add_seconds

    try:
        yield
    finally:
        try:
            add_seconds(folder, time.monotonic() - started)
        except LockHeld as error:
            print(f"note: this start is missing from the time of the run: {error}", file=sys.stderr)


def find_database(url: str) -> Database:
    """Return the database that --storage names, once it answers."""
    from spquant_search.driver.storage.database import Database

    database = Database.of(url)
    database.require_connection()
    return database


def shared_study(database: Database, folder: RunFolder, note: Callable[[str], None]) -> Storage:
    """Open the run's study in a database; ``note`` takes what its user should know of the connection."""
    from spquant_search.driver.storage.postgres import Postgres
    from spquant_search.runs.records import read_shared_study

    study = read_shared_study(folder)
    assert study is not None  # the run was opened as a shared one
    return Postgres(database, study, note=note)
