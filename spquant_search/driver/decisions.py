"""The decisions of a search: what is tried next, and how trials end.

Several coordinators may work on one run. Whatever is decided here is decided by one of them at a time, knowing what
the others have finished and what they are trying.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from spquant_search.driver.search_context import SearchContext
from spquant_search.driver.storage.protocol import Result
from spquant_search.driver.study import PendingTrial
from spquant_search.driver.trial_book import TrialBook
from spquant_search.driver.trial_tasks import TrialTasks
from spquant_search.profile import PROCESS
from spquant_search.report.dashboard_notes import trial_attributes
from spquant_search.runs.folder import weights_drafts
from spquant_search.runs.records import read_result, write_result
from spquant_search.runs.results import BASELINE, Origin, Outcome, TrialResult


class Decisions:
    """Asks the study for trials and tells it of their ends, as one coordinator among several."""

    def __init__(self, context: SearchContext, book: TrialBook, tasks: TrialTasks) -> None:
        self._context, self._book, self._tasks = context, book, tasks
        self._study, self._storage = context.study, context.storage

    # ------------------------------------------------------------ what is tried next

    def next_baseline(self) -> PendingTrial | None:
        """Return the trial of the float baseline; None where it has ended or another coordinator trains it."""
        return self._decide(self._next_baseline)

    def _next_baseline(self) -> PendingTrial | None:
        trial = None if BASELINE in self._book else self._take_over()
        # The baseline may have ended although its result is not visible yet.
        if trial is None and not self._book.others_are_trying and BASELINE not in self._study.finished():
            trial = self._ask()
        return trial

    def next_candidate(self) -> PendingTrial | None:
        """Return the next trial that is worth a trainer; None where a limit is reached or the space is exhausted."""
        limits, book = self._context.limits, self._book
        return self._decide(lambda: self._next(lambda: limits.reached(book.begun()) or book.exhausted() is not None))

    def next_queued(self) -> PendingTrial | None:
        """Return the next trial that was queued or begun before, whatever the limit on trials; None without one."""
        limits = self._context.limits
        return self._decide(lambda: self._next(lambda: not self._study.has_queued() or limits.late()))

    def _next(self, is_over: Callable[[], bool]) -> PendingTrial | None:
        while True:
            trial = self._take_over()
            if trial is None:
                if is_over():
                    return None
                trial = self._ask()
            if not self._is_stored(trial) and self._is_worth_trying(trial):
                return trial

    def _ask(self) -> PendingTrial:
        with PROCESS.on("sampler"):
            return self._study.ask()

    def _take_over(self) -> PendingTrial | None:
        """Return a trial that nobody works on any more, and that is this coordinator's from now on."""
        trial = self._study.take_over()
        if trial is not None:
            self._book.take_over(trial.number)
        return trial

    def _is_stored(self, trial: PendingTrial) -> bool:
        """Return whether a trial's result is in the run's folder already; then tell the study what it lacks.

        The coordinator of such a trial died after it had written the result and before it told the study.
        """
        stored = read_result(self._context.folder, trial.number)
        if stored is None:
            return False
        self._tell(trial, stored)
        if stored.number not in self._book:  # another coordinator wrote it since this one last looked
            self._book.add(stored)
            self._context.watcher.finished(stored)
        return True

    def _is_worth_trying(self, trial: PendingTrial) -> bool:
        """Return whether a trial is to be tried; one that is known already or over budget ends here."""
        twin = None if trial.origin is Origin.FINE_TUNED else self._book.trial_of(trial.config)
        over = self._tasks.over_budget(trial)
        if twin is not None:
            self._end_untried(trial, Outcome.DUPLICATE, f"same configuration as trial {twin}")
        elif over is not None:
            self._end_untried(trial, Outcome.OVER_BUDGET, over)
        else:
            self._book.count_tried()
            return True
        return False

    def _end_untried(self, trial: PendingTrial, outcome: Outcome, reason: str) -> None:
        self._book.count_untried(outcome)
        self.finish(trial, self._tasks.known_result(trial, outcome, reason))

    # ------------------------------------------------------------ how trials end

    def finish(self, trial: PendingTrial, result: TrialResult) -> None:
        """Write the result first and tell the study second: in between it can be told again, never trained again."""
        writing = _Writing(self._context, trial, result, self._tell)
        with PROCESS.on("bookkeeping"):
            is_kept = self._storage.decide(writing.attempt)
        if self._storage.is_shared:
            writing.remove_drafts()
        self._book.close(trial.number)
        if is_kept:
            self._book.add(result)
            self._context.watcher.finished(result)
        else:
            self._give_up(trial)

    def _give_up(self, trial: PendingTrial) -> None:
        """Leave a trial to the coordinator that has taken it over."""
        self._context.watcher.warning(
            f"trial {trial.number}: another coordinator took it over, as this one was not heard of for long"
        )
        self._storage.release(trial.trial_id)

    def _tell(self, trial: PendingTrial, result: TrialResult) -> None:
        baseline = result if result.number == BASELINE else self._book[BASELINE]
        self._study.tell(trial, result, trial_attributes(result, baseline))

    # ------------------------------------------------------------ other coordinators

    def _decide(self, body: Callable[[], Result]) -> Result:
        """Call ``body`` while no other coordinator decides, and what they have done is known."""

        def informed() -> Result:
            if self._storage.is_shared:
                self._look_around()
            return body()

        return self._storage.decide(informed)

    def _look_around(self) -> None:
        """Take in what other coordinators have finished, and what they are trying."""
        self._book.set_elsewhere(*self._study.running_elsewhere())
        for number in self._study.finished():
            if number in self._book or self._book.is_open(number):
                continue
            result = read_result(self._context.folder, number)
            if result is None:  # a file system that machines share may show a file late
                continue
            self._book.add(result)
            self._context.watcher.finished(result)

    @contextmanager
    def exclusive_stage(self, what: str, *, is_done: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        """Enter a context in which no other coordinator does ``what``; yield whether it is still to be done."""
        waiting = partial(self._context.watcher.stage, f"another coordinator is {what}")
        with self._storage.exclusive_stage(what, is_done=is_done, waiting=waiting) as is_to_do:
            self._decide(lambda: None)  # what others have finished is known from here on
            yield is_to_do


class _Writing:
    """The writing of a trial's result, which may be attempted more than once."""

    def __init__(
        self,
        context: SearchContext,
        trial: PendingTrial,
        result: TrialResult,
        tell: Callable[[PendingTrial, TrialResult], None],
    ) -> None:
        self._context, self._trial, self._result, self._tell = context, trial, result, tell
        self._is_placed = self._was_told = False  # perhaps told, by an attempt that was cut off

    def attempt(self) -> bool:
        """Write the result and tell the study, unless the trial is another coordinator's by now: then return False."""
        study, number = self._context.study, self._trial.number
        if self._was_told and number in study.finished():
            return True
        if not study.still_owned(self._trial):
            return False
        draft, place = self._context.weights_draft(number), self._context.folder.weights_file(number)
        if self._result.outcome.has_weights and draft != place and not self._is_placed:
            draft.replace(place)
            self._is_placed = True
        write_result(self._context.folder, self._result)
        self._was_told = True
        self._tell(self._trial, self._result)
        return True

    def remove_drafts(self) -> None:
        """Remove the weights that nobody wants any more: the trial has ended, or this coordinator has lost it."""
        folder, number = self._context.folder, self._trial.number
        own = self._context.weights_draft(number)
        for _, draft in weights_drafts(folder, number):
            if draft == own or folder.result_file(number).is_file():
                draft.unlink(missing_ok=True)
