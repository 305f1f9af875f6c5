"""One search, from the start of its trainers to their end, as its stages see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from spquant_search.driver.decisions import Decisions
from spquant_search.driver.limits import Limits
from spquant_search.driver.search_context import SearchContext
from spquant_search.driver.storage.protocol import Storage
from spquant_search.driver.study import Study
from spquant_search.driver.trial_book import TrialBook
from spquant_search.driver.trial_runner import TrialRunner
from spquant_search.driver.trial_tasks import TrialTasks, known_excess
from spquant_search.profile import PROCESS
from spquant_search.runs.events import Watcher
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.records import read_results, write_profile
from spquant_search.runs.selection import Budget
from spquant_search.training.prepared import Prepared
from spquant_search.workers.pool import TrainerPool


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What every stage needs: the parts of the search, its trials, its decisions, and its trials on the trainers."""

    context: SearchContext
    book: TrialBook
    decisions: Decisions
    runner: TrialRunner


@contextmanager
def opened_search(
    prepared: Prepared,
    folder: RunFolder,
    *,
    storage: Storage,
    hired: Callable[[int], TrainerPool],
    limits: Limits,
    watcher: Watcher,
) -> Iterator[Search]:
    """Yield a search that goes on from what its run's folder has; then end its trainers and write the profile.

    ``hired`` starts so many trainers. Whatever fails from there on, they are ended, and the storage, which this closes
    too, does not keep this coordinator's trials.
    """
    with ExitStack() as opened:
        opened.callback(storage.close)
        pool = hired(prepared.space.file.search.workers)
        opened.callback(lambda: write_profile(folder, {"coordinator": PROCESS.seconds(), **pool.seconds()}))
        opened.callback(pool.close)
        results = read_results(folder)
        study = Study(
            storage,
            prepared.space,
            prepared.shapes,
            chance=1.0 / prepared.input.classes,
            architecture=prepared.architecture,
            results=results,
            note=watcher.warning,
        )
        context = SearchContext(
            prepared=prepared,
            folder=folder,
            storage=storage,
            study=study,
            pool=pool,
            limits=limits,
            watcher=watcher,
        )
        budget = Budget.of(prepared.space.file.constraints)
        book = TrialBook(
            prepared.space,
            results,
            is_over=lambda config: known_excess(prepared, budget, config) is not None,
            budget_since=study.budget_since,
        )
        tasks = TrialTasks(context, book)
        decisions = Decisions(context, book, tasks)
        yield Search(
            context=context, book=book, decisions=decisions, runner=TrialRunner(context, book, tasks, decisions)
        )
