"""A search, from a space that is prepared to a run's folder with its reports."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spquant_search.commands.session import find_database, open_session, search_plan, shared_study
from spquant_search.commands.trainers import hire

if TYPE_CHECKING:
    from rich.console import Console

    from spquant_search.runs.folder import RunFolder
    from spquant_search.space.schema import SpaceFile
    from spquant_search.training.prepared import Prepared


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchOrder:
    """A search that is asked for: the space is prepared, and what may differ between two starts of a run is said."""

    prepared: Prepared
    folder: RunFolder
    command: str  # what was asked for, in words that the run keeps
    device: str = "auto"
    workers: int | None = None  # AUTO: by cores and memory; None: those of the space
    minutes: float | None = None  # after which no further trial begins
    storage: str | None = None  # the URL of a database
    baseline_only: bool = False
    remarks: tuple[str, ...] = ()  # to be told beside those on the space


def run_order(order: SearchOrder, *, console: Console, started: float) -> None:
    """Search, or go on with a search that was interrupted; ``started``: when, by the monotonic clock.

    Raises:
        UserError: something that whoever asked must change.
        KeyboardInterrupt: Ctrl-C; nothing that is finished is lost.
    """
    from spquant_search.driver.coordinator import run_search
    from spquant_search.driver.limits import Limits

    trials = 0 if order.baseline_only else order.prepared.space.file.search.trials
    deadline = None if order.minutes is None else started + 60 * order.minutes
    database = None if order.storage is None else find_database(order.storage)
    hired = hire(order.prepared, device=order.device, workers=order.workers)
    prepared, folder = hired.prepared, order.folder
    opened = open_session(
        hired,
        folder,
        command=order.command,
        console=console,
        started=started,
        shared=database is not None,
        trials=trials,
    )
    with opened as session:
        watcher, work = session.watcher, search_words(prepared.space.file, trials)
        watcher.plan(search_plan(prepared.space, folder, session, trials=trials, work=work, minutes=order.minutes))
        for remark in (*prepared.remarks, *order.remarks):
            watcher.warning(remark)
        run_search(
            prepared,
            folder,
            trainer_config=session.trainer_config,
            limits=Limits(trials=trials, deadline=deadline),
            watcher=watcher,
            storage=None if database is None else shared_study(database, folder, watcher.warning),
        )


def begin_command() -> float:
    """Set what must be set before torch is imported, and return the time from which the command counts."""
    from spquant_search.processes import keep_compiled_code
    from spquant_search.runs.files import cache_folder

    started = time.monotonic()
    keep_compiled_code(cache_folder())
    return started


def search_words(file: SpaceFile, trials: int) -> str:
    """Say in words all that a search will do."""
    from spquant_search.report.step_words import steps_words

    baseline, train, final = baseline_words(file), file.train, file.final
    steps = f" in {steps_words(*file.time_steps)}" if len(file.time_steps) > 1 else ""
    if file.search.strategy != "supernet":
        return f"{trials} trials{steps} of {train.epochs} epochs after {baseline}"
    points = min(trials, file.search.ladder_points * len(file.time_steps))
    ladder = f", up to {points} of them on the budget ladder" if points else ""
    return (
        f"{trials} trials{steps}{ladder}, as subnets of a supernet of {file.supernet_epochs} epochs after {baseline}; "
        f"then up to {final.members} of them fine-tuned for {final.epochs}{_epochs_at_fewer_steps(file)}"
    )


def baseline_words(file: SpaceFile) -> str:
    """Say where a search's float baseline comes from."""
    epochs, weights = file.train.baseline_epochs, file.model.weights
    if not epochs:
        return "the given weights as the float baseline"
    return f"a float baseline of {epochs} epochs{'' if weights is None else ' from the given weights'}"


def _epochs_at_fewer_steps(file: SpaceFile) -> str:
    from spquant_search.training.schedule import Schedule

    schedule, most = Schedule.of_finalists(file.final), file.most_time_steps
    words = [f"{schedule.at(steps, most=most).epochs} at {steps}" for steps in reversed(file.time_steps[:-1])]
    return f" ({', '.join(words)} time steps, of as much work)" if words else ""
